"""The part of the network parameters that contracts read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from p2pet.network.v1 import network_pb2

from p2petd.errors import NetworkError
from p2petd.units import INT64_MAX


@dataclass(frozen=True)
class ContractParameters:
    """What the network permits to contracts, as one version of its parameters says.

    `currencies` maps a currency's code to the keys that may issue it, `contracts` maps (name, version) to the SHA-256
    of the contract's code.
    `notaries` are the service keys of the listed notaries in their order; energy of a meter that nobody registers is
    issued at the first. `oracles` maps an oracle's key to the facts that it may vouch for, `markets` a market's key to
    its settlement notary. Meters are registered when there are `registrars`. Raises NetworkError unless the market time
    unit is positive.
    """

    energy_types: frozenset[str]
    market_time_unit_ns: int
    negative_prices: bool
    currencies: Mapping[str, frozenset[bytes]]
    contracts: Mapping[tuple[str, int], bytes]
    notaries: tuple[bytes, ...]
    oracles: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    registrars: frozenset[bytes] = frozenset()
    markets: Mapping[bytes, bytes] = field(default_factory=dict)
    trade_deadline_ns: int = 0
    reading_deadline_ns: int = 0
    issue_attested: bool = False
    self_trades: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.market_time_unit_ns <= INT64_MAX:
            raise NetworkError(f"the market time unit of the network parameters is {self.market_time_unit_ns} ns")

    def newest_version(self, contract: str) -> int | None:
        """The newest permitted version of a contract; None when none is."""
        return max((version for name, version in self.contracts if name == contract), default=None)

    @classmethod
    def from_message(cls, message: network_pb2.NetworkParameters) -> Self:
        """Raises NetworkError when a contract version is listed twice."""
        return cls(
            energy_types=frozenset(message.energy_types),
            market_time_unit_ns=message.market_time_unit_ns,
            negative_prices=message.negative_prices,
            currencies=_issuers_by_code(message.currencies),
            contracts=_hash_by_version(message.contracts),
            notaries=tuple(notary.service_key for notary in message.notaries),
            oracles={oracle.key: frozenset(oracle.facts) for oracle in message.oracles},
            registrars=frozenset(message.registrars),
            markets={market.key: market.settlement_notary for market in message.markets},
            trade_deadline_ns=message.trade_deadline_ns,
            reading_deadline_ns=message.reading_deadline_ns,
            issue_attested=message.issue_attested,
            self_trades=message.self_trades,
        )


def _issuers_by_code(entries: Iterable[network_pb2.CurrencyEntry]) -> Mapping[str, frozenset[bytes]]:
    issuers: dict[str, frozenset[bytes]] = {}
    for entry in entries:
        issuers[entry.code] = issuers.get(entry.code, frozenset()) | {entry.issuer}
    return issuers


def _hash_by_version(entries: Iterable[network_pb2.ContractEntry]) -> Mapping[tuple[str, int], bytes]:
    hashes: dict[tuple[str, int], bytes] = {}
    for entry in entries:
        version = (entry.name, entry.version)
        if version in hashes:
            raise NetworkError(f"the network parameters list contract {entry.name} version {entry.version} twice")
        hashes[version] = entry.code_hash
    return hashes
