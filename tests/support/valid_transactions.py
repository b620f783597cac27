"""Strategies for valid transactions of every command of the contracts that come with p2petd."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from p2petd.contracts.energy import (
    AllocationShare,
    EnergyAllocate,
    EnergyAllocation,
    EnergyDeliver,
    EnergyExpire,
    EnergyIssue,
    EnergyMerge,
    EnergyRetire,
    EnergySplit,
    EnergyState,
    EnergyTrade,
    EnergyTransfer,
    OrderTerms,
    delivery_of,
)
from p2petd.contracts.meter import MeterEnd, MeterExtend, MeterReassign, MeterRegister
from p2petd.contracts.payment import PaymentIssue, PaymentMerge, PaymentPay, PaymentRedeem, PaymentSplit
from p2petd.contracts.testkit import (
    BANK,
    MARKET,
    METERING,
    NOON_NS,
    OTHER_NOTARY,
    PRODUCER,
    REGISTRAR,
    TARIFFS,
    UNIT_NS,
    Trial,
    Tried,
    attest,
    energy,
    ledger,
    metered,
    money,
    notice,
    party,
    reading,
    registration,
    state_ref,
    tariff,
)
from p2petd.units import amount_nano

PARTIES = tuple(party(name) for name in ("alice", "bob", "carol"))
ALICE, BOB, CAROL = PARTIES
QUANTITY = st.integers(1, 10**12)
END_NS = NOON_NS + 4 * UNIT_NS
NEGATIVE = ledger.with_parameters(negative_prices=True)
TABLE = tariff()
TARIFF = TABLE.encode()
TARIFF_HASH = sha256(TARIFF).digest()


def parts_of(draw: Callable[[Any], Any], total: int, least: int = 1, most: int = 5) -> list[int]:
    """`total` cut at random places into `least` to `most` parts, each above zero."""
    most = min(most, total)
    cuts = draw(st.sets(st.integers(1, total - 1), min_size=least - 1, max_size=most - 1)) if total > 1 else set()
    edges = [0, *sorted(cuts), total]
    return [end - start for start, end in pairwise(edges)]


@st.composite
def issues(draw: st.DrawFn) -> Trial:
    meters = draw(st.lists(st.sampled_from(["m-1", "m-2", "m-3"]), min_size=1, max_size=3, unique=True))
    trial = ledger.transaction()
    for meter in meters:
        wh, owner = draw(QUANTITY), draw(st.sampled_from(PARTIES))
        lot = energy(wh, owner, meter=meter, units=draw(st.integers(1, 6)), lot_wh=wh)
        trial = trial.output(lot).command(EnergyIssue, PRODUCER, lot.owner)
    return trial.claim_all()


@st.composite
def metered_issues(draw: st.DrawFn) -> Trial:
    wh = draw(st.integers(1, 10**6))
    lot = energy(wh, PRODUCER, lot_wh=wh)
    return metered.transaction().reference(registration()).output(lot).command(EnergyIssue, PRODUCER).claim_all()


@st.composite
def transfers(draw: st.DrawFn) -> Trial:
    wh, kept = draw(QUANTITY), draw(st.integers(0, 10**6))
    change = (energy(kept, ALICE),) if kept else ()
    trial = ledger.transaction().input(*(energy(part, ALICE) for part in parts_of(draw, wh + kept)))
    return trial.output(energy(wh, BOB), *change).command(EnergyTransfer(ALICE.key, BOB.key, wh), ALICE, BOB)


@st.composite
def splits(draw: st.DrawFn) -> Trial:
    wh = draw(st.integers(2, 10**12))
    parts = [energy(part, ALICE) for part in parts_of(draw, wh, least=2)]
    return ledger.transaction().input(energy(wh, ALICE)).output(*parts).command(EnergySplit, ALICE)


@st.composite
def merges(draw: st.DrawFn) -> Trial:
    wh = draw(st.integers(2, 10**12))
    parts = [energy(part, ALICE) for part in parts_of(draw, wh, least=2)]
    return ledger.transaction().input(*parts).output(energy(wh, ALICE)).command(EnergyMerge, ALICE)


@st.composite
def trades(draw: st.DrawFn) -> Trial:
    """At any price, with or without change, tariff, orders and observers."""
    sold, kept = draw(st.integers(1, 10**9)), draw(st.integers(0, 10**6))
    cites = draw(st.booleans())
    price = draw(st.integers(50_000, 500_000) if cites else st.integers(-(10**6), 10**6) | st.just(0))
    amount, change = amount_nano(sold, price), draw(st.integers(0, 10**9))
    terms = EnergyTrade(ALICE.key, BOB.key, sold, price, amount, "EUR", BANK.key)
    if draw(st.booleans()):
        bid = OrderTerms(bytes(32), sold, price, "solar", NOON_NS, END_NS)
        terms = replace(terms, bid=bid, offer=replace(bid, zone="zone-1"), observers=(CAROL.key,))
    trial = NEGATIVE.transaction().input(energy(sold + kept, ALICE)).output(energy(sold, BOB))
    trial = trial.output(energy(kept, ALICE)) if kept else trial
    if cites:
        terms, trial = replace(terms, tariff=TARIFF_HASH), trial.attachment(TARIFF)
    trial = trial.command(terms, ALICE, BOB).window(until_ns=NOON_NS - draw(st.integers(0, 10)))
    if not amount:
        return trial
    payer, payee = (BOB, ALICE) if amount > 0 else (ALICE, BOB)
    trial = trial.input(money(abs(amount) + change, payer)).output(money(abs(amount), payee))
    return (trial.output(money(change, payer)) if change else trial).command(PaymentPay, payer)


def attested(trial: Trial, *facts: object) -> Trial:
    """With the reading and the tariff that a delivery needs."""
    return trial.command(attest(METERING, *facts), METERING) if facts else trial


def tariffed(trial: Trial) -> Trial:
    return trial.command(attest(TARIFFS, notice(TABLE)), TARIFFS).attachment(TARIFF).window(from_ns=END_NS)


@st.composite
def deliveries(draw: st.DrawFn) -> Trial:
    wh, read = draw(QUANTITY), draw(st.integers(0, 10**12))
    state = energy(wh, ALICE, lot_wh=wh)
    delivery = delivery_of(state, read, 1, TABLE, TARIFF_HASH)
    trial = ledger.transaction().input(state).output(delivery).command(EnergyDeliver(TARIFF_HASH), ALICE)
    return tariffed(attested(trial, reading(read))).claim_all()


def allocation_of(shares: Mapping[bytes, int]) -> EnergyAllocation:
    listed = tuple(AllocationShare(ref, shares[ref]) for ref in sorted(shares))
    return EnergyAllocation("meter-1", NOON_NS, END_NS, sum(shares.values()), 1, MARKET.key, listed)


@st.composite
def allocations(draw: st.DrawFn) -> Trial:
    shares = {state_ref(n).encode(): draw(st.integers(0, 10**9)) for n in range(draw(st.integers(1, 4)))}
    allocation = allocation_of(shares)
    trial = ledger.transaction().output(allocation).command(EnergyAllocate, MARKET).window(from_ns=END_NS)
    return attested(trial, reading(allocation.metered_wh)).claim_all()


@st.composite
def allocated_deliveries(draw: st.DrawFn) -> Trial:
    states = [energy(draw(QUANTITY), draw(st.sampled_from(PARTIES))) for _ in range(draw(st.integers(1, 3)))]
    shares = [draw(st.integers(0, 10**9)) for _ in states]
    trial = ledger.transaction().input(*states)
    trial = trial.reference(allocation_of({state_ref(n).encode(): share for n, share in enumerate(shares)}))
    for state, share in zip(states, shares, strict=True):
        trial = trial.output(delivery_of(state, share, 1, TABLE, TARIFF_HASH))
    return tariffed(trial.command(EnergyDeliver(TARIFF_HASH), *{state.owner for state in states}))


@st.composite
def retirements(draw: st.DrawFn) -> Trial:
    used, kept = draw(QUANTITY), draw(st.integers(0, 10**6))
    change = (energy(kept, ALICE),) if kept else ()
    return ledger.transaction().input(energy(used + kept, ALICE)).output(*change).command(EnergyRetire, ALICE)


@st.composite
def expiries(draw: st.DrawFn) -> Trial:
    states = [energy(draw(QUANTITY), ALICE) for _ in range(draw(st.integers(1, 3)))]
    deadline_ns = END_NS + ledger.parameters.reading_deadline_ns
    return ledger.transaction().input(*states).command(EnergyExpire, ALICE).window(from_ns=deadline_ns)


@st.composite
def money_issues(draw: st.DrawFn) -> Trial:
    trial = ledger.transaction()
    for _ in range(draw(st.integers(1, 3))):
        trial = trial.output(money(draw(QUANTITY), ALICE)).command(
            PaymentIssue(draw(st.binary(min_size=32, max_size=32))), BANK
        )
    return trial


@st.composite
def payments(draw: st.DrawFn) -> Trial:
    taken = [(draw(st.sampled_from(PARTIES)), draw(QUANTITY)) for _ in range(draw(st.integers(1, 3)))]
    shares = parts_of(draw, sum(amount for _, amount in taken))
    trial = ledger.transaction().input(*(money(amount, owner) for owner, amount in taken))
    trial = trial.output(*(money(share, draw(st.sampled_from(PARTIES))) for share in shares))
    return trial.command(PaymentPay, *{owner.key: owner for owner, _ in taken}.values())


@st.composite
def redemptions(draw: st.DrawFn) -> Trial:
    paid_out, kept = draw(QUANTITY), draw(st.integers(0, 10**6))
    change = (money(kept, ALICE),) if kept else ()
    inputs = [money(part, ALICE) for part in parts_of(draw, paid_out + kept)]
    return ledger.transaction().input(*inputs).output(*change).command(PaymentRedeem, ALICE, BANK)


@st.composite
def reshapes_of_money(draw: st.DrawFn) -> Trial:
    total = draw(st.integers(2, 10**12))
    whole, parts = money(total, ALICE), [money(part, ALICE) for part in parts_of(draw, total, least=2)]
    if draw(st.booleans()):
        return ledger.transaction().input(whole).output(*parts).command(PaymentSplit, ALICE)
    return ledger.transaction().input(*parts).output(whole).command(PaymentMerge, ALICE)


@st.composite
def registrations(draw: st.DrawFn) -> Trial:
    new = registration(f"meter-{draw(st.integers(0, 9))}", capacity_w=draw(QUANTITY))
    return metered.transaction().output(new).command(MeterRegister, REGISTRAR, PRODUCER).claim_all()


@st.composite
def meter_changes(draw: st.DrawFn) -> Trial:
    """Extend, Reassign or End."""
    before = registration(capacity_w=draw(QUANTITY))
    trial = metered.transaction().input(before)
    kind = draw(st.sampled_from([MeterExtend, MeterReassign, MeterEnd]))
    if kind is MeterEnd:
        return trial.command(MeterEnd, REGISTRAR)
    if kind is MeterExtend:
        until_ns = before.valid_until_ns + draw(st.integers(1, 100)) * UNIT_NS
        return trial.output(replace(before, valid_until_ns=until_ns)).command(MeterExtend, REGISTRAR)
    cut_ns = before.valid_from_ns + draw(st.integers(1, 95)) * UNIT_NS
    earlier = replace(before, valid_until_ns=cut_ns, followed=True)
    later = replace(before, valid_from_ns=cut_ns, issue_notary=OTHER_NOTARY.key)
    return trial.output(earlier, later).command(MeterReassign, REGISTRAR, PRODUCER).claim_all()


@st.composite
def notary_changes(draw: st.DrawFn) -> Tried:
    held: list[EnergyState | Any] = [energy(draw(QUANTITY), draw(st.sampled_from(PARTIES)))]
    held += [money(draw(QUANTITY), owner) for owner in draw(st.lists(st.sampled_from(PARTIES), max_size=3))]
    return metered.notary_change(*held, to=OTHER_NOTARY)


GENERAL = {
    "issue": issues(),
    "metered issue": metered_issues(),
    "transfer": transfers(),
    "split": splits(),
    "merge": merges(),
    "trade": trades(),
    "deliver": deliveries(),
    "allocate": allocations(),
    "deliver by allocation": allocated_deliveries(),
    "retire": retirements(),
    "expire": expiries(),
    "issue money": money_issues(),
    "pay": payments(),
    "redeem": redemptions(),
    "reshape money": reshapes_of_money(),
    "register": registrations(),
    "change meter": meter_changes(),
}
CONSERVING = ("transfer", "split", "merge", "trade", "deliver", "deliver by allocation", "pay", "reshape money")
"""Whatever number of a state changes alone, the transaction is refused."""
