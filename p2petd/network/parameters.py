"""Network parameters: what every node of the network agrees on, signed by the network map, all versions kept."""

import enum
import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography import x509
from google.protobuf.message import DecodeError
from p2pet.network.v1 import network_pb2

from p2petd.errors import CertificateError, NetworkError
from p2petd.identity.certificates import (
    OID_LEDGER_USAGE,
    Role,
    decode_certificates,
    ledger_key,
    network_id,
    roles,
    verify_chain,
)
from p2petd.ledger.parameters import ContractParameters
from p2petd.native import KeyFormatError, SigningKey, check_key, verify_signatures
from p2petd.units import HOUR_NS

PURPOSE_PARAMETERS = 6
SCHEME_ED25519 = 1
SIGNED_PARAMETERS_BYTES_MAX = 262_144
TRANSACTION_BYTES_MAX = 1_000_000
INPUTS_MAX = 4096
TEXT_MAX = 100
ENTRIES_MAX = 1000
ATTACHMENT_BYTES_MAX = 2**32
DEADLINE_NS_MAX = 100 * 365 * 24 * HOUR_NS
ORACLE_FACTS = frozenset({"forecast", "reading", "tariff"})


class NotaryMode(enum.IntEnum):
    """What a notary sees and checks."""

    VERIFYING = 1
    UNIQUENESS_ONLY = 2


@dataclass(frozen=True)
class Notary:
    """A notary service of the network; `service_key` has 32 bytes."""

    name: str
    service_key: bytes
    mode: NotaryMode


@dataclass(frozen=True)
class ContractVersion:
    """A permitted version of a contract; `code_hash` is SHA-256 over its sorted source files."""

    name: str
    version: int
    code_hash: bytes


@dataclass(frozen=True)
class Currency:
    """A currency and the 32-byte identity key of a party that may issue it; each issuer is an entry of its own."""

    code: str
    issuer: bytes


@dataclass(frozen=True)
class Oracle:
    """An oracle's 32-byte key and which of ORACLE_FACTS it may vouch for."""

    name: str
    key: bytes
    facts: frozenset[str]


@dataclass(frozen=True)
class Market:
    """A market's 32-byte key, and the service key of the notary that guards its pledges."""

    name: str
    key: bytes
    settlement_notary: bytes


@dataclass(frozen=True)
class NetworkParameters:
    """One version of the parameters, in force from `valid_from_ns`."""

    version: int
    network_id: bytes
    valid_from_ns: int
    notaries: tuple[Notary, ...]
    contracts: tuple[ContractVersion, ...]
    energy_types: tuple[str, ...]
    market_time_unit_ns: int
    transaction_bytes_max: int
    inputs_max: int
    negative_prices: bool
    currencies: tuple[Currency, ...]
    attachment_bytes_max: int = 0
    oracles: tuple[Oracle, ...] = ()
    registrars: tuple[bytes, ...] = ()
    markets: tuple[Market, ...] = ()
    trade_deadline_ns: int = 0
    reading_deadline_ns: int = 0
    issue_attested: bool = False
    self_trades: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def encode(self) -> bytes:
        """The canonical `network.v1.NetworkParameters`."""
        message = network_pb2.NetworkParameters(
            version=self.version,
            network_id=self.network_id,
            valid_from_ns=self.valid_from_ns,
            notaries=[
                network_pb2.NotaryEntry(name=n.name, service_key=n.service_key, mode=n.mode) for n in self.notaries
            ],
            contracts=[
                network_pb2.ContractEntry(name=c.name, version=c.version, code_hash=c.code_hash) for c in self.contracts
            ],
            energy_types=self.energy_types,
            market_time_unit_ns=self.market_time_unit_ns,
            transaction_bytes_max=self.transaction_bytes_max,
            inputs_max=self.inputs_max,
            negative_prices=self.negative_prices,
            currencies=[network_pb2.CurrencyEntry(code=c.code, issuer=c.issuer) for c in self.currencies],
            attachment_bytes_max=self.attachment_bytes_max,
            oracles=[network_pb2.OracleEntry(name=o.name, key=o.key, facts=sorted(o.facts)) for o in self.oracles],
            registrars=self.registrars,
            markets=[
                network_pb2.MarketEntry(name=m.name, key=m.key, settlement_notary=m.settlement_notary)
                for m in self.markets
            ],
            trade_deadline_ns=self.trade_deadline_ns,
            reading_deadline_ns=self.reading_deadline_ns,
            issue_attested=self.issue_attested,
            self_trades=self.self_trades,
        )
        return message.SerializeToString(deterministic=True)

    @staticmethod
    def decode(data: bytes) -> "NetworkParameters":
        """Strictly: raises NetworkError unless `data` is canonical and every value is in range."""
        message = network_pb2.NetworkParameters()
        try:
            message.ParseFromString(data)
        except DecodeError:
            raise NetworkError("the network parameters do not decode") from None
        parameters = _from_message(message)
        # Unknown fields and other spellings of the same values are lost on the way, and show here.
        if parameters.encode() != data:
            raise NetworkError(
                "the network parameters are not canonical or hold fields that this version does not know"
            )
        return parameters

    @property
    def hash(self) -> bytes:
        """SHA-256 of the serialised parameters: what transactions name in group 8."""
        return hashlib.sha256(self.encode()).digest()

    def mode_of(self, service_key: bytes) -> NotaryMode | None:
        """The mode of a notary; None for one that is not listed."""
        return next((notary.mode for notary in self.notaries if notary.service_key == service_key), None)

    def contract_parameters(self) -> ContractParameters:
        """The part that contracts read."""
        issuers: dict[str, frozenset[bytes]] = {}
        for currency in self.currencies:
            issuers[currency.code] = issuers.get(currency.code, frozenset()) | {currency.issuer}
        return ContractParameters(
            energy_types=frozenset(self.energy_types),
            market_time_unit_ns=self.market_time_unit_ns,
            negative_prices=self.negative_prices,
            currencies=MappingProxyType(issuers),
            contracts=MappingProxyType({(c.name, c.version): c.code_hash for c in self.contracts}),
            notaries=tuple(notary.service_key for notary in self.notaries),
            oracles=MappingProxyType({oracle.key: oracle.facts for oracle in self.oracles}),
            registrars=frozenset(self.registrars),
            markets=MappingProxyType({market.key: market.settlement_notary for market in self.markets}),
            trade_deadline_ns=self.trade_deadline_ns,
            reading_deadline_ns=self.reading_deadline_ns,
            issue_attested=self.issue_attested,
            self_trades=self.self_trades,
        )

    def rules_entry(self) -> tuple[bytes, list[tuple[bytes, int]], int, int]:
        """What `native.Rules` takes for this version."""
        notaries = [(n.service_key, int(n.mode)) for n in self.notaries]
        return (self.hash, notaries, self.transaction_bytes_max, self.inputs_max)


