"""The flows that every node has, and those that other packages bring."""

from functools import cache
from importlib.metadata import entry_points

from p2petd.errors import ConfigError
from p2petd.flows import (
    energy_allocate,
    energy_deliver,
    energy_expire,
    energy_merge,
    energy_request,
    energy_retire,
    energy_split,
    energy_trade,
    energy_transfer,
    ledger_recover,
    ledger_settle,
    meter_end,
    meter_extend,
    meter_reassign,
    meter_register,
    notary_change,
    payment_issue,
    payment_pay,
    payment_redeem,
)
from p2petd.flows.registry import FlowDefinition, FlowRegistry

ENTRY_POINTS = "p2petd.flows"

BUILT_IN = (
    energy_request.FLOW,
    energy_transfer.FLOW,
    energy_trade.FLOW,
    payment_issue.FLOW,
    payment_pay.FLOW,
    notary_change.FLOW,
    energy_split.FLOW,
    energy_merge.FLOW,
    energy_retire.FLOW,
    energy_expire.FLOW,
    energy_deliver.FLOW,
    energy_allocate.FLOW,
    payment_redeem.FLOW,
    meter_register.FLOW,
    meter_extend.FLOW,
    meter_reassign.FLOW,
    meter_end.FLOW,
    ledger_settle.FLOW,
    ledger_recover.FLOW,
)


@cache
def installed_flows() -> FlowRegistry:
    """The built-in flows and those of other packages: entry points of the group p2petd.flows, each a tuple of them.

    Raises ConfigError for an entry point that is none, and for a flow that is there already.
    """
    flows = list(BUILT_IN)
    known = {(flow.name, flow.version) for flow in flows}
    for plugin in entry_points(group=ENTRY_POINTS):
        brought = plugin.load()
        if not isinstance(brought, tuple) or not all(isinstance(flow, FlowDefinition) for flow in brought):
            raise ConfigError(f"the entry point {plugin.name} of {ENTRY_POINTS} is not a tuple of flows")
        for flow in brought:
            if (flow.name, flow.version) in known:
                raise ConfigError(f"flow {flow.name} version {flow.version} is installed twice")
            known.add((flow.name, flow.version))
            flows.append(flow)
    return FlowRegistry(tuple(flows))
