"""Trade: delivery versus payment in one transaction (C09 to C11, C16, C17)."""

from itertools import pairwise

from p2petd.contracts import payment
from p2petd.contracts.energy.commands import EnergyTrade, OrderTerms
from p2petd.contracts.energy.moves import EnergyPart, conserve, must_sign, received, refuse_other_owners
from p2petd.contracts.energy.states import EnergyState
from p2petd.contracts.legs import Leg, LegRules, names_payment, verify_legs
from p2petd.contracts.rules import Rule, short, violated
from p2petd.contracts.tariff import TariffTable, cited_tariff
from p2petd.ledger.groups import DIGEST_BYTES, KEY_BYTES
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.units import NO_UPPER_BOUND, amount_nano

OBSERVERS_MAX = 64


class TradeRule(Rule):
    # The terms (C09, C16, C17)
    SELF = ("energy.trade.buyer_is_seller", "The buyer is not the seller, unless the network permits self-trades.")
    QUANTITY = ("energy.trade.quantity_not_positive", "A trade moves more than 0 Wh.")
    PRICE = (
        "energy.trade.price_negative",
        "The price is not below zero, unless the network permits negative prices.",
    )
    AMOUNT = ("energy.trade.amount_wrong", "The amount is quantity × price, exactly.")
    OBSERVERS = (
        "energy.trade.observers_invalid",
        "The observers of a trade are at most 64 keys of 32 bytes, ascending and distinct, neither buyer nor seller.",
    )
    # The tariff and the orders that it cites (C10)
    TARIFF_CURRENCY = ("energy.trade.tariff_currency", "The cited tariff is in the currency of the trade.")
    TARIFF_PERIOD = ("energy.trade.tariff_period", "The cited tariff is valid for the whole delivery period.")
    TARIFF_ROW = ("energy.trade.tariff_without_row", "The cited tariff prices the type of energy in its zone.")
    TARIFF_PRICE = ("energy.trade.price_outside_tariff", "The price lies within the bounds of the cited tariff.")
    ORDER_ID = ("energy.trade.order_id_invalid", "The id of a cited order is 32 bytes.")
    ORDER_QUANTITY = ("energy.trade.order_overfilled", "A trade moves at most what a cited order is for.")
    ORDER_PRODUCT = (
        "energy.trade.order_of_another_product",
        "Energy type, delivery period and zone are those of the cited orders; an order without a zone is for any.",
    )
    BID_PRICE = ("energy.trade.price_above_bid", "The price is not above the limit of the cited bid.")
    OFFER_PRICE = ("energy.trade.price_below_offer", "The price is not below the limit of the cited offer.")
    # Who consents, and until when (C05, C11)
    SELLER_UNSIGNED = ("energy.trade.seller_must_sign", "The seller signs a trade.")
    BUYER_UNSIGNED = ("energy.trade.buyer_must_sign", "The buyer signs a trade.")
    WINDOW_MISSING = ("energy.trade.window_missing", "A trade has a time window with an end.")
    AFTER_DEADLINE = (
        "energy.trade.after_deadline",
        "The window of a trade ends by the deadline of its energy: the start of delivery plus what the network adds.",
    )
    # The energy leg (C04, C05, C09)
    INPUT = ("energy.trade.input_of_another_owner", "Every energy input belongs to the seller.")
    OUTPUT = (
        "energy.trade.output_to_another_owner",
        "Every energy output belongs to the buyer or, as change, to the seller.",
    )
    CHANGED = (
        "energy.trade.fields_changed",
        "Energy type, period, issuer, meter, zone, lot id and asked price never change.",
    )
    NOT_CONSERVED = ("energy.trade.quantity_not_conserved", "A trade conserves the quantity of each lot.")
    ENERGY_LEG = (
        "energy.trade.energy_leg_wrong",
        "The buyer gets exactly the quantity that the command states.",
    )
    # The payment leg (C09)
    PAYMENT_OWNER = (
        "energy.trade.payment_of_another_owner",
        "Every payment input and output belongs to the buyer or the seller.",
    )
    OTHER_MONEY = (
        "energy.trade.other_money",
        "Every payment state is of the currency and the issuer that the command states.",
    )
    PAYMENT_LEG = (
        "energy.trade.payment_leg_wrong",
        "Exactly the stated amount goes from buyer to seller, at a negative price from seller to buyer.",
    )
    PAYMENT_AT_ZERO = ("energy.trade.payment_at_price_zero", "At price 0 there is no payment leg.")