@dataclass(frozen=True)
class SignedParameters:
    """Parameters whose signature and certificates were verified. `encoded` is the `SignedNetworkParameters`."""

    parameters: NetworkParameters
    hash: bytes
    encoded: bytes


def sign_parameters(parameters: NetworkParameters, map_key: SigningKey, certificates: Sequence[bytes]) -> bytes:
    """The `SignedNetworkParameters`; `certificates` is the map's chain as DER, leaf first, without the root."""
    data = parameters.encode()
    digest = hashlib.sha256(data).digest()
    signature = map_key.sign(parameters.network_id, PURPOSE_PARAMETERS, digest)
    message = network_pb2.SignedNetworkParameters(
        parameters=data, scheme=SCHEME_ED25519, signature=signature, certificates=certificates
    )
    return message.SerializeToString(deterministic=True)


def verify_parameters(encoded: bytes, root: x509.Certificate) -> SignedParameters:
    """Step 1 of docs/protocol.md, section 6; raises NetworkError.

    1. The message decodes, the parameters in it strictly.
    2. The network id in the parameters is that of the root.
    3. The root itself issued the one certificate; it grants the role map, and was valid when the parameters came into
       force: old versions outlive the certificate that signed them.
    4. The signature, purpose 6, is by the leaf's key.
    """
    message = network_pb2.SignedNetworkParameters()
    if len(encoded) > SIGNED_PARAMETERS_BYTES_MAX:
        raise NetworkError(f"signed network parameters have at most {SIGNED_PARAMETERS_BYTES_MAX} bytes")
    try:
        message.ParseFromString(encoded)
    except DecodeError:
        raise NetworkError("the signed network parameters do not decode") from None
    parameters = NetworkParameters.decode(message.parameters)
    identifier = network_id(root)
    if parameters.network_id != identifier:
        raise NetworkError("the parameters are of another network than the root certificate")
    try:
        chain = decode_certificates(message.certificates)
        if len(chain) > 1:
            raise NetworkError("the parameters are not signed by a map that the network root itself certified")
        verify_chain(chain, root, parameters.valid_from_ns, OID_LEDGER_USAGE)
        if Role.MAP not in roles(chain[0]):
            raise NetworkError("the parameters are signed by a node that is not the network map")
        key = ledger_key(chain[0])
    except CertificateError as error:
        raise NetworkError(f"the parameters' signer is not certified: {error}") from error
    digest = hashlib.sha256(message.parameters).digest()
    item = (key, identifier, PURPOSE_PARAMETERS, digest, message.signature)
    if message.scheme != SCHEME_ED25519 or verify_signatures([item]) != [True]:
        raise NetworkError("the signature of the network parameters does not verify")
    return SignedParameters(parameters, digest, encoded)


