"""The flows that every node has."""

from p2petd.flows import energy_request, energy_trade, energy_transfer, payment_issue, payment_pay
from p2petd.flows.registry import FlowRegistry


def builtin_flows() -> FlowRegistry:
    return FlowRegistry(
        (energy_request.FLOW, energy_transfer.FLOW, energy_trade.FLOW, payment_issue.FLOW, payment_pay.FLOW)
    )