_LEG_RULES = LegRules(TradeRule.OTHER_MONEY, TradeRule.PAYMENT_OWNER, TradeRule.PAYMENT_LEG)


def verify_trade(
    trade: EnergyTrade, part: EnergyPart, signers: frozenset[bytes], transaction: LedgerTransaction
) -> None:
    """1. the command; 2. both sign; 3. the energy leg; 4. in time; 5. tariff and orders; 6. the payment leg.

    The payment contract conserves the money under its own command; here it only has to flow as the trade says.
    Raises QuantityOverflow when quantity × price does not fit into 64 bits.
    """
    _verify_terms(trade, transaction.parameters)
    must_sign(trade.seller, signers, TradeRule.SELLER_UNSIGNED)
    must_sign(trade.buyer, signers, TradeRule.BUYER_UNSIGNED)
    _verify_energy(trade, part)
    _verify_window(part, transaction)
    _verify_cited(trade, part, transaction)
    _verify_payment(trade, transaction)


def _verify_terms(trade: EnergyTrade, parameters: ContractParameters) -> None:
    if trade.buyer == trade.seller and not parameters.self_trades:
        violated(TradeRule.SELF, short(trade.buyer))
    if trade.quantity_wh <= 0:
        violated(TradeRule.QUANTITY, f"{trade.quantity_wh} Wh")
    if trade.price_micro_per_kwh < 0 and not parameters.negative_prices:
        violated(TradeRule.PRICE, f"{trade.price_micro_per_kwh} micro-{trade.currency} per kWh")
    exact = amount_nano(trade.quantity_wh, trade.price_micro_per_kwh)
    if trade.amount_nano != exact:
        violated(TradeRule.AMOUNT, f"{trade.amount_nano} stated, {exact} by the price")
    if trade.observers:
        _verify_observers(trade)


def _verify_observers(trade: EnergyTrade) -> None:
    observers = trade.observers
    ascending = all(before < after for before, after in pairwise(observers))
    well_formed = all(len(key) == KEY_BYTES and key not in (trade.buyer, trade.seller) for key in observers)
    if len(observers) > OBSERVERS_MAX or not ascending or not well_formed:
        violated(TradeRule.OBSERVERS, f"{len(observers)}: {', '.join(short(key) for key in observers[:8])}")


def _verify_energy(trade: EnergyTrade, part: EnergyPart) -> None:
    # Only the seller's energy goes in, because a net flow over several lots would hide a swap of day for night.
    refuse_other_owners(part, trade.seller, trade.buyer, TradeRule.INPUT, TradeRule.OUTPUT)
    conserve(part, TradeRule.CHANGED, TradeRule.NOT_CONSERVED)
    delivered = received(part, trade.buyer)
    if delivered != trade.quantity_wh:
        violated(TradeRule.ENERGY_LEG, f"{trade.quantity_wh} Wh stated, {delivered} Wh delivered")


def _verify_window(part: EnergyPart, transaction: LedgerTransaction) -> None:
    """The lots of the outputs are those of the inputs; the first of them to be delivered decides."""
    window = transaction.window
    if window is None or window.until_ns == NO_UPPER_BOUND:
        violated(TradeRule.WINDOW_MISSING, "no end")
    start_ns = min(state.delivery_start_ns for state in part.inputs)
    deadline_ns = start_ns + transaction.parameters.trade_deadline_ns
    if window.until_ns > deadline_ns:
        violated(TradeRule.AFTER_DEADLINE, f"until {window.until_ns}, the deadline is {deadline_ns} ns")


