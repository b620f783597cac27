"""energy.trade: a buyer buys energy from a seller, delivery versus payment in one transaction.

Buyer: offer with the coins that shall pay → seller: reserves lots, builds the whole transaction, signs it first →
buyer: checks it against the offer, signs last, notarises, tells the seller. When another notary guards the lots than
the coins, the seller answers which one instead; the buyer moves its coins there and offers them again, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.flows.v1.arguments_pb2 import EnergyTradeArguments
from p2pet.flows.v1.sessions_pb2 import Final, OfferedInput, SignedProposal, TradeOffer
from p2pet.ledger.v1.transaction_pb2 import InputProof

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyState, EnergyTrade, OrderTerms
from p2petd.contracts.energy.trade import OBSERVERS_MAX
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.errors import FlowArgumentsInvalid, FlowError, InsufficientFunds, NodeError
from p2petd.flows.agreement import (
    CLOCK_SKEW_NS,
    SIGNING_WINDOW_NS,
    await_final,
    exchange_for_unlocks,
    need_untied,
    unlock_for_signature,
)
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import add_energy, lock_energy, need_selection
from p2petd.flows.finality import finalise, record_told
from p2petd.flows.money import add_payment_inputs, lock_money
from p2petd.flows.moving import check_movable, gather, guards_of, main_notary, move_to, verifying
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import MINUTE_NS, NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano
from p2petd.vault.selection import Coin

# How long a seller keeps its lots for a buyer that moves its coins to their notary.
MOVING_NS = MINUTE_NS


async def buy_energy(ctx: FlowContext, terms: EnergyTradeArguments) -> bytes:
    """Buy `quantity_wh` from the seller at the price; both legs or neither."""
    amount = _check_terms(terms)
    await need_party(ctx, "seller", terms.seller)
    if terms.seller == ctx.me:
        raise FlowArgumentsInvalid("the seller must be another party than this node")
    for number, observer in enumerate(sorted(set(terms.observers))):
        await need_party(ctx, f"observer {number}", observer)
    coins: tuple[Coin, ...] = ()
    if amount > 0:
        ctx.progress("selecting coins")
        coins = await lock_money(ctx, terms.currency, amount)

    ctx.progress("retrieving notary")
    notary = main_notary(ctx, coins)
    ctx.progress("offering")
    offer = _offer(ctx, terms, coins, notary, ctx.started_at_ns)
    answer = await ctx.ask(terms.seller, offer, SignedProposal, offer.window_until_ns)
    if answer.notary:
        offer, coins = await _offer_elsewhere(ctx, offer, coins, answer.notary)
        answer = await ctx.ask(terms.seller, offer, SignedProposal, offer.window_until_ns)

    ctx.progress("checking the seller's proposal")
    proposal = Proposal.decode(answer.proposal)
    resolved = await ctx.ledger.check_proposal(answer.proposal, peer=terms.seller)
    draft = Draft.decode(proposal.transaction)
    if draft.groups[Group.PARAMETERS][0] != ctx.parameters_hash:
        raise FlowError("the seller's proposal cites other network parameters than the offer")
    _agree(ctx, resolved, offer, {coin.ref for coin in coins}, amount, coins[0].money.issuer if coins else b"")

    ctx.progress("signing")
    # We sign last: until here nobody can notarise; from here only we can, inside the draft's window.
    signed = draft.signed([*proposal.signatures, ctx.ledger.sign(draft.id)])
    unlocks = await exchange_for_unlocks(ctx, terms.seller, draft, offer.window_until_ns)
    observers = tuple(sorted(set(terms.observers) - {ctx.me, terms.seller}))
    trade_id = await finalise(ctx, signed, proposal.input_proofs, (terms.seller,), unlocks, observers)
    _tell_observers(ctx, observers, draft, trade_id)
    return trade_id


async def sell_energy(ctx: FlowContext, buyer: bytes) -> bytes:
    """Sell to a buyer who pays at least what each lot asks; or, as an observer, record a trade of others."""
    offer = await ctx.receive(buyer, TradeOffer)
    if offer.HasField("final"):
        return await record_told(ctx, buyer, offer.final)
    ctx.progress("checking the offer")
    _check_offer(ctx, offer, buyer, ctx.started_at_ns)
    terms = offer.terms
    offered = [StateRef.decode(coin.ref) for coin in offer.payment_inputs]
    await ctx.vault.reserve("reserve offered coins", offered)
    # Before our lots are reserved: this may take its time.
    await ctx.history.resolve_states(buyer, offer.notary, offered)
    try:
        lots = await lock_energy(ctx, terms.energy, terms.quantity_wh, offer.notary)
    except InsufficientFunds:
        # How much there is stays our secret.
        raise FlowError("the seller has not that much energy of this kind to sell") from None
    asked = max(lot.energy.asked_price_micro_per_kwh for lot in lots)
    if terms.price_micro_per_kwh < asked:
        raise FlowError(f"the seller asks {asked} micro per kWh; {terms.price_micro_per_kwh} was offered")
    lots = await gather(ctx, lots)
    offer = await _under_one_notary(ctx, offer, buyer, lots[0].output.notary)

    ctx.progress("building")
    draft = _build(ctx, offer, lots)
    proofs = (*(ctx.vault.input_proof(lot.ref) for lot in lots), *(offered.proof for offered in offer.payment_inputs))
    mine = ctx.ledger.sign(draft.id)
    proposal = draft.proposal([mine], () if ctx.history.is_unseen(draft.groups) else proofs).encode()
    await ctx.ledger.check_proposal(proposal)

    ctx.progress("signing")
    ctx.history.grant_proposal(buyer, draft.groups, draft.id)
    ctx.send(buyer, SignedProposal(proposal=proposal))
    theirs = await unlock_for_signature(ctx, buyer, draft, offer.window_until_ns)
    return await await_final(ctx, buyer, draft, (mine, *theirs), offer.window_until_ns)


def _tell_observers(ctx: FlowContext, observers: Sequence[bytes], draft: Draft, trade_id: bytes) -> None:
    signed, proof = ctx.vault.final(trade_id) if observers else (b"", b"")
    for observer in observers:
        if ctx.history.is_unseen(draft.groups):
            ctx.history.grant(observer, trade_id, (trade_id,))
        ctx.send(observer, TradeOffer(final=Final(signed_transaction=signed, finality_proof=proof)))


def _offer(
    ctx: FlowContext, terms: EnergyTradeArguments, coins: Sequence[Coin], notary: bytes, now_ns: int
) -> TradeOffer:
    ctx.history.grant_states(terms.seller, notary, [coin.ref for coin in coins])
    return TradeOffer(
        terms=terms,
        buyer=ctx.me,
        notary=notary,
        parameters_hash=ctx.parameters_hash,
        # A trade is signed before its deadline, however late it starts.
        window_until_ns=min(
            now_ns + SIGNING_WINDOW_NS, terms.energy.delivery_start_ns + ctx.parameters.trade_deadline_ns
        ),
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=ctx.vault.input_proof(coin.ref)) for coin in coins],
    )


async def _offer_elsewhere(
    ctx: FlowContext, offer: TradeOffer, coins: tuple[Coin, ...], notary: bytes
) -> tuple[TradeOffer, tuple[Coin, ...]]:
    """The same offer under the notary that guards the energy, with the coins moved there; it is final, and no trade."""
    if notary not in verifying(ctx.parameters):
        raise FlowError("the seller asks for a notary that the network does not list as verifying")
    moved = await ctx.sub_flow("moving the money to the notary of the energy", move_to(ctx, coins, notary))
    ctx.progress("offering again")
    return _offer(ctx, offer.terms, moved, notary, await ctx.now_ns("offered again at")), moved


async def _under_one_notary(ctx: FlowContext, offer: TradeOffer, buyer: bytes, notary: bytes) -> TradeOffer:
    """The offer when its coins are guarded by the notary of our lots, else the one that the buyer makes when they are.

    Raises FlowError for another trade than was offered first, FlowTimeout when the buyer does not offer again, and as
    `check_movable`.
    """
    coins = [_Payment.read(offered) for offered in offer.payment_inputs]
    if {offer.notary, *(coin.notary for coin in coins)} == {notary}:
        return offer
    if offer.notary not in guards_of(ctx).movable:
        raise FlowError("the offer names a notary that the network does not list as verifying")
    # Else whoever has no coins at all could keep our lots reserved.
    proofs = [offered.proof for offered in offer.payment_inputs]
    states = [(coin.ref, coin.component, proof) for coin, proof in zip(coins, proofs, strict=True)]
    await check_movable(ctx, buyer, states, notary)
    ctx.progress("asking the buyer to come to the notary of the energy")
    ctx.send(buyer, SignedProposal(notary=notary))
    deadline_ns = await ctx.now_ns("asked to move at") + MOVING_NS
    again = await ctx.receive(buyer, TradeOffer, deadline_ns)
    _check_offer(ctx, again, buyer, await ctx.now_ns("offered again at"))
    if again.terms != offer.terms or again.notary != notary:
        raise FlowError("the buyer offers another trade than before, or not under the notary of the energy")
    # Coins that were at this notary before stand in both offers, and are reserved already.
    kept = {coin.ref for coin in coins}
    refs = [StateRef.decode(offered.ref) for offered in again.payment_inputs]
    await ctx.vault.reserve("reserve moved coins", [ref for ref in refs if ref not in kept])
    return again


def _check_terms(terms: EnergyTradeArguments) -> int:
    """The amount to pay in nano-currency. Raises FlowArgumentsInvalid, QuantityOverflow."""
    need_positive("quantity_wh", terms.quantity_wh)
    need_selection(terms.energy)
    need_text("currency", terms.currency)
    if len(terms.tariff) not in (0, DIGEST_BYTES) or len(terms.observers) > OBSERVERS_MAX:
        raise FlowArgumentsInvalid(f"tariff is a hash of {DIGEST_BYTES} bytes, observers are at most {OBSERVERS_MAX}")
    if terms.price_micro_per_kwh < 0:
        raise FlowArgumentsInvalid("price_micro_per_kwh must not be negative in this flow")
    return amount_nano(terms.quantity_wh, terms.price_micro_per_kwh)


def _check_offer(ctx: FlowContext, offer: TradeOffer, buyer: bytes, now_ns: int) -> None:
    """Raises FlowError unless the offer is the peer's own, to us, under our parameters, and ends soon."""
    try:
        amount = _check_terms(offer.terms)
    except NodeError as error:
        raise FlowError(f"the offer is malformed: {error}") from error
    if offer.buyer != buyer or offer.terms.seller != ctx.me or buyer == ctx.me:
        raise FlowError("the offer names other parties than those who talk")
    if offer.parameters_hash != ctx.parameters_hash:
        raise FlowError("buyer and seller use different versions of the network parameters")
    latest_ns = now_ns + SIGNING_WINDOW_NS + CLOCK_SKEW_NS
    if not now_ns < offer.window_until_ns <= latest_ns:
        raise FlowError("the time window of the offer is over or ends too late; check the clocks")
    if (amount > 0) != bool(offer.payment_inputs):
        raise FlowError("an offer carries coins exactly when there is something to pay")


