"""A node that answers from canned data over the real TLS, token and services, for the client's and the CLI's sake."""

# ruff: noqa: N802 - the methods have the names of their RPCs
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn

import grpc
from p2pet.flows.v1 import flows_pb2, flows_pb2_grpc
from p2pet.ledger.v1 import energy_pb2, payment_pb2, transaction_pb2
from p2pet.node.v1 import node_pb2, node_pb2_grpc
from p2pet.vault.v1 import vault_pb2, vault_pb2_grpc

from p2petd.config import load_config
from p2petd.identity.keys import load_token

NOON_NS = 1_782_907_200 * 10**9
HOUR_NS = 3600 * 10**9
ALICE, BOB = b"\x0a" * 32, b"\x0b" * 32
FLOW_ID, TRANSACTION_ID = b"\x01" * 16, b"\x02" * 32
FLOWS = 25
KILLED = flows_pb2.FlowOutcome(status=flows_pb2.FLOW_STATUS_FAILED, error_code="flow.killed", error_message="Ended.")


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, code: str, message: str) -> NoReturn:
    context.set_trailing_metadata((("p2pet-code", code),))
    context.abort(status, message)
    raise AssertionError("abort returned")


class FakeFlows(flows_pb2_grpc.FlowServiceServicer):
    """Remembers what was started; `outcome` is what every flow ends with."""

    def __init__(self) -> None:
        self.started: list[flows_pb2.FlowStart] = []
        self.operated: list[tuple[str, bytes]] = []
        self.outcome = flows_pb2.FlowOutcome(status=flows_pb2.FLOW_STATUS_COMPLETED, transaction_id=TRANSACTION_ID)

    def StartFlow(self, request: Any, context: Any) -> flows_pb2.StartFlowResponse:
        self.started.append(request.start)
        return flows_pb2.StartFlowResponse(flow_id=FLOW_ID)

    def RunFlow(self, request: Any, context: Any) -> flows_pb2.RunFlowResponse:
        self.started.append(request.start)
        return flows_pb2.RunFlowResponse(flow_id=FLOW_ID, outcome=self.outcome)

    def RunFlows(self, request: Any, context: Any) -> Iterator[flows_pb2.RunFlowsResponse]:
        for index, start in enumerate(request.starts):
            self.started.append(start)
            result = flows_pb2.RunFlowsResult(index=index, flow_id=FLOW_ID, outcome=self.outcome)
            yield flows_pb2.RunFlowsResponse(results=[result])

    def WatchFlow(self, request: Any, context: Any) -> Iterator[flows_pb2.WatchFlowResponse]:
        if request.flow_id != FLOW_ID:
            refuse(context, grpc.StatusCode.NOT_FOUND, "flow.not_found", "no flow with this id is known")
        for number, name in enumerate(("building", "notarising"), start=1):
            yield flows_pb2.WatchFlowResponse(step=flows_pb2.ProgressStep(step=number, name=name, at_ns=NOON_NS))
        yield flows_pb2.WatchFlowResponse(outcome=self.outcome)

    def GetFlow(self, request: Any, context: Any) -> flows_pb2.GetFlowResponse:
        if request.flow_id != FLOW_ID and request.client_id != "mine":
            refuse(context, grpc.StatusCode.NOT_FOUND, "flow.not_found", "no flow with this id is known")
        step = flows_pb2.ProgressStep(step=1, name="building", at_ns=NOON_NS)
        nested = flows_pb2.ProgressStep(step=2, name="notarising", at_ns=NOON_NS, depth=1)
        return flows_pb2.GetFlowResponse(flow=self._flow(0), steps=[step, nested])

    def KillFlow(self, request: Any, context: Any) -> flows_pb2.KillFlowResponse:
        self.operated.append(("kill", request.flow_id))
        return flows_pb2.KillFlowResponse(outcome=KILLED, in_flight=[TRANSACTION_ID])

    def DropFlow(self, request: Any, context: Any) -> flows_pb2.DropFlowResponse:
        self.operated.append(("drop", request.flow_id))
        return flows_pb2.DropFlowResponse(outcome=KILLED)

    def RetryFlow(self, request: Any, context: Any) -> flows_pb2.RetryFlowResponse:
        if request.flow_id != FLOW_ID:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "flow.not_parked", "the flow is running")
        self.operated.append(("retry", request.flow_id))
        return flows_pb2.RetryFlowResponse()

    def RemoveFlow(self, request: Any, context: Any) -> flows_pb2.RemoveFlowResponse:
        self.operated.append(("remove", request.flow_id))
        return flows_pb2.RemoveFlowResponse()

    def ListFlows(self, request: Any, context: Any) -> flows_pb2.ListFlowsResponse:
        first = int(request.page_token or "0")
        last = min(FLOWS, first + min(request.page_size, 10))
        token = str(last) if last < FLOWS else ""
        return flows_pb2.ListFlowsResponse(flows=[self._flow(n) for n in range(first, last)], next_page_token=token)

    def ListFlowTypes(self, request: Any, context: Any) -> flows_pb2.ListFlowTypesResponse:
        known = (
            ("energy.request", "p2pet.flows.v1.EnergyRequestArguments"),
            ("payment.pay", "p2pet.flows.v1.PaymentPayArguments"),
            ("other.flow", "example.Unknown"),
        )
        types = [flows_pb2.FlowType(flow=f, version=1, arguments_type=t, description="Does it.") for f, t in known]
        return flows_pb2.ListFlowTypesResponse(types=types)

    def _flow(self, number: int) -> flows_pb2.FlowInfo:
        return flows_pb2.FlowInfo(
            flow_id=number.to_bytes(16, "big"),
            flow="energy.request",
            version=1,
            counterparty=BOB,
            started_at_ns=NOON_NS,
            outcome=self.outcome,
            waiting_for="the notary CN=notary,O=x",
        )


