"""What an oracle knows and what it has vouched for: rows of its own log."""

import enum
import hashlib
import struct
from collections.abc import Iterator, Mapping

from p2pet.store.v1.store_pb2 import AttestationRow, FeedRow, ForecastRow, ReadingRow, TariffRow

from p2petd.contracts.identifiers import METER_BYTES_MAX
from p2petd.errors import ReadingMeterInvalid
from p2petd.store.changes import SCAN_PAGE, Reader
from p2petd.store.tables import after_prefix
from p2petd.units import INT64_MIN

Row = ReadingRow | ForecastRow | TariffRow | AttestationRow | FeedRow


class OracleTable(enum.IntEnum):
    """One byte in the log record of an oracle; numbers are never reused."""

    META = 0  # name -> value
    READING = 1  # meter ‖ start -> ReadingRow
    FORECAST = 2  # meter ‖ start ‖ end -> ForecastRow
    TARIFF = 3  # hash -> TariffRow
    ATTESTATION = 4  # transaction id -> AttestationRow
    FEED = 5  # SHA-256 of a file's name -> FeedRow


META_KEY = b"oracle"


def meter_prefix(meter: str) -> bytes:
    """u8 length ‖ name: no meter's keys begin with another's. Raises ReadingMeterInvalid."""
    name = meter.encode()
    if not 1 <= len(name) <= METER_BYTES_MAX:
        raise ReadingMeterInvalid(f"a meter's name has 1 to {METER_BYTES_MAX} bytes, not {len(name)}")
    return bytes([len(name)]) + name


def moment(at_ns: int) -> bytes:
    """8 bytes that sort as the signed number does."""
    return struct.pack(">Q", at_ns - INT64_MIN)


def read_key(key: bytes) -> tuple[str, int]:
    """Meter and start of a key of the readings."""
    return key[1:-8].decode(), int.from_bytes(key[-8:]) + INT64_MIN


class Book:
    """The rows as the batch under way leaves them: what it puts is read at once, and committed by whoever takes it.

    Called from one thread only.
    """

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._fresh: dict[tuple[OracleTable, bytes], bytes] = {}
        # Few, and looked through by time.
        self._tariffs = {key: TariffRow.FromString(row) for key, row in _scan_all(store, OracleTable.TARIFF)}

    def take(self) -> list[tuple[int, bytes, bytes | None]]:
        """What this batch has put, for `native.Store.commit`; the next batch begins."""
        taken: list[tuple[int, bytes, bytes | None]] = [(t, key, value) for (t, key), value in self._fresh.items()]
        self._fresh = {}
        return taken

    def reading(self, meter: str, start_ns: int) -> ReadingRow | None:
        row = self._get(OracleTable.READING, meter_prefix(meter) + moment(start_ns))
        return None if row is None else ReadingRow.FromString(row)

    def put_reading(self, meter: str, start_ns: int, row: ReadingRow) -> None:
        self._put(OracleTable.READING, meter_prefix(meter) + moment(start_ns), row)

    def forecast(self, meter: str, start_ns: int, end_ns: int) -> ForecastRow | None:
        row = self._get(OracleTable.FORECAST, meter_prefix(meter) + moment(start_ns) + moment(end_ns))
        return None if row is None else ForecastRow.FromString(row)

    def put_forecast(self, meter: str, start_ns: int, end_ns: int, row: ForecastRow) -> None:
        self._put(OracleTable.FORECAST, meter_prefix(meter) + moment(start_ns) + moment(end_ns), row)

    @property
    def tariffs(self) -> Mapping[bytes, TariffRow]:
        """Every published tariff by the hash of its table."""
        return self._tariffs

    def put_tariff(self, row: TariffRow) -> None:
        self._tariffs[row.tariff] = row
        self._put(OracleTable.TARIFF, row.tariff, row)

    def attestation(self, transaction_id: bytes) -> AttestationRow | None:
        row = self._get(OracleTable.ATTESTATION, transaction_id)
        return None if row is None else AttestationRow.FromString(row)

    def put_attestation(self, transaction_id: bytes, row: AttestationRow) -> None:
        self._put(OracleTable.ATTESTATION, transaction_id, row)

    def feed(self, name: str) -> FeedRow:
        """How far a file has been read; nothing of one that is new."""
        row = self._get(OracleTable.FEED, hashlib.sha256(name.encode(errors="surrogateescape")).digest())
        return FeedRow() if row is None else FeedRow.FromString(row)

    def put_feed(self, name: str, row: FeedRow) -> None:
        self._put(OracleTable.FEED, hashlib.sha256(name.encode(errors="surrogateescape")).digest(), row)

    def _get(self, table: OracleTable, key: bytes) -> bytes | None:
        fresh = self._fresh.get((table, key))
        return self._store.get(table, key) if fresh is None else fresh

    def _put(self, table: OracleTable, key: bytes, row: Row) -> None:
        self._fresh[table, key] = row.SerializeToString()


def _scan_all(store: Reader, table: OracleTable) -> Iterator[tuple[bytes, bytes]]:
    start = b""
    while True:
        page = store.scan(table, start, None, SCAN_PAGE)
        yield from page
        if len(page) < SCAN_PAGE:
            return
        start = page[-1][0] + b"\x00"


def readings_page(
    store: Reader, meter: str, after: bytes, from_ns: int, until_ns: int, limit: int
) -> tuple[list[tuple[bytes, ReadingRow]], bytes | None]:
    """At most `limit` committed readings of units that start in [from_ns, until_ns), by meter and time.

    `after` is the key at which the last page ended, or empty; answers that of this page too when there may be more. One
    page looks at no more than `limit` rows, so it may be short, or empty, and not the last. An empty meter is any.
    """
    prefix = meter_prefix(meter) if meter else b""
    start = prefix + moment(from_ns) if meter else b""
    end = prefix + moment(until_ns) if meter else after_prefix(prefix)
    rows = store.scan(OracleTable.READING, max(start, after + b"\x00") if after else start, end, limit)
    found = [(key, ReadingRow.FromString(row)) for key, row in rows if from_ns <= read_key(key)[1] < until_ns]
    return found, rows[-1][0] if len(rows) == limit else None
