"""energy.trade: a buyer buys energy from a seller, delivery versus payment in one transaction.

Buyer: offer with the coins that shall pay → seller: reserves lots, builds the whole transaction, signs it first →
buyer: checks it against the offer, signs last, notarises, tells the seller.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.flows.v1.arguments_pb2 import EnergyTradeArguments
from p2pet.flows.v1.sessions_pb2 import OfferedInput, SignedProposal, TradeOffer
from p2pet.ledger.v1.transaction_pb2 import InputProof

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyState, EnergyTrade
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.errors import FlowArgumentsInvalid, FlowError, InsufficientFunds, NodeError
from p2petd.flows.agreement import CLOCK_SKEW_NS, SIGNING_WINDOW_NS, await_final
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import add_energy, lock_energy, need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.money import add_payment_inputs, lock_money
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano
from p2petd.vault.selection import Coin


async def buy_energy(ctx: FlowContext, terms: EnergyTradeArguments) -> bytes:
    """Buy `quantity_wh` from the seller at the price; both legs or neither."""
    amount = _check_terms(terms)
    await need_party(ctx, "seller", terms.seller)
    if terms.seller == ctx.me:
        raise FlowArgumentsInvalid("the seller must be another party than this node")
    coins: tuple[Coin, ...] = ()
    if amount > 0:
        ctx.progress("selecting coins")
        coins = await lock_money(ctx, terms.currency, amount)

    ctx.progress("offering")
    offer = TradeOffer(
        terms=terms,
        buyer=ctx.me,
        notary=coins[0].output.notary if coins else ctx.notary(),
        parameters_hash=ctx.parameters_hash,
        window_until_ns=ctx.started_at_ns + SIGNING_WINDOW_NS,
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=ctx.vault.input_proof(coin.ref)) for coin in coins],
    )
    answer = await ctx.ask(terms.seller, offer, SignedProposal, offer.window_until_ns)

    ctx.progress("checking the seller's proposal")
    proposal = Proposal.decode(answer.proposal)
    resolved = await ctx.ledger.check_proposal(answer.proposal)
    draft = Draft.decode(proposal.transaction)
    if draft.groups[Group.PARAMETERS][0] != ctx.parameters_hash:
        raise FlowError("the seller's proposal cites other network parameters than the offer")
    _agree(ctx, resolved, offer, {coin.ref for coin in coins}, amount, coins[0].money.issuer if coins else b"")

    ctx.progress("signing")
    # We sign last: until here nobody can notarise; from here only we can, inside the draft's window.
    signed = draft.signed([*proposal.signatures, ctx.ledger.sign(draft.id)])
    return await finalise(ctx, signed, proposal.input_proofs, (terms.seller,))


async def sell_energy(ctx: FlowContext, buyer: bytes) -> bytes:
    """Sell to a buyer who pays at least what each lot asks."""
    offer = await ctx.receive(buyer, TradeOffer)
    ctx.progress("checking the offer")
    _check_offer(ctx, offer, buyer)
    terms = offer.terms
    await ctx.vault.reserve("reserve offered coins", [StateRef.decode(offered.ref) for offered in offer.payment_inputs])
    try:
        lots = await lock_energy(ctx, terms.energy, terms.quantity_wh)
    except InsufficientFunds:
        # How much there is stays our secret.
        raise FlowError("the seller has not that much energy of this kind to sell") from None
    asked = max(lot.energy.asked_price_micro_per_kwh for lot in lots)
    if terms.price_micro_per_kwh < asked:
        raise FlowError(f"the seller asks {asked} micro per kWh; {terms.price_micro_per_kwh} was offered")
    if any(lot.output.notary != offer.notary for lot in lots):
        raise FlowError("energy and money are guarded by different notaries")

    ctx.progress("building")
    draft = _build(ctx, offer, lots)
    proofs = (*(ctx.vault.input_proof(lot.ref) for lot in lots), *(offered.proof for offered in offer.payment_inputs))
    mine = ctx.ledger.sign(draft.id)
    proposal = draft.proposal([mine], proofs).encode()
    await ctx.ledger.check_proposal(proposal)

    ctx.progress("signing")
    ctx.send(buyer, SignedProposal(proposal=proposal))
    return await await_final(ctx, buyer, draft, mine, offer.window_until_ns)


def _check_terms(terms: EnergyTradeArguments) -> int:
    """The amount to pay in nano-currency. Raises FlowArgumentsInvalid, QuantityOverflow."""
    need_positive("quantity_wh", terms.quantity_wh)
    need_selection(terms.energy)
    need_text("currency", terms.currency)
    if terms.price_micro_per_kwh < 0:
        raise FlowArgumentsInvalid("price_micro_per_kwh must not be negative in this flow")
    return amount_nano(terms.quantity_wh, terms.price_micro_per_kwh)


def _check_offer(ctx: FlowContext, offer: TradeOffer, buyer: bytes) -> None:
    """Raises FlowError unless the offer is the peer's own, to us, under our parameters, and ends soon."""
    try:
        amount = _check_terms(offer.terms)
    except NodeError as error:
        raise FlowError(f"the offer is malformed: {error}") from error
    if offer.buyer != buyer or offer.terms.seller != ctx.me or buyer == ctx.me:
        raise FlowError("the offer names other parties than those who talk")
    if offer.parameters_hash != ctx.parameters_hash:
        raise FlowError("buyer and seller use different versions of the network parameters")
    latest_ns = ctx.started_at_ns + SIGNING_WINDOW_NS + CLOCK_SKEW_NS
    if not ctx.started_at_ns < offer.window_until_ns <= latest_ns:
        raise FlowError("the time window of the offer is over or ends too late; check the clocks")
    if (amount > 0) != bool(offer.payment_inputs):
        raise FlowError("an offer carries coins exactly when there is something to pay")


