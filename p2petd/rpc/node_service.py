"""node.v1.NodeService: who this node is and whom it knows."""

from collections.abc import Callable, Mapping
from typing import Any

from p2pet.node.v1 import node_pb2 as pb
from p2pet.node.v1 import node_pb2_grpc

from p2petd.network.network_map import NetworkMap
from p2petd.peer.transport import PeerTransport
from p2petd.rpc.errors import unary


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """`info` and `counters` are asked anew for each call."""

    def __init__(
        self,
        info: Callable[[], pb.GetInfoResponse],
        counters: Callable[[], Mapping[str, int]],
        network_map: NetworkMap,
        peers: PeerTransport,
    ) -> None:
        self._info = info
        self._counters = counters
        self._map = network_map
        self._peers = peers

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