def _verify_cited(trade: EnergyTrade, part: EnergyPart, transaction: LedgerTransaction) -> None:
    if trade.tariff:
        table = cited_tariff(transaction, trade.tariff)
        if table.currency != trade.currency:
            violated(TradeRule.TARIFF_CURRENCY, f"{table.currency!r} instead of {trade.currency!r}")
        for state in part.inputs:
            _verify_bounds(trade.price_micro_per_kwh, table, state)
    for order, rule, sign in ((trade.bid, TradeRule.BID_PRICE, 1), (trade.offer, TradeRule.OFFER_PRICE, -1)):
        if order is not None:
            _verify_order(trade, order, part)
            if sign * trade.price_micro_per_kwh > sign * order.limit_micro_per_kwh:
                violated(rule, f"{trade.price_micro_per_kwh}, the limit is {order.limit_micro_per_kwh}")


def _verify_bounds(price: int, table: TariffTable, state: EnergyState) -> None:
    if not table.covers(state.delivery_start_ns, state.delivery_end_ns):
        violated(
            TradeRule.TARIFF_PERIOD,
            f"[{state.delivery_start_ns}, {state.delivery_end_ns}) ns, valid in "
            f"[{table.valid_from_ns}, {table.valid_until_ns}) ns",
        )
    row = table.row(state.energy_type, state.zone)
    if row is None:
        violated(TradeRule.TARIFF_ROW, f"{state.energy_type!r} in zone {state.zone!r}")
    if not row.price_min_micro_per_kwh <= price <= row.price_max_micro_per_kwh:
        violated(
            TradeRule.TARIFF_PRICE, f"{price}, bounds {row.price_min_micro_per_kwh} to {row.price_max_micro_per_kwh}"
        )


def _verify_order(trade: EnergyTrade, order: OrderTerms, part: EnergyPart) -> None:
    if len(order.order_id) != DIGEST_BYTES:
        violated(TradeRule.ORDER_ID, f"{len(order.order_id)} bytes")
    if trade.quantity_wh > order.quantity_wh:
        violated(TradeRule.ORDER_QUANTITY, f"{trade.quantity_wh} Wh of {order.quantity_wh} Wh")
    product = (order.energy_type, order.delivery_start_ns, order.delivery_end_ns)
    for state in part.inputs:
        same = (state.energy_type, state.delivery_start_ns, state.delivery_end_ns) == product
        if not same or order.zone not in ("", state.zone):
            violated(
                TradeRule.ORDER_PRODUCT,
                f"{state.energy_type!r} in zone {state.zone!r}, [{state.delivery_start_ns}, {state.delivery_end_ns}) "
                f"ns, for an order of {order.energy_type!r} in zone {order.zone!r}, [{order.delivery_start_ns}, "
                f"{order.delivery_end_ns}) ns",
            )


def _verify_payment(trade: EnergyTrade, transaction: LedgerTransaction) -> None:
    if trade.amount_nano == 0:
        named = names_payment(transaction)
        if named:
            violated(TradeRule.PAYMENT_AT_ZERO, f"{named} payment states and commands")
        return
    payer, payee = (trade.buyer, trade.seller) if trade.amount_nano > 0 else (trade.seller, trade.buyer)
    leg = Leg(payer, payee, abs(trade.amount_nano))
    verify_legs([leg], trade.currency, trade.currency_issuer, transaction, _LEG_RULES)
    if payer == payee:
        _verify_own_payment(leg, transaction)


def _verify_own_payment(leg: Leg, transaction: LedgerTransaction) -> None:
    """Who pays itself gains nothing; that there is a payment leg, its outputs must show."""
    paid = sum(state.amount_nano for state in payment.own_states(transaction)[1])
    if paid < leg.amount_nano:
        violated(TradeRule.PAYMENT_LEG, f"{leg.amount_nano} stated, {paid} put down")