def _from_message(message: network_pb2.NetworkParameters) -> NetworkParameters:
    try:
        notaries = tuple(Notary(n.name, n.service_key, NotaryMode(n.mode)) for n in message.notaries)
    except ValueError:
        raise NetworkError("the network parameters list a notary with an unknown mode") from None
    return NetworkParameters(
        version=message.version,
        network_id=message.network_id,
        valid_from_ns=message.valid_from_ns,
        notaries=notaries,
        contracts=tuple(ContractVersion(c.name, c.version, c.code_hash) for c in message.contracts),
        energy_types=tuple(message.energy_types),
        market_time_unit_ns=message.market_time_unit_ns,
        transaction_bytes_max=message.transaction_bytes_max,
        inputs_max=message.inputs_max,
        negative_prices=message.negative_prices,
        currencies=tuple(Currency(c.code, c.issuer) for c in message.currencies),
        attachment_bytes_max=message.attachment_bytes_max,
        oracles=tuple(Oracle(o.name, o.key, frozenset(o.facts)) for o in message.oracles),
        registrars=tuple(message.registrars),
        markets=tuple(Market(m.name, m.key, m.settlement_notary) for m in message.markets),
        trade_deadline_ns=message.trade_deadline_ns,
        reading_deadline_ns=message.reading_deadline_ns,
        issue_attested=message.issue_attested,
        self_trades=message.self_trades,
    )


def _check(parameters: NetworkParameters) -> None:
    _check_range("version", parameters.version, 1, 2**32 - 1)
    _check_range("market_time_unit_ns", parameters.market_time_unit_ns, 1, 2**63 - 1)
    _check_range("transaction_bytes_max", parameters.transaction_bytes_max, 1, TRANSACTION_BYTES_MAX)
    _check_range("inputs_max", parameters.inputs_max, 1, INPUTS_MAX)
    _check_range("valid_from_ns", parameters.valid_from_ns, 1, 2**63 - 1)
    if len(parameters.network_id) != 32:
        raise NetworkError("the network id of the parameters does not have 32 bytes")
    if not parameters.notaries:
        raise NetworkError("the network parameters list no notary")
    _check_entries("notary", [n.name for n in parameters.notaries], [n.name for n in parameters.notaries])
    _check_keys("service key of notary", [(n.name, n.service_key) for n in parameters.notaries])
    if len({n.service_key for n in parameters.notaries}) != len(parameters.notaries):
        raise NetworkError("the network parameters list two notaries with one service key")
    contracts = [(c.name, c.version) for c in parameters.contracts]
    _check_entries("contract version", contracts, [c.name for c in parameters.contracts])
    for contract in parameters.contracts:
        _check_range(f"version of contract {contract.name}", contract.version, 1, 2**32 - 1)
        if len(contract.code_hash) != 32:
            raise NetworkError(f"the code hash of contract {contract.name} does not have 32 bytes")
    _check_entries("energy type", parameters.energy_types, parameters.energy_types)
    issuers = [(c.code, c.issuer) for c in parameters.currencies]
    _check_entries("issuer of a currency", issuers, [c.code for c in parameters.currencies])
    _check_keys("issuer of currency", [(c.code, c.issuer) for c in parameters.currencies])
    _check_roles(parameters)


def _check_roles(parameters: NetworkParameters) -> None:
    """Oracles, registrars and markets, and the times that they work with."""
    _check_range("attachment_bytes_max", parameters.attachment_bytes_max, 0, ATTACHMENT_BYTES_MAX)
    _check_range("trade_deadline_ns", parameters.trade_deadline_ns, -DEADLINE_NS_MAX, DEADLINE_NS_MAX)
    _check_range("reading_deadline_ns", parameters.reading_deadline_ns, 0, DEADLINE_NS_MAX)
    _check_entries("oracle", [o.key for o in parameters.oracles], [o.name for o in parameters.oracles])
    _check_keys("key of oracle", [(o.name, o.key) for o in parameters.oracles])
    for oracle in parameters.oracles:
        if not oracle.facts or not oracle.facts <= ORACLE_FACTS:
            raise NetworkError(f"the oracle {oracle.name} of the network parameters vouches for {sorted(oracle.facts)}")
    _check_entries("registrar", parameters.registrars, ())
    _check_keys("registrar", [(key.hex(), key) for key in parameters.registrars])
    _check_entries("market", [m.key for m in parameters.markets], [m.name for m in parameters.markets])
    _check_keys("key of market", [(m.name, m.key) for m in parameters.markets])
    services = {notary.service_key for notary in parameters.notaries}
    for market in parameters.markets:
        if market.settlement_notary not in services:
            raise NetworkError(f"the settlement notary of the market {market.name} is not in the network parameters")


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise NetworkError(f"{what} in the network parameters is {value}; it should be {low} to {high}")


def _check_entries(what: str, keys: Sequence[Hashable], texts: Iterable[str]) -> None:
    if len(keys) > ENTRIES_MAX or len(set(keys)) != len(keys):
        raise NetworkError(f"the network parameters list a {what} twice, or more than {ENTRIES_MAX}")
    if any(not 1 <= len(text) <= TEXT_MAX for text in texts):
        raise NetworkError(f"the name of a {what} in the network parameters should have 1 to {TEXT_MAX} characters")


def _check_keys(what: str, keys: Iterable[tuple[str, bytes]]) -> None:
    for name, key in keys:
        try:
            check_key(key)
        except KeyFormatError as error:
            raise NetworkError(f"the {what} {name} in the network parameters is not a valid key: {error}") from error