@dataclass(frozen=True)
class _Payment:
    """A coin that the buyer offers, as its proof shows it; whether the proof holds is checked with the proposal."""

    ref: StateRef
    component: bytes
    state: PaymentState
    notary: bytes

    @staticmethod
    def read(offered: OfferedInput) -> "_Payment":
        """Raises FlowError."""
        try:
            ref = StateRef.decode(offered.ref)
            creator = InputProof.FromString(offered.proof).creator.SerializeToString(deterministic=True)
            shown = native.verify_tear_off(creator, ref.transaction_id)
            component = shown.groups[Group.OUTPUTS][1][ref.index]
            output = OutputState.decode(component)
            if output.contract != payment.NAME:
                raise FlowError("the offer pays with a state that is not money")
            return _Payment(ref, component, PaymentState.from_payload(output.payload), output.notary)
        except (NodeError, native.NativeError, KeyError) as error:
            raise FlowError(f"an offered coin is not proven: {error}") from error


def _build(ctx: FlowContext, offer: TradeOffer, lots: Sequence[Coin]) -> Draft:
    terms = offer.terms
    amount = amount_nano(terms.quantity_wh, terms.price_micro_per_kwh)
    coins = [_Payment.read(offered) for offered in offer.payment_inputs]
    builder = TransactionBuilder(offer.notary, ctx.parameters_hash)
    builder.window(NO_LOWER_BOUND, TimeNs(offer.window_until_ns))
    add_energy(builder, lots, terms.quantity_wh, offer.buyer)
    if coins:
        inputs = [(coin.ref, coin.component, coin.state) for coin in coins]
        add_payment_inputs(builder, inputs, amount, offer.buyer, ctx.me)
    command = _command(terms, ctx.me, offer.buyer, amount, coins[0].state.issuer if coins else b"")
    builder.add_command(energy.NAME, command, [ctx.me, offer.buyer])
    if coins:
        builder.add_command(payment.NAME, PaymentPay(), [offer.buyer])
    if terms.tariff:
        builder.add_attachment(terms.tariff)
    return ctx.history.build(builder, ctx.random("salt"))


