"""Trade: delivery versus payment in one transaction (C09, C16)."""

from p2petd.contracts import payment
from p2petd.contracts.energy.moves import EnergyPart, conserve, must_sign, received, refuse_other_owners
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import EnergyTrade
from p2petd.contracts.rules import short, violated
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.units import amount_nano


def verify_trade(
    trade: EnergyTrade, part: EnergyPart, signers: frozenset[bytes], transaction: LedgerTransaction
) -> None:
    """1. the command; 2. both sign; 3. the energy leg; 4. the payment leg.

    The payment contract conserves the money under its own command; here it only has to flow as the trade says.
    Raises QuantityOverflow when quantity × price does not fit into 64 bits.
    """
    _verify_terms(trade, transaction.parameters)
    must_sign(trade.seller, signers, EnergyRule.TRADE_SELLER_UNSIGNED)
    must_sign(trade.buyer, signers, EnergyRule.TRADE_BUYER_UNSIGNED)
    # Only the seller's energy goes in, because a net flow over several lots would hide a swap of day for night.
    refuse_other_owners(part, trade.seller, trade.buyer, EnergyRule.TRADE_INPUT, EnergyRule.TRADE_OUTPUT)
    conserve(part, EnergyRule.TRADE_CHANGED, EnergyRule.TRADE_NOT_CONSERVED)
    delivered = received(part, trade.buyer)
    if delivered != trade.quantity_wh:
        violated(EnergyRule.TRADE_ENERGY_LEG, f"{trade.quantity_wh} Wh stated, {delivered} Wh delivered")
    if trade.amount_nano == 0:
        _refuse_payment(transaction)
    else:
        _verify_payment(trade, transaction)


def _verify_terms(trade: EnergyTrade, parameters: ContractParameters) -> None:
    if trade.buyer == trade.seller:
        violated(EnergyRule.TRADE_SELF, short(trade.buyer))
    if trade.quantity_wh <= 0:
        violated(EnergyRule.TRADE_QUANTITY, f"{trade.quantity_wh} Wh")
    if trade.price_micro_per_kwh < 0 and not parameters.negative_prices:
        violated(EnergyRule.TRADE_PRICE, f"{trade.price_micro_per_kwh} micro-{trade.currency} per kWh")
    exact = amount_nano(trade.quantity_wh, trade.price_micro_per_kwh)
    if trade.amount_nano != exact:
        violated(EnergyRule.TRADE_AMOUNT, f"{trade.amount_nano} stated, {exact} by the price")


def _refuse_payment(transaction: LedgerTransaction) -> None:
    named = [state.contract for _, state in transaction.inputs]
    named += [state.contract for state in transaction.outputs]
    named += [command.contract for command, _ in transaction.commands]
    if payment.NAME in named:
        violated(EnergyRule.TRADE_PAYMENT_AT_ZERO, f"{named.count(payment.NAME)} payment states and commands")


def _verify_payment(trade: EnergyTrade, transaction: LedgerTransaction) -> None:
    taken, given = payment.own_states(transaction)
    gained = {trade.seller: 0, trade.buyer: 0}
    for sign, states in ((-1, taken), (1, given)):
        for state in states:
            if state.currency != trade.currency or state.issuer != trade.currency_issuer:
                violated(
                    EnergyRule.TRADE_OTHER_MONEY,
                    f"{state.currency!r} of {short(state.issuer)} instead of {trade.currency!r} of "
                    f"{short(trade.currency_issuer)}",
                )
            if state.owner not in gained:
                violated(EnergyRule.TRADE_PAYMENT_OWNER, f"a payment state of {short(state.owner)}")
            gained[state.owner] += sign * state.amount_nano
    if gained[trade.seller] != trade.amount_nano or gained[trade.buyer] != -trade.amount_nano:
        violated(
            EnergyRule.TRADE_PAYMENT_LEG,
            f"{trade.amount_nano} nano-{trade.currency} stated, the seller gains {gained[trade.seller]} and the buyer "
            f"{gained[trade.buyer]}",
        )
