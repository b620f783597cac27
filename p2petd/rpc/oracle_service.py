"""oracle.v1.OracleService: what an oracle is told by its operator and its feeds."""

import asyncio
from typing import Any

from p2pet.oracle.v1 import oracle_pb2 as pb
from p2pet.oracle.v1 import oracle_pb2_grpc

from p2petd.contracts.tariff import TariffTable
from p2petd.ledger.resolved import AttachmentReader
from p2petd.oracle.service import OracleService
from p2petd.rpc.errors import unary
from p2petd.rpc.paging import decode_token, encode_token, page_size
from p2petd.units import INT64_MAX


class OracleRpc(oracle_pb2_grpc.OracleServiceServicer):
    """For the operator of an oracle. `reader` gives the attachments that this node keeps."""

    def __init__(self, oracle: OracleService, reader: AttachmentReader) -> None:
        self._oracle = oracle
        self._reader = reader

    @unary
    async def PushReadings(self, request: pb.PushReadingsRequest, context: Any) -> pb.PushReadingsResponse:
        return await self._oracle.push_readings(request.readings)

    @unary
    async def PushForecasts(self, request: pb.PushForecastsRequest, context: Any) -> pb.PushForecastsResponse:
        return await self._oracle.push_forecasts(request.forecasts)

    @unary
    async def PublishTariff(self, request: pb.PublishTariffRequest, context: Any) -> pb.PublishTariffResponse:
        # The attachment is read from the disk.
        table = TariffTable.decode(await asyncio.to_thread(self._reader, request.tariff))
        notice = await self._oracle.publish_tariff(request.tariff, table.valid_from_ns, table.valid_until_ns)
        return pb.PublishTariffResponse(notice=notice)

    @unary
    async def ListReadings(self, request: pb.ListReadingsRequest, context: Any) -> pb.ListReadingsResponse:
        found, last = self._oracle.readings(
            request.meter,
            decode_token(request.page_token) if request.page_token else b"",
            request.from_ns,
            request.until_ns or INT64_MAX,
            page_size(request.page_size),
        )
        return pb.ListReadingsResponse(readings=found, next_page_token=encode_token(last))
