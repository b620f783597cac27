"""Typed calls of the node's client API. One channel, opened at the first call, closed with the client."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.message import Message

from p2pet.client.attachments import AttachmentsClient
from p2pet.client.connection import DEADLINE_SECONDS, Connection
from p2pet.client.oracle import OracleClient
from p2pet.client.settings import ClientSettings
from p2pet.flows.v1 import flows_pb2, flows_pb2_grpc
from p2pet.node.v1 import node_pb2, node_pb2_grpc
from p2pet.notary.v1 import notary_pb2, notary_pb2_grpc
from p2pet.vault.v1 import vault_pb2, vault_pb2_grpc


class FlowsClient:
    """Starts flows and follows them. Arguments are the flow's message, or its bytes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = flows_pb2_grpc.FlowServiceStub(connection.channel)

    async def start(self, flow: str, arguments: Message | bytes, *, client_id: str = "", version: int = 0) -> bytes:
        """The 16-byte id of the flow, which is durable now; repeating a client id returns the first flow's."""
        request = flows_pb2.StartFlowRequest(start=flow_start(flow, arguments, client_id=client_id, version=version))
        call = self._stub.StartFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return (await self._connection.answer(call)).flow_id

    async def run(
        self,
        flow: str,
        arguments: Message | bytes,
        *,
        client_id: str = "",
        version: int = 0,
        deadline_seconds: float | None = None,
    ) -> flows_pb2.RunFlowResponse:
        """Starts a flow and waits for its outcome. A flow that fails is an outcome, not an ApiError."""
        request = flows_pb2.RunFlowRequest(start=flow_start(flow, arguments, client_id=client_id, version=version))
        call = self._stub.RunFlow(request, timeout=deadline_seconds, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def run_many(
        self, starts: Iterable[flows_pb2.FlowStart], *, deadline_seconds: float | None = None
    ) -> AsyncIterator[flows_pb2.RunFlowsResult]:
        """Starts many flows in one call and yields each outcome as it comes, in any order."""
        request = flows_pb2.RunFlowsRequest(starts=starts)
        call = self._stub.RunFlows(request, timeout=deadline_seconds, metadata=self._connection.metadata)
        async for response in self._connection.answers(call):
            for result in response.results:
                yield result

    async def watch(self, flow_id: bytes) -> AsyncIterator[flows_pb2.WatchFlowResponse]:
        """The steps so far, then each further one as it happens, then the outcome."""
        request = flows_pb2.WatchFlowRequest(flow_id=flow_id)
        call = self._stub.WatchFlow(request, metadata=self._connection.metadata)
        async for response in self._connection.answers(call):
            yield response

    async def get(self, *, flow_id: bytes = b"", client_id: str = "") -> flows_pb2.GetFlowResponse:
        """A flow by its id, or by the client id that started it."""
        request = (
            flows_pb2.GetFlowRequest(client_id=client_id) if client_id else flows_pb2.GetFlowRequest(flow_id=flow_id)
        )
        call = self._stub.GetFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def list(
        self,
        *,
        status: "flows_pb2.FlowStatus.ValueType" = flows_pb2.FLOW_STATUS_UNSPECIFIED,
        page_size: int = 0,
        page_token: str = "",
    ) -> flows_pb2.ListFlowsResponse:
        """One page of the flows; `next_page_token` is empty on the last."""
        request = flows_pb2.ListFlowsRequest(status=status, page_size=page_size, page_token=page_token)
        call = self._stub.ListFlows(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def kill(self, flow_id: bytes) -> flows_pb2.KillFlowResponse:
        """Ends a flow that is under way or parked; what it has signed is followed on its own."""
        request = flows_pb2.KillFlowRequest(flow_id=flow_id)
        call = self._stub.KillFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def retry(self, flow_id: bytes) -> None:
        """Runs a parked flow again from what it has journaled."""
        request = flows_pb2.RetryFlowRequest(flow_id=flow_id)
        call = self._stub.RetryFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        await self._connection.answer(call)

    async def drop(self, flow_id: bytes) -> flows_pb2.DropFlowResponse:
        """Ends a parked flow, as `kill` does."""
        request = flows_pb2.DropFlowRequest(flow_id=flow_id)
        call = self._stub.DropFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def remove(self, flow_id: bytes) -> None:
        """Forgets an ended flow and its client id, which starts another flow then."""
        request = flows_pb2.RemoveFlowRequest(flow_id=flow_id)
        call = self._stub.RemoveFlow(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        await self._connection.answer(call)

    async def types(self) -> flows_pb2.ListFlowTypesResponse:
        """The flows that a client can start."""
        request = flows_pb2.ListFlowTypesRequest()
        call = self._stub.ListFlowTypes(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)


class VaultClient:
    """What the node owns and has recorded."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = vault_pb2_grpc.VaultServiceStub(connection.channel)

    async def states(
        self,
        *,
        status: "vault_pb2.StateStatus.ValueType" = vault_pb2.STATE_STATUS_UNSPECIFIED,
        contract: str = "",
        owner: bytes = b"",
        page_size: int = 0,
        page_token: str = "",
    ) -> vault_pb2.ListStatesResponse:
        """One page of the states; `next_page_token` is empty on the last."""
        request = vault_pb2.ListStatesRequest(
            status=status, contract=contract, owner=owner, page_size=page_size, page_token=page_token
        )
        call = self._stub.ListStates(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def balance(self) -> vault_pb2.GetBalanceResponse:
        """Unconsumed energy and money, with what flows have reserved of it."""
        request = vault_pb2.GetBalanceRequest()
        call = self._stub.GetBalance(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def transactions(self, *, page_size: int = 0, page_token: str = "") -> vault_pb2.ListTransactionsResponse:
        """One page of the transactions; `next_page_token` is empty on the last."""
        request = vault_pb2.ListTransactionsRequest(page_size=page_size, page_token=page_token)
        call = self._stub.ListTransactions(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def in_flight(self, *, page_size: int = 0, page_token: str = "") -> vault_pb2.ListInFlightResponse:
        """One page of the transactions that the node has signed and that are not final yet."""
        request = vault_pb2.ListInFlightRequest(page_size=page_size, page_token=page_token)
        call = self._stub.ListInFlight(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def transaction(self, transaction_id: bytes) -> vault_pb2.GetTransactionResponse:
        """A recorded transaction by its 32-byte id."""
        request = vault_pb2.GetTransactionRequest(id=transaction_id)
        call = self._stub.GetTransaction(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def finality_proof(self, transaction_id: bytes) -> vault_pb2.GetFinalityProofResponse:
        """All that an offline verifier needs for the transaction with this 32-byte id."""
        request = vault_pb2.GetFinalityProofRequest(id=transaction_id)
        call = self._stub.GetFinalityProof(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)


class NotaryClient:
    """What the operator of a notary asks it; other nodes have no such service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = notary_pb2_grpc.NotaryServiceStub(connection.channel)

    async def who_spent(self, subject: bytes) -> notary_pb2.WhoSpentResponse:
        """Who consumed a state (36 bytes of its reference) or a claim (32 bytes), when, by which request."""
        request = notary_pb2.WhoSpentRequest(subject=subject)
        call = self._stub.WhoSpent(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)


class NodeClient:
    """One node's client API; use it with `async with`. Every call raises ApiError when the node refuses or fails."""

    def __init__(self, settings: ClientSettings) -> None:
        self.connection = Connection(settings)
        self.flows = FlowsClient(self.connection)
        self.vault = VaultClient(self.connection)
        self.notary = NotaryClient(self.connection)
        self.attachments = AttachmentsClient(self.connection)
        self.oracle = OracleClient(self.connection)
        self._stub = node_pb2_grpc.NodeServiceStub(self.connection.channel)

    @classmethod
    def from_config(cls, path: str | Path, token_file: str | Path | None = None) -> Self:
        """A client of the node with this node.toml, or in this directory; raises SettingsError. Sends nothing yet.

        A `token_file` makes it that user's client, instead of one that may do everything.
        """
        return cls(ClientSettings.from_config(Path(path), None if token_file is None else Path(token_file)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancels what is under way and closes the channel; repeating it does nothing."""
        await self.connection.channel.close()

    async def info(self) -> node_pb2.GetInfoResponse:
        """Who and what the node is."""
        call = self._stub.GetInfo(
            node_pb2.GetInfoRequest(), timeout=DEADLINE_SECONDS, metadata=self.connection.metadata
        )
        return await self.connection.answer(call)

    async def peers(self) -> node_pb2.ListPeersResponse:
        """The nodes of the network map, and whether each is connected."""
        call = self._stub.ListPeers(
            node_pb2.ListPeersRequest(), timeout=DEADLINE_SECONDS, metadata=self.connection.metadata
        )
        return await self.connection.answer(call)

    async def drain(self, *, undo: bool = False) -> node_pb2.DrainResponse:
        """Lets the node accept no new flow, finish those under way, and stop; with `undo` accept them again."""
        request = node_pb2.DrainRequest(undo=undo)
        call = self._stub.Drain(request, timeout=DEADLINE_SECONDS, metadata=self.connection.metadata)
        return await self.connection.answer(call)

    async def stats(self) -> dict[str, int]:
        """Counters since the process started."""
        call = self._stub.GetStats(
            node_pb2.GetStatsRequest(), timeout=DEADLINE_SECONDS, metadata=self.connection.metadata
        )
        return dict((await self.connection.answer(call)).counters)

    async def is_serving(self) -> bool:
        """Whether the node says that it serves (grpc.health.v1)."""
        # The empty request and the answer SERVING, which spare a package for two bytes.
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.connection.channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        answer = self.connection.answer(check(b"", timeout=DEADLINE_SECONDS, metadata=self.connection.metadata))
        return bool(await answer == b"\x08\x01")


def flow_start(flow: str, arguments: Message | bytes, *, client_id: str = "", version: int = 0) -> flows_pb2.FlowStart:
    """What starts one flow; version 0 is the newest."""
    data = arguments if isinstance(arguments, bytes) else arguments.SerializeToString(deterministic=True)
    return flows_pb2.FlowStart(client_id=client_id, flow=flow, version=version, arguments=data)
