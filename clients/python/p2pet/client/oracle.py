"""What an oracle's operator and its feeds tell it."""

from collections.abc import Iterable

from p2pet.client.connection import DEADLINE_SECONDS, Connection
from p2pet.ledger.v1 import oracle_pb2 as facts_pb2
from p2pet.oracle.v1 import oracle_pb2, oracle_pb2_grpc


class OracleClient:
    """Of a node that is an oracle. All of it can be repeated: what the oracle knows already changes nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = oracle_pb2_grpc.OracleServiceStub(connection.channel)

    async def push_readings(self, readings: Iterable[oracle_pb2.UnitReading]) -> oracle_pb2.PushReadingsResponse:
        """What became of each reading; those that were taken are durable. A push holds at most 10 000."""
        request = oracle_pb2.PushReadingsRequest(readings=readings)
        call = self._stub.PushReadings(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def push_forecasts(self, forecasts: Iterable[facts_pb2.EnergyForecast]) -> oracle_pb2.PushForecastsResponse:
        """The same for forecasts."""
        request = oracle_pb2.PushForecastsRequest(forecasts=forecasts)
        call = self._stub.PushForecasts(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)

    async def publish_tariff(self, tariff: bytes) -> facts_pb2.TariffNotice:
        """Vouch from now on for a tariff table, an attachment of the node, by its hash."""
        request = oracle_pb2.PublishTariffRequest(tariff=tariff)
        call = self._stub.PublishTariff(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return (await self._connection.answer(call)).notice

    async def readings(
        self, *, meter: str = "", from_ns: int = 0, until_ns: int = 0, page_size: int = 0, page_token: str = ""
    ) -> oracle_pb2.ListReadingsResponse:
        """One page, by meter and time; `next_page_token` is empty on the last; others can be short or empty."""
        request = oracle_pb2.ListReadingsRequest(
            meter=meter, from_ns=from_ns, until_ns=until_ns, page_size=page_size, page_token=page_token
        )
        call = self._stub.ListReadings(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)
