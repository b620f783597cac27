"""energy.deliver: the owner closes its energy of a meter's period against the oracle's reading.

A state that is alone is closed by the reading itself; where a period has several, the market's allocation says how much
of the reading each gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.flows.v1.arguments_pb2 import EnergyDeliverArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyAllocation, EnergyDeliver, deliver_claims, delivery_of
from p2petd.contracts.oracle import Attestation, TariffNotice
from p2petd.contracts.tariff import TariffTable
from p2petd.errors import FlowArgumentsInvalid, FlowError, InsufficientFunds, UnknownParty
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.metering import need_ended_period, reading_in
from p2petd.flows.moving import move_to
from p2petd.flows.oracle_facts import (
    add_attestations,
    all_attested,
    find_facts,
    oracle_node,
    reading_query,
    tariff_query,
)
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.groups import DIGEST_BYTES
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.store.changes import Reader
from p2petd.units import NO_UPPER_BOUND, WattHours
from p2petd.vault.buckets import period_bucket
from p2petd.vault.known import allocations_of, known_refs
from p2petd.vault.locks import SoftLocks
from p2petd.vault.selection import Coin, unreserved


@dataclass(frozen=True)
class _Allocation:
    """The market's allocation, as this vault has recorded it."""

    coin: Coin
    state: EnergyAllocation

    def share(self, lot: Coin) -> WattHours | None:
        """Wh that were delivered for this lot; None when it has no share."""
        found = [one.delivered_wh for one in self.state.shares if one.state == lot.ref.encode()]
        return found[0] if found else None


async def deliver_energy(ctx: FlowContext, arguments: EnergyDeliverArguments) -> bytes:
    """Close our states of the meter and period; the producer is told what it owes or gets."""
    start, end = arguments.delivery_start_ns, arguments.delivery_end_ns
    need_ended_period(ctx, arguments.meter, start, end)
    if len(arguments.tariff) not in (0, DIGEST_BYTES):
        raise FlowArgumentsInvalid(f"tariff must be empty or a hash of {DIGEST_BYTES} bytes")
    allocation = await _find_allocation(ctx, arguments)

    ctx.progress("asking the oracle")
    queries = [tariff_query(arguments.tariff, start)]
    if allocation is None:
        queries.append(reading_query(arguments.meter, start, end))
    attestations = await find_facts(ctx, queries)
    notice, table = await _tariff(ctx, attestations)
    if not table.covers(start, end):
        raise FlowError(f"the tariff {table.name!r} is not valid for the whole delivery period; name another one")

    ctx.progress("selecting energy")
    lots = await _lock(ctx, arguments, allocation)
    if allocation is None:
        lots = await move_to(ctx, lots, ctx.notary())

    ctx.progress("retrieving notary")
    ctx.progress("building")
    draft = _build(ctx, lots, allocation, attestations, table, notice.tariff)
    ctx.ledger.check_draft(draft)
    signatures = await all_attested(ctx, draft, attestations)

    ctx.progress("signing")
    referred = () if allocation is None else (allocation.coin,)
    proofs = tuple(ctx.vault.input_proof(coin.ref) for coin in (*lots, *referred))
    producers = await _producers(ctx, lots)
    return await finalise(ctx, draft.signed([*signatures, ctx.ledger.sign(draft.id)]), proofs, producers)


async def receive_delivery(ctx: FlowContext, owner: bytes) -> bytes:
    """The producer records what was delivered of its energy."""
    return await receive_final(ctx, owner)


async def _find_allocation(ctx: FlowContext, arguments: EnergyDeliverArguments) -> _Allocation | None:
    prefix = allocations_of(arguments.meter, arguments.delivery_start_ns, arguments.delivery_end_ns)
    found = await ctx.vault.known(
        "find allocation", lambda store: [Coin.load(store, ref) for ref in known_refs(store, prefix)]
    )
    # A reading is allocated once: the claims see to that.
    return _Allocation(found[0], EnergyAllocation.from_payload(found[0].output.payload)) if found else None


