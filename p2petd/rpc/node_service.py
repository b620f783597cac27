"""node.v1.NodeService: who this node is and whom it knows."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from p2pet.node.v1 import node_pb2 as pb
from p2pet.node.v1 import node_pb2_grpc

from p2petd.flows.events import Drain, Event
from p2petd.network.network_map import NetworkMap
from p2petd.peer.transport import PeerTransport
from p2petd.rpc.errors import unary


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """`info` and `counters` are asked anew for each call; `stop` ends the node when it is drained."""

    def __init__(
        self,
        info: Callable[[], pb.GetInfoResponse],
        counters: Callable[[], Mapping[str, int]],
        network_map: NetworkMap,
        peers: PeerTransport,
        submit: Callable[[Event], None],
        stop: Callable[[], None],
    ) -> None:
        self._info = info
        self._counters = counters
        self._map = network_map
        self._peers = peers
        self._submit = submit
        self._stop = stop

    @unary
    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:
        return self._info()

    @unary
    async def ListPeers(self, request: pb.ListPeersRequest, context: Any) -> pb.ListPeersResponse:
        me = self._info().identity
        peers = [
            pb.PeerInfo(
                name=info.name,
                identity=info.identity,
                addresses=info.addresses,
                roles=sorted(info.roles),
                connected=self._peers.is_connected(info.identity),
                outbox=self._peers.outbox_length(info.identity),
                notary_service_key=info.notary_service_key,
            )
            for info in self._map.nodes
            if info.identity != me
        ]
        return pb.ListPeersResponse(peers=peers)

    @unary
    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        return pb.GetStatsResponse(counters=self._counters())

    @unary
    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:
        counts: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

        def answer(found: tuple[int, int]) -> None:
            # Unless the client has given up.
            if not counts.done():
                counts.set_result(found)

        self._submit(Drain(request.undo, answer, self._stop))
        running, parked = await counts
        return pb.DrainResponse(running=running, parked=parked)