@dataclass(frozen=True)
class _Payment:
    """A coin that the buyer offers, as its proof shows it; whether the proof holds is checked with the proposal."""

    ref: StateRef
    component: bytes
    state: PaymentState

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
            return _Payment(ref, component, PaymentState.from_payload(output.payload))
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
    return builder.build(ctx.random("salt"))


def _command(terms: EnergyTradeArguments, seller: bytes, buyer: bytes, amount: int, issuer: bytes) -> EnergyTrade:
    return EnergyTrade(
        seller=seller,
        buyer=buyer,
        quantity_wh=WattHours(terms.quantity_wh),
        price_micro_per_kwh=MicroPerKwh(terms.price_micro_per_kwh),
        amount_nano=NanoMoney(amount),
        currency=terms.currency if amount else "",
        currency_issuer=issuer,
    )


def _agree(
    ctx: FlowContext, resolved: LedgerTransaction, offer: TradeOffer, coins: set[StateRef], amount: int, issuer: bytes
) -> None:
    """Raises FlowError unless the seller's proposal is what we offered. The contracts have checked the sums.

    1. Same notary, and a window that ends when we said.
    2. The trade command says what we offered, and nothing else is commanded than its payment.
    3. Of money it consumes exactly our offered coins.
    4. All energy that we get is of the wanted type, period and zone.
    """
    terms = offer.terms
    if resolved.notary != offer.notary or resolved.window is None or resolved.window.until_ns != offer.window_until_ns:
        raise FlowError("the seller changed the notary or the time window")
    commands = [command for command, _ in resolved.commands]
    expected = ["EnergyTrade", "PaymentPay"] if amount else ["EnergyTrade"]
    wanted = _command(terms, terms.seller, ctx.me, amount, issuer)
    if [c.type_name for c in commands] != expected or commands[0].payload != wanted.to_payload():
        raise FlowError("the seller's proposal commands another trade than the one that was offered")
    money = {ref for ref, state in resolved.inputs if state.contract == payment.NAME}
    if money != coins:
        raise FlowError("the seller's proposal consumes other coins than the offered ones")
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