async def _tariff(ctx: FlowContext, attestations: Sequence[Attestation]) -> tuple[TariffNotice, TariffTable]:
    """The attested tariff with its table, fetched from its oracle when it is not here. Raises TransactionRefused."""
    ((oracle_key, notice),) = [(one.oracle, notice) for one in attestations for notice in one.tariffs]
    await ctx.ledger.fetch_attachments((notice.tariff,), await oracle_node(ctx, oracle_key))
    return notice, TariffTable.decode(ctx.ledger.attachment(notice.tariff))


async def _lock(
    ctx: FlowContext, arguments: EnergyDeliverArguments, allocation: _Allocation | None
) -> tuple[Coin, ...]:
    """Our unreserved states that this delivery closes. Raises InsufficientFunds, FlowError."""
    bucket = period_bucket(arguments.delivery_start_ns, arguments.delivery_end_ns)
    of_meter = f"meter {arguments.meter!r} in this period"

    def choose(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        lots = [lot for lot in unreserved(store, locks, bucket) if lot.energy.meter == arguments.meter]
        if not lots:
            raise InsufficientFunds(f"the vault holds no unreserved energy of {of_meter}")
        if allocation is None:
            if len(lots) > 1:
                raise FlowError(
                    f"the vault holds {len(lots)} states of {of_meter}, and a reading closes one; join them with "
                    "energy.merge, or have the market allocate the reading"
                )
            return lots
        notary = allocation.coin.output.notary
        shared = [lot for lot in lots if allocation.share(lot) is not None and lot.output.notary == notary]
        if not shared:
            raise FlowError(f"the market's allocation of {of_meter} has no share for any state of this vault")
        # The allocation itself is one more.
        return shared[: ctx.parameters.inputs_max - 1]

    return await ctx.vault.lock_chosen("lock energy", choose)


def _build(
    ctx: FlowContext,
    lots: Sequence[Coin],
    allocation: _Allocation | None,
    attestations: Sequence[Attestation],
    table: TariffTable,
    tariff: bytes,
) -> Draft:
    builder = TransactionBuilder(lots[0].output.notary, ctx.parameters_hash)
    first = lots[0].energy
    builder.window(first.delivery_end_ns, NO_UPPER_BOUND)
    builder.add_attachment(tariff)
    for lot in lots:
        builder.add_input(lot.ref, lot.output.raw)
    if allocation is None:
        reading = reading_in(attestations)
        shares, revision = [reading.energy_wh], reading.revision
        unit_ns = ctx.parameters.market_time_unit_ns
        for claim in deliver_claims(first.meter, first.delivery_start_ns, first.delivery_end_ns, unit_ns):
            builder.add_claim(claim)
    else:
        builder.add_reference(allocation.coin.ref, allocation.coin.output.raw)
        shares = [allocation.share(lot) or WattHours(0) for lot in lots]
        revision = allocation.state.reading_revision
    for lot, delivered_wh in zip(lots, shares, strict=True):
        closed = delivery_of(lot.energy, delivered_wh, revision, table, tariff)
        builder.add_output(energy.NAME, lot.output.contract_version, closed)
    builder.add_command(energy.NAME, EnergyDeliver(tariff), [ctx.me])
    add_attestations(builder, attestations)
    return builder.build(ctx.random("salt"))


async def _producers(ctx: FlowContext, lots: Sequence[Coin]) -> tuple[bytes, ...]:
    """Those issuers of the lots that are nodes of the network; journaled."""

    def known() -> bytes:
        found = []
        for issuer in dict.fromkeys(lot.energy.issuer for lot in lots):
            try:
                found.append(ctx.network_map.by_identity(issuer).identity)
            except UnknownParty:
                # It has left, or its key is a composite one.
                continue
        return b"".join(found)

    keys = await ctx.once("know producers", known)
    return tuple(keys[at : at + 32] for at in range(0, len(keys), 32))


FLOW = FlowDefinition(
    name="energy.deliver",
    version=1,
    arguments=EnergyDeliverArguments,
    description="Close one's energy of a meter's period against the oracle's reading",
    initiator=deliver_energy,
    responder=receive_delivery,
)
