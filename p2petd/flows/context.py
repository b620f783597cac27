"""What a flow may use: the world, in a form that answers the same when the flow is run again after a crash."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from p2petd.errors import FlowError
from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.flow_ledger import FlowLedger
from p2petd.flows.flow_vault import FlowVault
from p2petd.flows.requests import CallService, LocalStep, Pause, Receive
from p2petd.flows.services import FlowServices, RunView
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NetworkParameters
from p2petd.units import TimeNs

M = TypeVar("M", bound=Message)


class FlowContext:
    """One flow's hands. Awaited methods are answered by the engine; the others have no effect outside the flow."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run
        self.history = FlowHistory(services, run)
        self.ledger = FlowLedger(services, run, self.history)
        self.vault = FlowVault(services, run, self.history)

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

    def notary(self) -> bytes:
        """Service key of the notary that new states get."""
        return self.parameters.notaries[0].service_key

    def random(self, label: str) -> bytes:
        """32 bytes that nobody else can guess, the same for the same label after a restart."""
        return hmac.digest(self._run.entropy, label.encode(), hashlib.sha256)

    def progress(self, step: str) -> None:
        """Tell whoever watches the flow what it does now."""
        self._run.progress(step)

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
        """`send`, then `receive`."""
        self.send(peer, message)
        return await self.receive(peer, answer_type, deadline_ns)

    async def call(self, peer: bytes, service: str, payload: bytes) -> bytes:
        """The answer of an idempotent service of another node; asked again until it comes.

        An empty peer stands for one that is not in the network map: a start with a map that has it asks it.
        """
        answer: bytes = await CallService(peer, service, payload)
        return answer

    async def pause_for(self, duration_ns: int) -> None:
        """Wait; a restart waits for what is left of it."""
        until = await self.once("pause until", lambda: struct.pack(">q", self._services.clock() + duration_ns))
        await Pause(struct.unpack(">q", until)[0])

    async def now_ns(self, name: str) -> TimeNs:
        """The clock's reading, journaled under `name`: a replay gets the same."""
        reading = await self.once(name, lambda: struct.pack(">q", self._services.clock()))
        return TimeNs(struct.unpack(">q", reading)[0])

    async def once(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """The result of `compute`, journaled: a replay gets the same bytes."""
        result: bytes = await LocalStep(name, compute)
        return result
