"""Row backchain: a node is paid with a coin that has a long history under a uniqueness-only notary, and verifies it."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from p2pet.bench.budgets import MEGABYTES, SECONDS
from p2pet.bench.machine import memory
from p2pet.bench.meter import Measured
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.localnet import LocalNetwork
from p2pet.notary.v1.notary_pb2 import NotarisationRequest
from p2pet.store.v1.store_pb2 import TransactionRow
from p2petd import native
from p2petd.config import load_config
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.contracts.registry import installed
from p2petd.flows.finality import read_reply, request_digest
from p2petd.identity.keys import load_signing_key
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.network.bootstrap import MadeNetwork, NetworkPlan, bootstrap
from p2petd.network.parameters import NotaryMode
from p2petd.node import open_store
from p2petd.store.changes import Changes
from p2petd.units import NanoMoney
from p2petd.vault.ancestry import Ancestry, ancestor_rows, mark_verified, mode_reader
from p2petd.vault.recording import record_final

CURRENCY = "EUR"
DEPTH = 10_000
ISSUER, OWNER, PAYEE, NOTARY = "community", "home-1", "home-2", "uniqueness"
PURPOSE_NOTARISATION = 3
POLL_SECONDS = 0.02
RESOLVE_SECONDS_MAX = 300.0
ROWS_AT_ONCE = 2_000


@dataclass(frozen=True)
class _Made:
    """One transaction of the history."""

    draft: Draft
    signed: bytes
    proof: bytes


class _Chain:
    """A coin that its owner pays on and on, a little of it to the issuer each time; nothing of it crosses a wire."""

    def __init__(self, notary: native.Notary, issuer: Membership, owner: Membership) -> None:
        self._notary = notary
        self._issuer, self._owner = issuer, owner
        (self._parameters_hash,) = owner.network_map.parameters
        listed = owner.network_map.parameters[self._parameters_hash].parameters.notaries
        (self._service,) = (one.service_key for one in listed if one.mode is NotaryMode.UNIQUENESS_ONLY)
        self.made: list[_Made] = []

    def grow(self, depth: int) -> None:
        """An issue, and payments up to `depth` transactions."""
        state = PaymentState(
            CURRENCY, NanoMoney(depth * 1000), self._issuer.identity.public, self._owner.identity.public
        )
        builder = TransactionBuilder(self._service, self._parameters_hash)
        builder.add_output(payment.NAME, payment.VERSION, state)
        builder.add_command(payment.NAME, PaymentIssue(sha256(b"issue").digest()), [state.issuer])
        self._finish(builder.build(_salt(0), [state.owner]), self._issuer, (), ())
        for number in range(1, depth):
            state = self._pay(state, number)

    def _pay(self, state: PaymentState, number: int) -> PaymentState:
        last = self.made[-1]
        index = len(last.draft.outputs) - 1
        rest = replace(state, amount_nano=NanoMoney(state.amount_nano - 1))
        builder = TransactionBuilder(self._service, self._parameters_hash)
        builder.add_input(last.draft.output_ref(index), last.draft.outputs[index])
        builder.add_output(payment.NAME, payment.VERSION, replace(state, amount_nano=NanoMoney(1), owner=state.issuer))
        builder.add_output(payment.NAME, payment.VERSION, rest)
        builder.add_command(payment.NAME, PaymentPay(), [state.owner])
        draft = builder.build(_salt(number), [state.issuer, state.owner])
        unlock = self._owner.identity.signing_key.unlock(
            self._owner.identity.network_id, _salt(number - 1), index, draft.id
        )
        proof = native.lock_proof(last.draft.transaction, index, last.proof)
        self._finish(draft, self._owner, (proof,), (unlock,))
        return rest

    def _finish(self, draft: Draft, signer: Membership, proofs: Sequence[bytes], unlocks: Sequence[bytes]) -> None:
        identity = signer.identity
        signature = identity.signing_key.sign(identity.network_id, PURPOSE_TRANSACTION, draft.id)
        digest = request_digest(draft.inputs, draft.id)
        request = NotarisationRequest(
            caller=identity.public,
            scheme=ED25519,
            signature=identity.signing_key.sign(identity.network_id, PURPOSE_NOTARISATION, digest),
            uniqueness_proposal=native.uniqueness_proposal(draft.transaction, proofs, unlocks),
        )
        batch = self._notary.check([(identity.public, request.SerializeToString())])
        (reply,) = self._notary.decide(batch, {}, time.time_ns())
        signed = draft.signed([Signature(identity.public, signature)]).proposal().encode()
        self.made.append(_Made(draft, signed, read_reply(reply)))


def _salt(number: int) -> bytes:
    return sha256(number.to_bytes(8)).digest()


def _row(made: _Made) -> TransactionRow:
    return TransactionRow(signed_transaction=made.signed, finality_proof=made.proof)


def _fill_owner(directory: Path, owner: Membership, chain: Sequence[_Made]) -> None:
    """The owner's stores as if it had been paid with the coin: the last transaction in its vault, the rest beside."""
    config = load_config(directory / "node.toml")
    store = open_store(config, owner.identity.public)
    histories = native.Store.open(str(config.node.data_directory / "histories"))
    ancestry = Ancestry(store, histories, mode_reader(owner.network_map))
    for start in range(0, len(chain) - 1, ROWS_AT_ONCE):
        rows = []
        for made in chain[start : min(start + ROWS_AT_ONCE, len(chain) - 1)]:
            groups = made.draft.groups
            rows += ancestor_rows(made.draft.id, ancestry.parents_of(groups), groups[Group.INPUTS], _row(made))
        ancestry.add(rows)
    last, changes = chain[-1], Changes()
    groups = last.draft.groups
    record_final(changes, store, owner.identity.public, last.draft.id, groups, last.signed, last.proof, time.time_ns())
    mark_verified(changes, last.draft.id, ancestry.parents_of(groups), groups[Group.INPUTS])
    store.commit(changes.record())
    histories.close()
    store.close()


