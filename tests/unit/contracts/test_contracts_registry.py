"""Which contract runs, in which version and which code."""

import ast
import hashlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from p2pet.network.v1 import network_pb2

import p2petd.contracts
from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import ENERGY, EnergySplit
from p2petd.contracts.payment import PAYMENT
from p2petd.contracts.registry import PlatformRule, Registry, code_hash, installed, verify
from p2petd.contracts.rules import Rule, violated
from p2petd.contracts.testkit import NOTARY, SALT, Ledger, Trial, energy, ledger, party
from p2petd.errors import ConfigError, NetworkError, UnknownContract
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import TransactionBuilder

ALICE = party("alice")
SPLIT = (
    ledger.transaction().input(energy(2, ALICE)).output(energy(1, ALICE), energy(1, ALICE)).command(EnergySplit, ALICE)
)


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


def test_every_platform_rule_is_provoked_here_or_with_the_energy_contract() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_contracts_*.py"))
    for rule in PlatformRule:
        assert f'fails_with("{rule.code}")' in tests or f"fails_with(PlatformRule.{rule.name}.code)" in tests


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


@pytest.mark.parametrize("contract", [ENERGY, PAYMENT], ids=lambda contract: contract.name)
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
