"""Which contract runs, in which version and which code."""

import ast
import hashlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from p2pet.network.v1 import network_pb2

import p2petd.contracts
from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import ENERGY, EnergyIssue, EnergySplit
from p2petd.contracts.payment import PAYMENT
from p2petd.contracts.registry import OWN_CONTRACTS, PlatformRule, Registry, code_hash, installed, verify
from p2petd.contracts.rules import Rule, violated
from p2petd.contracts.testkit import (
    NOTARY,
    OTHER_NOTARY,
    PRODUCER,
    SALT,
    Ledger,
    Trial,
    Tried,
    energy,
    ledger,
    money,
    party,
    state_ref,
)
from p2petd.errors import ConfigError, ContractViolation, NetworkError, UnknownContract
from p2petd.ledger.notary_change import notary_change
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import TransactionBuilder

ALICE, BOB = party("alice"), party("bob")
SPLIT = (
    ledger.transaction().input(energy(2, ALICE)).output(energy(1, ALICE), energy(1, ALICE)).command(EnergySplit, ALICE)
)

ISSUE = ledger.transaction().output(energy(10_000, PRODUCER)).command(EnergyIssue, PRODUCER)


class NoteRule(Rule):
    EMPTY = ("note.empty", "A note says something.")


class Note:
    """A state and a command of a user's contract."""

    contract = "note"
    type_name = "Note"
    schema_version = 1

    def __init__(self, text: str = "hello") -> None:
        self.text = text

    def to_payload(self) -> bytes:
        return self.text.encode()


def _verify_note(transaction: LedgerTransaction) -> None:
    for state in transaction.outputs:
        if state.contract == "note" and not state.payload:
            violated(NoteRule.EMPTY, "an empty note")


def _crash(transaction: LedgerTransaction) -> None:
    raise KeyError("a bug of the contract")


def _demand_forever(transaction: LedgerTransaction) -> Iterator[bytes]:
    while True:
        yield bytes(32)


def note_contract(version: int = 1, **changes: object) -> Contract:
    base = Contract(
        name="note", version=version, verify=_verify_note, modules=("p2petd.contracts.rules",), rules=(NoteRule,)
    )
    return replace(base, **changes)


def pinned(on: Ledger, **hashes: bytes) -> Ledger:
    contracts = {**on.parameters.contracts, **{(name, 1): value for name, value in hashes.items()}}
    return on.under(replace(on.parameters, contracts=contracts))


def with_version(trial: Trial, side: str, state: Note, version: int) -> Trial:
    component = TransactionBuilder(NOTARY.key, bytes(32)).add_output("note", version, state).build(SALT).outputs[0]
    return trial.input(component) if side == "input" else trial.output(component)


def test_a_users_contract_is_tested_with_the_kit() -> None:
    noted = Ledger.of(note_contract()).transaction()
    noted.output(Note()).verifies()
    noted.output(Note("")).fails_with("note.empty")


def test_l20_unknown_contract() -> None:
    ledger.transaction().output(Note()).fails_with("contract.unknown")
    ledger.transaction().input(Note()).output(energy(1, ALICE)).fails_with("contract.unknown")
    SPLIT.command(Note()).fails_with("contract.unknown")


def test_l20_contract_that_is_permitted_but_not_installed() -> None:
    pinned(ledger, note=bytes(32)).transaction().output(Note()).fails_with("contract.unknown")
    with pytest.raises(UnknownContract):
        code_hash("note", 1)


def test_l20_unknown_contract_version() -> None:
    with_version(Ledger.of(note_contract()).transaction(), "output", Note(), 2).fails_with("contract.unknown")


def test_l20_contract_that_is_installed_but_not_permitted() -> None:
    hidden = ledger.under(replace(ledger.parameters, contracts={}))
    replace(SPLIT, ledger=hidden).fails_with("contract.unknown")


def test_l20_code_that_differs_from_the_parameters() -> None:
    SPLIT.verifies()
    replace(SPLIT, ledger=pinned(ledger, energy=bytes(32))).fails_with("contract.code_differs")


def test_a_contract_runs_when_only_inputs_or_commands_name_it() -> None:
    two = Ledger.of(note_contract())
    two.transaction().input(energy(1, ALICE)).output(Note()).fails_with("energy.command.missing")
    two.transaction().output(Note()).command(EnergySplit, ALICE).fails_with("energy.split.counts")


