"""Tariffs: attachments with prices for each energy quality, which contracts read (C10, C12, C18)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from p2pet.ledger.v1 import oracle_pb2

from p2petd.contracts.rules import Rule, violated
from p2petd.ledger.codec import encode_canonical, parse_strict
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.units import MicroPerKwh, TimeNs

ROWS_MAX = 4096
CACHED_TABLE_BYTES_MAX = 65_536
CACHED_TABLES_MAX = 64


class TariffRule(Rule):
    NAMELESS = ("tariff.nameless", "A tariff has a name and a currency.")
    VALIDITY = ("tariff.validity_empty", "A tariff is valid until a later time than it is valid from.")
    COUNT = ("tariff.row_count", "A tariff has 1 to 4096 rows.")
    ORDER = ("tariff.rows_unordered", "The rows of a tariff ascend by energy type and zone, and are distinct.")
    TYPE = ("tariff.type_missing", "Every row of a tariff names an energy type.")
    BOUNDS = ("tariff.bounds_crossed", "The lowest price of a row is not above its highest.")


@dataclass(frozen=True, slots=True)
class TariffRow:
    """Prices of one energy type in one zone; an empty zone is every zone that has no row of its own.

    `long_price_micro_per_kwh` is what a surplus is worth, `short_price_micro_per_kwh` what a shortfall costs.
    """

    energy_type: str
    zone: str
    price_min_micro_per_kwh: MicroPerKwh
    price_max_micro_per_kwh: MicroPerKwh
    long_price_micro_per_kwh: MicroPerKwh
    short_price_micro_per_kwh: MicroPerKwh


@dataclass(frozen=True)
class TariffTable:
    """Prices for deliveries in [valid_from_ns, valid_until_ns).

    1. it has a name and a currency; 2. its validity is not empty; 3. it has 1 to 4096 rows; 4. each with an energy type
    and bounds that do not cross; 5. ascending by (energy_type, zone), distinct. Raises ContractViolation.
    """

    name: str
    currency: str
    valid_from_ns: TimeNs
    valid_until_ns: TimeNs
    rows: tuple[TariffRow, ...]
    _by_quality: Mapping[tuple[str, str], TariffRow] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not self.currency:
            violated(TariffRule.NAMELESS, f"name {self.name!r}, currency {self.currency!r}")
        if self.valid_from_ns >= self.valid_until_ns:
            violated(TariffRule.VALIDITY, f"[{self.valid_from_ns}, {self.valid_until_ns}) ns")
        _check_count(len(self.rows))
        for row in self.rows:
            if not row.energy_type:
                violated(TariffRule.TYPE, f"a row of zone {row.zone!r}")
            if row.price_min_micro_per_kwh > row.price_max_micro_per_kwh:
                violated(TariffRule.BOUNDS, f"{row.price_min_micro_per_kwh} to {row.price_max_micro_per_kwh}")
        keys = [(row.energy_type.encode(), row.zone.encode()) for row in self.rows]
        for before, after in pairwise(keys):
            if before >= after:
                violated(TariffRule.ORDER, f"{after} after {before}")
        by_quality = {(row.energy_type, row.zone): row for row in self.rows}
        object.__setattr__(self, "_by_quality", by_quality)

    def row(self, energy_type: str, zone: str) -> TariffRow | None:
        """The row of a type and zone: the zone's own one, else that for every zone; None when there is neither."""
        return self._by_quality.get((energy_type, zone)) or self._by_quality.get((energy_type, ""))

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether the table is valid for the whole of [start_ns, end_ns)."""
        return self.valid_from_ns <= start_ns and end_ns <= self.valid_until_ns

    def encode(self) -> bytes:
        """The canonical `ledger.v1.TariffTable`: the content of the attachment; raises QuantityOverflow."""
        return encode_canonical(
            oracle_pb2.TariffTable,
            name=self.name,
            currency=self.currency,
            valid_from_ns=self.valid_from_ns,
            valid_until_ns=self.valid_until_ns,
            rows=[
                {
                    "energy_type": row.energy_type,
                    "zone": row.zone,
                    "price_min_micro_per_kwh": row.price_min_micro_per_kwh,
                    "price_max_micro_per_kwh": row.price_max_micro_per_kwh,
                    "long_price_micro_per_kwh": row.long_price_micro_per_kwh,
                    "short_price_micro_per_kwh": row.short_price_micro_per_kwh,
                }
                for row in self.rows
            ],
        )

    @classmethod
    def decode(cls, content: bytes) -> "TariffTable":
        """Raises MalformedTransaction unless canonical, ContractViolation for a table that breaks a rule of it."""
        return _small_table(content) if len(content) <= CACHED_TABLE_BYTES_MAX else _table(content)


def _check_count(rows: int) -> None:
    if not 1 <= rows <= ROWS_MAX:
        violated(TariffRule.COUNT, f"{rows}")


def _table(content: bytes) -> TariffTable:
    message = parse_strict(oracle_pb2.TariffTable, content)
    # Before there is an object for each of half a million.
    _check_count(len(message.rows))
    return TariffTable(
        message.name,
        message.currency,
        TimeNs(message.valid_from_ns),
        TimeNs(message.valid_until_ns),
        tuple(
            TariffRow(
                row.energy_type,
                row.zone,
                MicroPerKwh(row.price_min_micro_per_kwh),
                MicroPerKwh(row.price_max_micro_per_kwh),
                MicroPerKwh(row.long_price_micro_per_kwh),
                MicroPerKwh(row.short_price_micro_per_kwh),
            )
            for row in message.rows
        ),
    )


@lru_cache(maxsize=CACHED_TABLES_MAX)
def _small_table(content: bytes) -> TariffTable:
    return _table(content)


def cited_tariff(transaction: LedgerTransaction, tariff: bytes) -> TariffTable:
    """The tariff table that a transaction cites by its SHA-256.

    Raises TransactionRefused when it is not cited or not here, else as `TariffTable.decode`.
    """
    return TariffTable.decode(transaction.attachment(tariff))