def _command(terms: EnergyTradeArguments, seller: bytes, buyer: bytes, amount: int, issuer: bytes) -> EnergyTrade:
    return EnergyTrade(
        seller=seller,
        buyer=buyer,
        quantity_wh=WattHours(terms.quantity_wh),
        price_micro_per_kwh=MicroPerKwh(terms.price_micro_per_kwh),
        amount_nano=NanoMoney(amount),
        currency=terms.currency if amount else "",
        currency_issuer=issuer,
        tariff=terms.tariff,
        bid=OrderTerms.from_message(terms.bid) if terms.HasField("bid") else None,
        offer=OrderTerms.from_message(terms.offer) if terms.HasField("offer") else None,
        observers=tuple(sorted(set(terms.observers))),
    )


def _agree(
    ctx: FlowContext, resolved: LedgerTransaction, offer: TradeOffer, coins: set[StateRef], amount: int, issuer: bytes
) -> None:
    """Raises FlowError unless the seller's proposal is what we offered. The contracts have checked the sums.

    1. Same notary, and a window that ends when we said.
    2. The trade command says what we offered, and nothing else is commanded than its payment.
    3. Of money it consumes exactly our offered coins.
    4. No output is tied to another one: what we get, we can spend alone.
    5. All energy that we get is of the wanted type, period and zone.
    """
    terms = offer.terms
    if resolved.notary != offer.notary or resolved.window is None or resolved.window.until_ns != offer.window_until_ns:
        raise FlowError("the seller changed the notary or the time window")
    commands = [command for command, _ in resolved.commands]
    expected = [(energy.NAME, EnergyTrade.type_name)] + ([(payment.NAME, PaymentPay.type_name)] if amount else [])
    wanted = _command(terms, terms.seller, ctx.me, amount, issuer)
    if [(c.contract, c.type_name) for c in commands] != expected or commands[0].payload != wanted.to_payload():
        raise FlowError("the seller's proposal commands another trade than the one that was offered")
    if {state.contract for _, state in resolved.inputs} - {energy.NAME, payment.NAME}:
        raise FlowError("the seller's proposal consumes something else than energy and money")
    money = {ref for ref, state in resolved.inputs if state.contract == payment.NAME}
    if money != coins:
        raise FlowError("the seller's proposal consumes other coins than the offered ones")
    need_untied(resolved.outputs)
    for state in resolved.outputs:
        if state.contract == energy.NAME:
            _check_lot(EnergyState.from_payload(state.payload), offer)


def _check_lot(lot: EnergyState, offer: TradeOffer) -> None:
    wanted = offer.terms.energy
    period = (lot.delivery_start_ns, lot.delivery_end_ns)
    if lot.owner != offer.buyer:
        return
    if lot.energy_type != wanted.energy_type or period != (wanted.delivery_start_ns, wanted.delivery_end_ns):
        raise FlowError("the seller's proposal delivers energy of another type or period")
    if wanted.zone and lot.zone != wanted.zone:
        raise FlowError("the seller's proposal delivers energy of another zone")


FLOW = FlowDefinition(
    name="energy.trade",
    version=1,
    arguments=EnergyTradeArguments,
    description="Buy energy from another party, delivery versus payment",
    initiator=buy_energy,
    responder=sell_energy,
)