def test_a_contract_runs_in_the_version_of_its_outputs_never_an_older_one() -> None:
    newer = note_contract(2, verify=_crash)
    noted = Ledger.of(note_contract(1), newer).transaction()
    with_version(noted, "output", Note(), 1).verifies()
    with_version(noted, "output", Note(), 2).fails_with("contract.crashed")
    with_version(noted, "input", Note(), 1).fails_with("contract.crashed")
    older = with_version(with_version(noted, "input", Note(), 2), "output", Note(), 1)
    older.fails_with(PlatformRule.VERSION_OLDER.code)
    mixed = with_version(with_version(noted, "output", Note(), 1), "output", Note(), 2)
    mixed.fails_with(PlatformRule.VERSIONS_MIXED.code)


def test_a_reference_does_not_run_its_contract() -> None:
    SPLIT.reference(Note()).verifies()


def test_c08_a_contract_that_crashes_refuses() -> None:
    error = Ledger.of(note_contract(verify=_crash)).transaction().output(Note()).fails_with("contract.crashed")
    assert "KeyError" in str(error)
    assert "a bug of the contract" not in str(error)


def test_c02_a_contract_that_demands_without_end_is_refused() -> None:
    Ledger.of(note_contract(claims=_demand_forever)).transaction().output(Note()).fails_with("contract.claim_missing")


def owned_note(**changes: object) -> Contract:
    return note_contract(owner=lambda state: state.payload[:32], **changes)


class OwnedNote(Note):
    def to_payload(self) -> bytes:
        return ALICE.key + self.text.encode()


def _pledged(state: OutputState, new_notary: bytes) -> None:
    violated(NoteRule.EMPTY, f"a state that stays here, not at {new_notary[:4].hex()}")


def test_n13_a_state_moves_with_the_signature_of_its_owner() -> None:
    mine, yours = energy(5, ALICE), money(7, BOB)
    moved = ledger.notary_change(mine, yours, to=OTHER_NOTARY).verifies()
    assert moved.moved_by == {ALICE.key, BOB.key}
    assert [state.notary for _, state in moved.inputs] == [NOTARY.key] * 2
    assert [state.notary for state in moved.outputs] == [OTHER_NOTARY.key] * 2
    assert [state.payload for state in moved.outputs] == [mine.to_payload(), yours.to_payload()]


def test_n13_a_state_never_moves_without_its_owner() -> None:
    change = ledger.notary_change(energy(5, ALICE), money(7, BOB), to=OTHER_NOTARY)
    change.signed_by(ALICE).fails_with(PlatformRule.MOVE_UNSIGNED.code)
    change.signed_by(ALICE, PRODUCER).fails_with(PlatformRule.MOVE_UNSIGNED.code)
    change.signed_by().fails_with(PlatformRule.MOVE_UNSIGNED.code)


def test_n13_nobody_but_the_owners_signs_a_move() -> None:
    change = ledger.notary_change(energy(5, ALICE), energy(6, ALICE), to=OTHER_NOTARY)
    change.verifies()
    change.signed_by(ALICE, BOB).fails_with(PlatformRule.MOVE_OTHERS_SIGN.code)


@pytest.mark.parametrize(
    "other", [energy(6, ALICE), energy(5, BOB), energy(5, ALICE, zone="zone-2"), money(5, ALICE), Note()]
)
def test_n13_a_move_changes_nothing_but_the_notary(other: object) -> None:
    on = Ledger.of(note_contract())
    change = on.notary_change(energy(5, ALICE), energy(9, ALICE), to=OTHER_NOTARY)
    change.verifies()
    change.output(0, other).fails_with(PlatformRule.MOVE_CHANGES.code)


def test_n13_all_states_move_and_to_one_other_notary() -> None:
    change = ledger.notary_change(energy(5, ALICE), energy(9, ALICE), to=OTHER_NOTARY)
    third = ledger.component(energy(9, ALICE), party("third notary").key)
    change.output(1, third).fails_with(PlatformRule.MOVE_CHANGES.code)
    replace(change, to=NOTARY).fails_with(PlatformRule.MOVE_CHANGES.code)
    ledger.notary_change(to=OTHER_NOTARY).fails_with(PlatformRule.MOVE_CHANGES.code)
    resolved = change.resolved()
    for part in ({"outputs": resolved.outputs[:1]}, {"claims": (bytes(32),)}, {"attachments": (bytes(32),)}):
        with pytest.raises(ContractViolation) as refused:
            verify(replace(resolved, **part))
        assert refused.value.code == PlatformRule.MOVE_CHANGES.code
    assert verify(resolved) is None, "the transaction is what it was"


