"""What a flow may use: the world, in a form that answers the same when the flow is run again after a crash."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from p2petd import native
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import FlowError, TransactionRefused
from p2petd.flows.requests import CallService, CheckFinal, CheckProposal, LocalStep, Pause, Receive
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NetworkParameters
from p2petd.store.changes import Changes, Reader
from p2petd.store.tables import Table
from p2petd.units import TimeNs
from p2petd.vault.locks import SoftLocks
from p2petd.vault.recording import record_final
from p2petd.vault.selection import Coin, select

M = TypeVar("M", bound=Message)

PURPOSE_NOTARISATION = 3


@dataclass(frozen=True)
class FlowServices:
    """What all flows of a node share."""

    identity: bytes
    key: native.SigningKey
    network_id: bytes
    parameters: NetworkParameters
    parameters_hash: bytes
    contract_parameters: ContractParameters
    network_map: NetworkMap
    store: Reader
    locks: SoftLocks
    clock: Callable[[], TimeNs]


@dataclass(frozen=True)
class RunView:
    """What a context sees of its own run; `send` and `changes` belong to the batch that is running."""

    flow_id: bytes
    entropy: bytes
    started_at_ns: TimeNs
    changes: Callable[[], Changes]
    send: Callable[[bytes, bytes], None]
    progress: Callable[[str], None]


class FlowContext:
    """One flow's hands. Awaited methods are answered by the engine; the others have no effect outside the flow."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run

    @property
    def me(self) -> bytes:
        """32-byte identity key of this node."""
        return self._services.identity

    @property
    def parameters(self) -> NetworkParameters:
        return self._services.parameters

    @property
    def parameters_hash(self) -> bytes:
        return self._services.parameters_hash

    @property
    def network_map(self) -> NetworkMap:
        return self._services.network_map

    @property
    def started_at_ns(self) -> TimeNs:
        """When the flow started; the same after a restart."""
        return self._run.started_at_ns

    def random(self, label: str) -> bytes:
        """32 bytes that nobody else can guess, the same for the same label after a restart."""
        return hmac.digest(self._run.entropy, label.encode(), hashlib.sha256)

    def progress(self, step: str) -> None:
        """Tell whoever watches the flow what it does now."""
        self._run.progress(step)

    async def lock(self, name: str, bucket: bytes, amount: int, what: str) -> tuple[Coin, ...]:
        """Reserve unconsumed states of `bucket` worth at least `amount`, all or none, until the flow ends.

        Raises InsufficientFunds naming the shortfall of `what`.
        """

        def choose() -> bytes:
            services = self._services
            coins = select(services.store, services.locks, bucket, amount, services.parameters.inputs_max, what)
            services.locks.lock(self._run.changes(), self._run.flow_id, [coin.ref for coin in coins])
            return b"".join(coin.ref.encode() for coin in coins)

        refs = await LocalStep(name, choose)
        return tuple(
            Coin.load(self._services.store, StateRef.decode(refs[at : at + 36])) for at in range(0, len(refs), 36)
        )

    def send(self, peer: bytes, message: Message) -> None:
        """Queue a message; it leaves when the step that caused it is durable, and arrives exactly once."""
        self._run.send(peer, message.SerializeToString(deterministic=True))

    async def receive(self, peer: bytes, message_type: type[M], deadline_ns: int | None = None) -> M:
        """The peer's next message. Raises FlowTimeout, CounterpartyFailed, or the FlowError that the peer raised."""
        payload: bytes = await Receive(peer, deadline_ns)
        try:
            return message_type.FromString(payload)
        except DecodeError:
            raise FlowError(f"the counterparty sent no valid {message_type.DESCRIPTOR.name}") from None

    async def ask(self, peer: bytes, message: Message, answer_type: type[M], deadline_ns: int | None = None) -> M:
        self.send(peer, message)
        return await self.receive(peer, answer_type, deadline_ns)

    def sign(self, transaction_id: bytes) -> Signature:
        signature = self._services.key.sign(self._services.network_id, PURPOSE_TRANSACTION, transaction_id)
        return Signature(self.me, signature, ED25519)

    def sign_notarisation(self, digest: bytes) -> bytes:
        return self._services.key.sign(self._services.network_id, PURPOSE_NOTARISATION, digest)

    async def check_proposal(self, proposal: bytes, *, complete: bool = False) -> LedgerTransaction:
        """Platform checks, input proofs, signatures and contracts of a `ledger.v1.Proposal`.

        Raises TransactionRefused, MalformedTransaction, UnknownContract or ContractViolation.
        """
        checked: native.Checked = await CheckProposal(proposal, complete)
        resolved = LedgerTransaction.from_checked(checked, self._services.contract_parameters)
        verify_contracts(resolved)
        return resolved

    def check_draft(self, draft: Draft) -> None:
        """Run the contracts on what we built ourselves, before anybody signs it."""
        verify_contracts(LedgerTransaction.from_draft(draft, self._services.contract_parameters))

    async def check_final(self, signed_transaction: bytes, finality_proof: bytes) -> native.Checked:
        """Raises TransactionRefused unless a listed notary's batch proof and all signatures verify."""
        checked: native.Checked = await CheckFinal(signed_transaction, finality_proof)
        return checked

    def check_proof(self, draft: Draft, finality_proof: bytes) -> None:
        """Raises TransactionRefused unless a listed notary's batch proof of this draft verifies."""
        notaries = [(notary.service_key, int(notary.mode)) for notary in self.parameters.notaries]
        try:
            native.verify_finality(
                self._services.network_id, draft.transaction, finality_proof, self.parameters_hash, notaries
            )
        except native.NativeError as error:
            raise TransactionRefused(error.code, str(error)) from error

    def notary(self) -> bytes:
        """Service key of the notary that new states get."""
        return self.parameters.notaries[0].service_key

    def currency_issuers(self, currency: str) -> frozenset[bytes]:
        return self._services.contract_parameters.currencies.get(currency, frozenset())

    async def call(self, peer: bytes, service: str, payload: bytes) -> bytes:
        answer: bytes = await CallService(peer, service, payload)
        return answer

    async def pause_until(self, until_ns: int) -> None:
        await Pause(until_ns)

    async def once(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """The journaled result of `compute`."""
        result: bytes = await LocalStep(name, compute)
        return result

    def now_ns(self) -> TimeNs:
        """The node's clock; only for use inside `once`, because a replay reads it again."""
        return self._services.clock()

    def record(self, transaction_id: bytes, groups: Sequence[Sequence[bytes]], signed: bytes, proof: bytes) -> None:
        """Put a final transaction into the vault with this batch; recording it again changes nothing."""
        services = self._services
        record_final(
            self._run.changes(),
            services.store,
            services.identity,
            transaction_id,
            groups,
            signed,
            proof,
            services.clock(),
        )

    def holds(self, ref: StateRef) -> bool:
        """Whether this vault has, or had, the state."""
        return self._services.store.get(Table.STATE, ref.encode()) is not None

    def input_proof(self, ref: StateRef) -> bytes:
        """The `ledger.v1.InputProof` of a state that this vault holds."""
        return Coin.load(self._services.store, ref).proof(self._services.store)
