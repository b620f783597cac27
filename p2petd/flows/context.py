"""What a flow may use: the world, in a form that answers the same when the flow is run again after a crash."""

import hashlib
import hmac
import struct
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from p2petd.errors import CounterpartyBacklogged
from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.flow_in_flight import FlowInFlight
from p2petd.flows.flow_ledger import FlowLedger
from p2petd.flows.flow_recovery import FlowRecovery
from p2petd.flows.flow_sessions import FlowSessions
from p2petd.flows.flow_vault import FlowVault
from p2petd.flows.requests import LocalStep, Pause
from p2petd.flows.services import FlowServices, RunView
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NetworkParameters
from p2petd.units import TimeNs

T = TypeVar("T")


class FlowContext(FlowSessions):
    """One flow's hands. Awaited methods are answered by the engine; the others have no effect outside the flow."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        super().__init__(run)
        self._services = services
        self.history = FlowHistory(services, run)
        self.ledger = FlowLedger(services, run, self.history)
        self.vault = FlowVault(services, run, self.history)
        self.in_flight = FlowInFlight(services, run)
        self.recovery = FlowRecovery(services, run, self.history)

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

    def counterparty(self, identity: bytes) -> bytes:
        """The identity of a party with whom a flow can be begun now. Raises UnknownParty, CounterpartyBacklogged."""
        info = self.network_map.by_identity(identity)
        waiting, waiting_max = self._run.backlog(identity), self._services.outbox_messages_max
        if waiting >= waiting_max:
            raise CounterpartyBacklogged(
                f"{waiting} messages wait for {info.name}, and {waiting_max} is what this node keeps for one peer"
            )
        return info.identity

    def notary(self) -> bytes:
        """Service key of the notary that new states get."""
        return self.parameters.notaries[0].service_key

    def random(self, label: str) -> bytes:
        """32 bytes that nobody else can guess, the same for the same label after a restart."""
        return hmac.digest(self._run.entropy, label.encode(), hashlib.sha256)

    def progress(self, step: str) -> None:
        """Tell whoever watches the flow what it does now."""
        self._run.progress(step)

    async def sub_flow(self, name: str, flow: Coroutine[Any, Any, T]) -> T:
        """What `flow`, a coroutine that uses this context, returns; its steps are told as parts of the step `name`."""
        self._run.progress(name)
        self._run.nest(1)
        try:
            return await flow
        finally:
            self._run.nest(-1)

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