def test_n13_a_state_without_an_owner_stays() -> None:
    Ledger.of(note_contract()).notary_change(Note(), to=OTHER_NOTARY).signed_by(ALICE).fails_with(
        PlatformRule.MOVE_UNOWNED.code
    )
    Ledger.of(owned_note()).notary_change(OwnedNote(), to=OTHER_NOTARY).verifies()


def test_n13_a_contract_keeps_its_states_where_they_are() -> None:
    Ledger.of(owned_note(may_move=_pledged)).notary_change(OwnedNote(), to=OTHER_NOTARY).fails_with("note.empty")


def test_n13_a_move_runs_no_rules_but_needs_the_contract() -> None:
    change = Ledger.of(owned_note(verify=_crash)).notary_change(OwnedNote(), to=OTHER_NOTARY)
    change.verifies()
    stranger = replace(change, ledger=ledger)
    stranger.signed_by(ALICE).fails_with("contract.unknown")
    forbidden = replace(change, ledger=change.ledger.with_parameters(contracts=ledger.parameters.contracts))
    forbidden.signed_by(ALICE).fails_with("contract.unknown")
    replace(change, ledger=pinned(ledger, note=bytes(32))).signed_by(ALICE).fails_with("contract.unknown")


def test_n12_a_move_under_old_parameters_needs_no_pinned_code() -> None:
    old = pinned(ledger, energy=bytes(32))
    old.notary_change(energy(5, ALICE), to=OTHER_NOTARY).verifies()


def test_n13_a_move_never_runs_an_older_version_than_its_states() -> None:
    on = Ledger.of(owned_note(), replace(owned_note(), version=2))
    old = on.with_parameters(contracts={k: v for k, v in on.parameters.contracts.items() if k != ("note", 2)})
    newer = on.component(OwnedNote(), NOTARY.key)
    on.notary_change(newer, to=OTHER_NOTARY).verifies()
    old.notary_change(newer, to=OTHER_NOTARY).signed_by(ALICE).fails_with(PlatformRule.VERSION_OLDER.code)


def test_n13_an_owner_that_crashes_refuses_the_move() -> None:
    broken = note_contract(owner=lambda state: state.nothing)
    Ledger.of(broken).notary_change(Note(), to=OTHER_NOTARY).signed_by(ALICE).fails_with("contract.crashed")


def test_n13_the_kit_builds_what_the_library_builds() -> None:
    held = [ledger.component(state, NOTARY.key) for state in (energy(5, ALICE), money(7, BOB))]
    draft = notary_change(
        [(state_ref(number), component) for number, component in enumerate(held)],
        OTHER_NOTARY.key,
        parameters_hash=bytes(32),
        signers=(ALICE.key, BOB.key),
        salt=SALT,
    )
    built = LedgerTransaction.from_draft(draft, ledger.parameters)
    verify(built)
    kit = ledger.notary_change(*held, to=OTHER_NOTARY).resolved()
    assert (built.id, built.inputs, built.outputs, built.moved_by) == (kit.id, kit.inputs, kit.outputs, kit.moved_by)


def test_n13_encumbered_states_move_together_as_they_were() -> None:
    pair = [
        TransactionBuilder(NOTARY.key, bytes(32))
        .add_output("energy", 1, energy(n, ALICE), 3 - n)
        .build(SALT)
        .outputs[0]
        for n in (1, 2)
    ]
    moved = ledger.notary_change(*pair, to=OTHER_NOTARY).verifies()
    assert [state.encumbered_by for state in moved.outputs] == [2, 1]


def test_c02_the_claims_that_a_transaction_demands() -> None:
    ISSUE.fails_with("contract.claim_missing")
    assert len(ISSUE.claim_all().verifies().claims) == 4
    assert SPLIT.claim(bytes(32)).claim_all().verifies().claims == ()


MOVE = ledger.notary_change(energy(5, ALICE), money(7, BOB), to=OTHER_NOTARY)
NOTED, OWNED = (Ledger.of(contract, replace(contract, version=2)) for contract in (note_contract(), owned_note()))