class FakeVault(vault_pb2_grpc.VaultServiceServicer):
    """One energy state, one payment state and one of a type that no client knows."""

    def ListStates(self, request: Any, context: Any) -> vault_pb2.ListStatesResponse:
        energy = energy_pb2.EnergyState(
            energy_type="solar",
            quantity_wh=1500,
            delivery_start_ns=NOON_NS,
            delivery_end_ns=NOON_NS + HOUR_NS,
            asked_price_micro_per_kwh=250_000,
            owner=ALICE,
        )
        money = payment_pb2.PaymentState(currency="EUR", amount_nano=3_500_000_000, owner=BOB)
        outputs = (
            ("energy", "EnergyState", energy.SerializeToString()),
            ("payment", "PaymentState", money.SerializeToString()),
            ("other", "Thing", b"\xff"),
        )
        states = [
            vault_pb2.VaultState(
                ref=TRANSACTION_ID + index.to_bytes(4, "big"),
                status=vault_pb2.STATE_STATUS_UNCONSUMED,
                output=transaction_pb2.OutputState(
                    contract=contract, type_name=name, payload=payload
                ).SerializeToString(),
                recorded_at_ns=NOON_NS,
            )
            for index, (contract, name, payload) in enumerate(outputs)
            if request.contract in ("", contract)
        ]
        return vault_pb2.ListStatesResponse(states=states)

    def GetBalance(self, request: Any, context: Any) -> vault_pb2.GetBalanceResponse:
        energy = vault_pb2.EnergyBalance(
            energy_type="solar",
            delivery_start_ns=NOON_NS,
            delivery_end_ns=NOON_NS + HOUR_NS,
            quantity_wh=1500,
            locked_wh=300,
        )
        money = vault_pb2.MoneyBalance(currency="EUR", issuer=BOB, amount_nano=3_500_000_000)
        return vault_pb2.GetBalanceResponse(energy=[energy], money=[money])


class FakeNode(node_pb2_grpc.NodeServiceServicer):
    """Alice, who knows Bob."""

    def __init__(self) -> None:
        self.draining = False

    def Drain(self, request: Any, context: Any) -> node_pb2.DrainResponse:
        self.draining = not request.undo
        return node_pb2.DrainResponse(running=3, parked=1)

    def GetInfo(self, request: Any, context: Any) -> node_pb2.GetInfoResponse:
        return node_pb2.GetInfoResponse(
            name="CN=alice,O=x", identity=ALICE, roles=["party"], version="0.1.0", draining=self.draining
        )

    def ListPeers(self, request: Any, context: Any) -> node_pb2.ListPeersResponse:
        peer = node_pb2.PeerInfo(name="CN=bob,O=x", identity=BOB, addresses=["127.0.0.1:1"], roles=["party"])
        return node_pb2.ListPeersResponse(peers=[peer])

    def GetStats(self, request: Any, context: Any) -> node_pb2.GetStatsResponse:
        return node_pb2.GetStatsResponse(counters={"flows": 7, "appends": 3})


class Token(grpc.ServerInterceptor):
    """Refuses a call without the node's token."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}"

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        if dict(details.invocation_metadata).get("authorization") == self._expected:
            return continuation(details)
        status, code = grpc.StatusCode.UNAUTHENTICATED, "client.unauthenticated"
        return grpc.unary_unary_rpc_method_handler(lambda _, context: refuse(context, status, code, "wrong token"))


class Served:
    """A running fake node; its address is the one in its node.toml."""

    def __init__(self, node: Path) -> None:
        config = load_config(node)
        self.flows = FakeFlows()
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4), interceptors=[Token(load_token(config.client.token_file))]
        )
        flows_pb2_grpc.add_FlowServiceServicer_to_server(self.flows, self.server)
        vault_pb2_grpc.add_VaultServiceServicer_to_server(FakeVault(), self.server)
        node_pb2_grpc.add_NodeServiceServicer_to_server(FakeNode(), self.server)
        check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
        health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        self.server.add_generic_rpc_handlers((health,))
        pair = (config.identity.tls_key_file.read_bytes(), config.identity.tls_certificate_file.read_bytes())
        self.server.add_secure_port(config.client.listen, grpc.ssl_server_credentials([pair]))
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()
