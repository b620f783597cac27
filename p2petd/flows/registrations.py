"""Registrations of meters, as flows find them in this vault."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from p2petd.contracts.meter import MeterRegistration
from p2petd.errors import FlowArgumentsInvalid, RegistrationMissing
from p2petd.flows.context import FlowContext
from p2petd.network.parameters import NotaryMode
from p2petd.store.changes import Reader
from p2petd.units import SECOND_NS
from p2petd.vault.known import known_refs, registrations_of
from p2petd.vault.locks import SoftLocks
from p2petd.vault.selection import Coin


@dataclass(frozen=True)
class Registered:
    """A registration in this vault that nobody has replaced."""

    coin: Coin
    state: MeterRegistration

    @property
    def period(self) -> str:
        return f"{utc(self.state.valid_from_ns)} to {utc(self.state.valid_until_ns)}"


def utc(at_ns: int) -> str:
    """A moment for people, to the second."""
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def registered(store: Reader, meter: str) -> tuple[Registered, ...]:
    """The registrations of a meter in this vault, the earliest first."""
    coins = [Coin.load(store, ref) for ref in known_refs(store, registrations_of(meter))]
    found = [Registered(coin, MeterRegistration.from_payload(coin.output.payload)) for coin in coins]
    return tuple(sorted(found, key=lambda one: one.state.valid_from_ns))


async def registration_to_issue(ctx: FlowContext, meter: str, start_ns: int, end_ns: int, quantity_wh: int) -> Coin:
    """The registration under which this node may issue so much energy of the meter for that period.

    Raises RegistrationMissing when there is none, it is over, the period is outside, or the power is exceeded.
    """

    def find(store: Reader) -> Sequence[Coin]:
        mine = [one for one in registered(store, meter) if one.state.producer == ctx.me]
        if not mine:
            raise RegistrationMissing(
                f"this vault holds no registration of meter {meter!r} for this node; a registrar makes one"
            )
        fitting = [one for one in mine if one.state.covers(start_ns, end_ns)]
        if not fitting:
            raise RegistrationMissing(_outside(mine, meter, ctx.started_at_ns))
        _need_capacity(fitting[0].state, start_ns, end_ns, quantity_wh)
        if fitting[0].coin.output.notary != fitting[0].state.issue_notary:
            raise RegistrationMissing(f"the registration of meter {meter!r} has not reached its notary yet; try again")
        return [fitting[0].coin]

    return (await ctx.vault.known("find registration", find))[0]


async def lock_registration(ctx: FlowContext, meter: str, which: str, begins_ns: int | None) -> Registered:
    """A registration to replace, reserved until the flow ends: the one that begins then, else the last one.

    `which` says in an error what was looked for. Raises RegistrationMissing, also while another flow replaces it.
    """

    def choose(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        found = [one for one in registered(store, meter) if begins_ns in (None, one.state.valid_from_ns)]
        if not found:
            raise RegistrationMissing(f"this vault holds no registration of meter {meter!r}{which}")
        if locks.is_locked(found[-1].coin.ref.encode()):
            raise RegistrationMissing(f"another flow is changing the registration of meter {meter!r}; try again")
        return [found[-1].coin]

    (coin,) = await ctx.vault.lock_chosen("lock registration", choose)
    return Registered(coin, MeterRegistration.from_payload(coin.output.payload))


def need_registrar(ctx: FlowContext) -> None:
    """Raises FlowArgumentsInvalid unless this node is a registrar of the network."""
    if ctx.me not in ctx.parameters.registrars:
        raise FlowArgumentsInvalid("this node is no registrar of the network; only those that it lists register meters")


def need_issue_notary(ctx: FlowContext, service_key: bytes) -> None:
    """Raises FlowArgumentsInvalid unless the network lists this notary as verifying."""
    if ctx.parameters.mode_of(service_key) is not NotaryMode.VERIFYING:
        raise FlowArgumentsInvalid("issue_notary must be the service key of a verifying notary of the network")


def _outside(mine: Sequence[Registered], meter: str, now_ns: int) -> str:
    last = mine[-1]
    if last.state.valid_until_ns <= now_ns:
        return f"the registration of meter {meter!r} is over since {utc(last.state.valid_until_ns)}; have it extended"
    periods = " and ".join(one.period for one in mine)
    return f"meter {meter!r} is registered for {periods}; the delivery period is not inside one of these"


def _need_capacity(found: MeterRegistration, start_ns: int, end_ns: int, quantity_wh: int) -> None:
    most_wh = found.capacity_wh(start_ns, end_ns)
    if quantity_wh > most_wh:
        raise RegistrationMissing(
            f"meter {found.meter!r} is registered for {found.capacity_w} W: at most {most_wh} Wh in this period, not "
            f"{quantity_wh}"
        )
