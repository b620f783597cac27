"""flows.v1.FlowService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from p2pet.flows.v1 import flows_pb2 as pb
from p2pet.flows.v1 import flows_pb2_grpc
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd.errors import FlowNotFound, NodeError
from p2petd.flows.events import Drop, Event, Kill, Remove, Retry, Start, Unwatch, Watch
from p2petd.flows.registry import FlowRegistry
from p2petd.flows.run import info_of
from p2petd.rpc.errors import streaming, unary
from p2petd.rpc.paging import newest_first, page_size
from p2petd.store.changes import Reader
from p2petd.store.tables import Table

STARTS_MAX = 10_000
Seen = tuple[pb.FlowInfo, list[pb.ProgressStep]]


class _Follower:
    """A watcher that turns the engine's calls into items of a queue."""

    wants_progress = True

    def __init__(self) -> None:
        self.events: asyncio.Queue[pb.ProgressStep | pb.FlowOutcome] = asyncio.Queue()

    def on_progress(self, step: pb.ProgressStep) -> None:
        self.events.put_nowait(step)

    def on_outcome(self, outcome: pb.FlowOutcome) -> None:
        self.events.put_nowait(outcome)


class _Awaiter:
    """A watcher that waits for the outcome only."""

    wants_progress = False

    def __init__(self) -> None:
        self.outcome: asyncio.Future[pb.FlowOutcome] = asyncio.get_running_loop().create_future()

    def on_progress(self, step: pb.ProgressStep) -> None:
        pass

    def on_outcome(self, outcome: pb.FlowOutcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class _Collector:
    """A watcher that puts one flow's result into a queue when the flow has ended, or could not start."""

    wants_progress = False

    def __init__(self, result: pb.RunFlowsResult, ended: asyncio.Queue[pb.RunFlowsResult]) -> None:
        self._result = result
        self._ended = ended

    def on_started(self, answer: bytes | NodeError) -> None:
        if isinstance(answer, NodeError):
            refused = pb.FlowOutcome(status=pb.FLOW_STATUS_FAILED, error_code=answer.code, error_message=answer.message)
            self.on_outcome(refused)
        else:
            self._result.flow_id = answer

    def on_progress(self, step: pb.ProgressStep) -> None:
        pass

    def on_outcome(self, outcome: pb.FlowOutcome) -> None:
        self._result.outcome.CopyFrom(outcome)
        self._ended.put_nowait(self._result)


class FlowService(flows_pb2_grpc.FlowServiceServicer):
    """Starts and follows flows by events to the engine; lists them from the view."""

    def __init__(
        self,
        submit: Callable[[Event], None],
        store: Reader,
        registry: FlowRegistry,
        live: Callable[[bytes], pb.FlowInfo | None],
    ) -> None:
        """`live` tells of a flow that is under way what the view does not show."""
        self._submit = submit
        self._store = store
        self._registry = registry
        self._live = live

    @unary
    async def StartFlow(self, request: pb.StartFlowRequest, context: Any) -> pb.StartFlowResponse:
        return pb.StartFlowResponse(flow_id=await self._start(request.start, None))

    @unary
    async def RunFlow(self, request: pb.RunFlowRequest, context: Any) -> pb.RunFlowResponse:
        awaiter = _Awaiter()
        flow_id = await self._start(request.start, awaiter)
        return pb.RunFlowResponse(flow_id=flow_id, outcome=await awaiter.outcome)

    @streaming
    async def RunFlows(self, request: pb.RunFlowsRequest, context: Any) -> AsyncIterator[pb.RunFlowsResponse]:
        ended: asyncio.Queue[pb.RunFlowsResult] = asyncio.Queue()
        for index, start in enumerate(request.starts[:STARTS_MAX]):
            self._start_into(index, start, ended)
        left = len(request.starts)
        for index in range(STARTS_MAX, left):
            outcome = pb.FlowOutcome(
                status=pb.FLOW_STATUS_FAILED,
                error_code="flow.too_many",
                error_message=f"one call starts at most {STARTS_MAX} flows",
            )
            ended.put_nowait(pb.RunFlowsResult(index=index, outcome=outcome))
        while left:
            results = [await ended.get()]
            while not ended.empty():
                results.append(ended.get_nowait())
            left -= len(results)
            yield pb.RunFlowsResponse(results=results)

    @streaming
    async def WatchFlow(self, request: pb.WatchFlowRequest, context: Any) -> AsyncIterator[pb.WatchFlowResponse]:
        follower = _Follower()
        try:
            info, steps = await self._look(request.flow_id, follower)
            for step in steps:
                yield pb.WatchFlowResponse(step=step)
            if info.outcome.status != pb.FLOW_STATUS_RUNNING:
                yield pb.WatchFlowResponse(outcome=info.outcome)
                return
            while not isinstance(event := await follower.events.get(), pb.FlowOutcome):
                yield pb.WatchFlowResponse(step=event)
            yield pb.WatchFlowResponse(outcome=event)
        finally:
            self._submit(Unwatch(request.flow_id, follower))

    @unary
    async def GetFlow(self, request: pb.GetFlowRequest, context: Any) -> pb.GetFlowResponse:
        flow_id = request.flow_id
        if request.WhichOneof("key") == "client_id":
            known = self._store.get(Table.CLIENT_ID, request.client_id.encode()) if request.client_id else None
            if known is None:
                raise FlowNotFound(f"no flow with client id {request.client_id!r} is known to this node")
            flow_id = known
        info, steps = await self._look(flow_id, None)
        return pb.GetFlowResponse(flow=info, steps=steps)

    @unary
    async def ListFlows(self, request: pb.ListFlowsRequest, context: Any) -> pb.ListFlowsResponse:
        size, token = page_size(request.page_size), request.page_token
        answer = pb.ListFlowsResponse()
        while True:
            keys, token = newest_first(self._store, Table.FLOW_ORDER, token, size)
            for key in keys:
                info = self._live(key[8:]) or self._recorded(key[8:])
                if info is not None and request.status in (pb.FLOW_STATUS_UNSPECIFIED, info.outcome.status):
                    answer.flows.append(info)
            if answer.flows or not token:
                answer.next_page_token = token
                return answer
            # Nobody waits while much is looked through.
            await asyncio.sleep(0)

    @unary
    async def ListFlowTypes(self, request: pb.ListFlowTypesRequest, context: Any) -> pb.ListFlowTypesResponse:
        types = [
            pb.FlowType(
                flow=d.name,
                version=d.version,
                arguments_type=d.arguments.DESCRIPTOR.full_name,
                description=d.description,
            )
            for d in self._registry.all()
            if not d.internal
        ]
        return pb.ListFlowTypesResponse(types=types)

    @unary
    async def KillFlow(self, request: pb.KillFlowRequest, context: Any) -> pb.KillFlowResponse:
        ended = await self._operate(Kill, request.flow_id)
        return pb.KillFlowResponse(outcome=ended.outcome, in_flight=ended.in_flight)

    @unary
    async def RetryFlow(self, request: pb.RetryFlowRequest, context: Any) -> pb.RetryFlowResponse:
        await self._operate(Retry, request.flow_id)
        return pb.RetryFlowResponse()

    @unary
    async def DropFlow(self, request: pb.DropFlowRequest, context: Any) -> pb.DropFlowResponse:
        ended = await self._operate(Drop, request.flow_id)
        return pb.DropFlowResponse(outcome=ended.outcome, in_flight=ended.in_flight)

    @unary
    async def RemoveFlow(self, request: pb.RemoveFlowRequest, context: Any) -> pb.RemoveFlowResponse:
        await self._operate(Remove, request.flow_id)
        return pb.RemoveFlowResponse()

    async def _operate(self, operation: type[Kill | Drop | Retry | Remove], flow_id: bytes) -> Any:
        """What the engine answers. Raises what it refuses with."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submit(operation(flow_id, _resolver(done)))
        return await done

    def _recorded(self, flow_id: bytes) -> pb.FlowInfo | None:
        row = self._store.get(Table.FLOW, flow_id)
        return None if row is None else info_of(flow_id, FlowRow.FromString(row))

    async def _start(self, start: pb.FlowStart, watcher: _Awaiter | None) -> bytes:
        started: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._submit(Start(start, _resolver(started), watcher))
        return await started

    def _start_into(self, index: int, start: pb.FlowStart, ended: asyncio.Queue[pb.RunFlowsResult]) -> None:
        collector = _Collector(pb.RunFlowsResult(index=index), ended)
        self._submit(Start(start, collector.on_started, collector))

    async def _look(self, flow_id: bytes, follower: _Follower | None) -> Seen:
        seen: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._submit(Watch(flow_id, _resolver(seen), follower))
        return await seen


def _resolver(future: "asyncio.Future[Any]") -> Callable[[Any], None]:
    """Hands a value or a NodeError to a future that may have been cancelled meanwhile."""

    def resolve(outcome: Any) -> None:
        if future.done():
            return
        if isinstance(outcome, NodeError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    return resolve