@contextmanager
def _network(directory: Path) -> Iterator[tuple[MadeNetwork, LocalNetwork]]:
    registry = installed()
    contracts: Mapping[tuple[str, int], bytes] = {
        (c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts
    }
    plan = NetworkPlan(directory, 2, CURRENCY, contracts, oracles=0, uniqueness_notaries=1)
    made = bootstrap(plan, time.time_ns())
    with LocalNetwork(directory) as daemons:
        yield made, daemons


def _membership(daemons: LocalNetwork, name: str) -> Membership:
    return Membership.load(load_config(daemons.node_directory(name) / "node.toml"))


def _prepare(daemons: LocalNetwork, depth: int) -> None:
    owner = _membership(daemons, OWNER)
    config = load_config(daemons.node_directory(NOTARY) / "node.toml")
    assert config.notary is not None
    config.node.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    notary = native.Notary.open(
        str(config.node.data_directory / "notary"),
        owner.rules,
        owner.identity.network_id,
        NotaryMode.UNIQUENESS_ONLY,
        load_signing_key(config.notary.worker_key_file),
        config.notary.worker_certificate_file.read_bytes(),
    )
    chain = _Chain(notary, _membership(daemons, ISSUER), owner)
    chain.grow(depth)
    notary.close()
    _fill_owner(daemons.node_directory(OWNER), owner, chain.made)


async def resolve_once(directory: Path, depth: int = DEPTH) -> Measured:
    """Seconds from the start of a payment until the payee has verified its history and recorded it, and the megabytes
    that its process has grown by at most. Makes a network of its own in a new directory, which takes longer."""
    with _network(directory) as (made, daemons):
        await asyncio.to_thread(_prepare, daemons, depth)
        await daemons.start(NOTARY, OWNER, PAYEE)
        payee = next(node.identity for node in made.nodes if node.directory.name == PAYEE)
        before = memory(daemons.pid(PAYEE)).resident
        async with daemons.client(OWNER) as owner, daemons.client(PAYEE) as client:
            arguments = PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=payee)
            started = time.perf_counter()
            response = await owner.flows.run("payment.pay", arguments, deadline_seconds=60)
            assert response.outcome.transaction_id, response.outcome
            while not (await client.vault.balance()).money:
                assert time.perf_counter() - started < RESOLVE_SECONDS_MAX
                await asyncio.sleep(POLL_SECONDS)
            seconds = time.perf_counter() - started
        grown = memory(daemons.pid(PAYEE)).peak - before
        return Measured({SECONDS: seconds, MEGABYTES: grown / 1e6})