P = PlatformRule
CASES: Mapping[PlatformRule, tuple[Tried, Tried]] = {
    P.CODE_DIFFERS: (SPLIT, replace(SPLIT, ledger=pinned(ledger, energy=bytes(32)))),
    P.VERSIONS_MIXED: (
        with_version(with_version(NOTED.transaction(), "output", Note(), 1), "output", Note(), 1),
        with_version(with_version(NOTED.transaction(), "output", Note(), 1), "output", Note(), 2),
    ),
    P.VERSION_OLDER: (
        with_version(with_version(NOTED.transaction(), "input", Note(), 2), "output", Note(), 2),
        with_version(with_version(NOTED.transaction(), "input", Note(), 2), "output", Note(), 1),
    ),
    P.CLAIM_MISSING: (ISSUE.claim_all(), ISSUE),
    P.CLAIM_NOT_DEMANDED: (SPLIT, SPLIT.claim(bytes(32))),
    P.CRASHED: (
        Ledger.of(note_contract()).transaction().output(Note()),
        Ledger.of(note_contract(verify=_crash)).transaction().output(Note()),
    ),
    P.MOVE_CHANGES: (MOVE, MOVE.output(0, energy(6, ALICE))),
    P.MOVE_UNOWNED: (
        OWNED.notary_change(OwnedNote(), to=OTHER_NOTARY),
        NOTED.notary_change(Note(), to=OTHER_NOTARY).signed_by(ALICE),
    ),
    P.MOVE_UNSIGNED: (MOVE, MOVE.signed_by(ALICE)),
    P.MOVE_OTHERS_SIGN: (MOVE, MOVE.signed_by(ALICE, BOB, PRODUCER)),
}


def test_every_platform_rule_has_a_case() -> None:
    assert set(CASES) == set(PlatformRule)


@pytest.mark.parametrize("rule", PlatformRule, ids=lambda rule: rule.code)
def test_rule(rule: PlatformRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_installed_contracts_are_verified_by_the_functions_of_the_module() -> None:
    verify(SPLIT.resolved())
    assert {(c.name, c.version) for c in installed().contracts} >= {("energy", 1), ("payment", 1)}


def test_a_contract_installed_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        Registry([PAYMENT, PAYMENT])


def test_a_contract_without_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="source"):
        Registry([note_contract(modules=("sys",))])
    with pytest.raises(ConfigError, match="source"):
        Registry([note_contract(modules=("p2petd.contracts.absent",))])


def test_the_code_hash_is_what_the_documents_say() -> None:
    digest = hashlib.sha256()
    for name in sorted(PAYMENT.modules):
        path = Path(p2petd.__path__[0]).parent / (name.replace(".", "/") + ".py")
        source = path.read_bytes()
        digest.update(len(name).to_bytes(2, "big") + name.encode() + len(source).to_bytes(4, "big") + source)
    assert code_hash("payment", 1) == digest.digest()


@pytest.mark.parametrize("contract", OWN_CONTRACTS, ids=lambda contract: contract.name)
def test_the_code_hash_covers_every_module_of_the_contract(contract: Contract) -> None:
    root = Path(p2petd.__path__[0]).parent
    for name in contract.modules:
        path = root / name.replace(".", "/")
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("p2petd.contracts."):
                assert node.module in contract.modules
    package = [
        m.name for m in pkgutil.iter_modules([str(root / "p2petd/contracts/energy")], "p2petd.contracts.energy.")
    ]
    assert set(package) <= set(ENERGY.modules)


def test_parameters_from_their_message() -> None:
    message = network_pb2.NetworkParameters(
        energy_types=["solar"],
        market_time_unit_ns=900,
        currencies=[
            network_pb2.CurrencyEntry(code="EUR", issuer=b"a"),
            network_pb2.CurrencyEntry(code="EUR", issuer=b"b"),
        ],
        contracts=[
            network_pb2.ContractEntry(name="energy", version=2, code_hash=b"2"),
            network_pb2.ContractEntry(name="energy", version=1, code_hash=b"1"),
        ],
    )
    parameters = ContractParameters.from_message(message)
    assert parameters.currencies == {"EUR": frozenset({b"a", b"b"})}
    assert parameters.contracts == {("energy", 1): b"1", ("energy", 2): b"2"}
    assert parameters.newest_version("energy") == 2
    assert parameters.newest_version("note") is None
    message.contracts.append(message.contracts[0])
    with pytest.raises(NetworkError, match="twice"):
        ContractParameters.from_message(message)
    with pytest.raises(NetworkError, match="market time unit"):
        ContractParameters.from_message(network_pb2.NetworkParameters())


def test_the_kit_says_what_differs() -> None:
    with pytest.raises(AssertionError, match="verifies"):
        SPLIT.fails_with("energy.split.counts")
    with pytest.raises(AssertionError, match=r"energy\.split\.owner_must_sign"):
        replace(SPLIT, commands=((EnergySplit, ()),)).fails_with("energy.split.counts")


def test_resolved_states_keep_their_bytes() -> None:
    resolved = SPLIT.resolved()
    assert [OutputState.decode(state.raw) for state in resolved.outputs] == list(resolved.outputs)
