"""The messages of proto/p2pet that a verifier meets, read strictly (docs/protocol.md, section 1).

A message is a frozen dataclass whose fields carry their number and kind; `decode` accepts the canonical bytes only.
"""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

U32, U64, I64, BOOL, BYTES, TEXT = "u32", "u64", "i64", "bool", "bytes", "text"
M = TypeVar("M")


class Refused(Exception):
    """Something failed a check; `check` names it, for tests and people alike."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}" if detail else check)
        self.check = check


def require(condition: bool, check: str, detail: str = "") -> None:
    if not condition:
        raise Refused(check, detail)


def one(number: int, kind: str) -> Any:
    default = {BYTES: b"", TEXT: "", BOOL: False}.get(kind, 0)
    return field(default=default, metadata={"number": number, "kind": kind, "many": False})


def many(number: int, kind: str | type) -> Any:
    return field(default=(), metadata={"number": number, "kind": kind, "many": True})


def part(number: int, kind: type) -> dict[str, Any]:
    """A message in a singular field; it must be there: none that a verifier reads makes sense without its parts."""
    return {"number": number, "kind": kind, "many": False}


def decode(message: type[M], data: bytes) -> M:
    """The message whose canonical encoding is `data`; raises Refused("canonical") for anything else."""
    known = {entry.metadata["number"]: entry for entry in fields(cast(Any, message))}
    values: dict[str, Any] = {}
    position = last = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        require(number in known, "canonical", f"{message.__name__} has no field {number}")
        name, kind, repeated = known[number].name, known[number].metadata["kind"], known[number].metadata["many"]
        require(number > last or (number == last and repeated), "canonical", f"{name} out of order or repeated")
        last = number
        require(wire_type == (0 if kind in (U32, U64, I64, BOOL) else 2), "canonical", f"wire type of {name}")
        value, position = _value(data, position, kind)
        if repeated:
            values[name] = (*values.get(name, ()), value)
            continue
        require(not isinstance(kind, str) or bool(value), "canonical", f"{name} equals its default")
        values[name] = value
    for entry in known.values():
        needed = not isinstance(entry.metadata["kind"], str) and not entry.metadata["many"]
        require(not needed or entry.name in values, "canonical", f"{entry.name} is missing")
    return message(**values)


def _value(data: bytes, position: int, kind: str | type) -> tuple[Any, int]:
    number, position = _varint(data, position)
    if kind == BOOL:
        require(number <= 1, "canonical", "boolean")
        return bool(number), position
    if kind == U32:
        require(number < 2**32, "canonical", "more than 32 bits")
    if kind in (U32, U64):
        return number, position
    if kind == I64:
        return number - (number >> 63 << 64), position
    end = position + number
    require(end <= len(data), "canonical", "cut short")
    chunk = data[position:end]
    if kind == TEXT:
        try:
            return chunk.decode("utf-8"), end
        except UnicodeDecodeError as error:
            raise Refused("canonical", "text is not UTF-8") from error
    return (chunk if isinstance(kind, str) else decode(kind, chunk)), end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        require(position < len(data), "canonical", "cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            require(byte > 0 or place == 0, "canonical", "varint is not minimal")
            require(value < 2**64, "canonical", "more than 64 bits")
            return value, position
    raise Refused("canonical", "varint is longer than 10 bytes")


@dataclass(frozen=True)
class ComponentGroup:
    components: tuple[bytes, ...] = many(1, BYTES)


@dataclass(frozen=True)
class Transaction:
    format: int = one(1, U32)
    salt: bytes = one(2, BYTES)
    groups: tuple[ComponentGroup, ...] = many(3, ComponentGroup)


@dataclass(frozen=True)
class OutputState:
    contract: str = one(1, TEXT)
    contract_version: int = one(2, U32)
    notary: bytes = one(3, BYTES)
    type_name: str = one(4, TEXT)
    schema_version: int = one(5, U32)
    payload: bytes = one(6, BYTES)
    encumbered_by: int = one(7, U32)


@dataclass(frozen=True)
class Command:
    contract: str = one(1, TEXT)
    type_name: str = one(2, TEXT)
    schema_version: int = one(3, U32)
    payload: bytes = one(4, BYTES)


@dataclass(frozen=True)
class TransactionSignature:
    key: bytes = one(1, BYTES)
    scheme: int = one(2, U32)
    signature: bytes = one(3, BYTES)


@dataclass(frozen=True)
class RevealedComponent:
    index: int = one(1, U32)
    nonce: bytes = one(2, BYTES)
    component: bytes = one(3, BYTES)


@dataclass(frozen=True)
class RevealedGroup:
    group: int = one(1, U32)
    count: int = one(2, U32)
    components: tuple[RevealedComponent, ...] = many(3, RevealedComponent)
    siblings: tuple[bytes, ...] = many(4, BYTES)


@dataclass(frozen=True)
class TearOff:
    format: int = one(1, U32)
    groups: tuple[RevealedGroup, ...] = many(2, RevealedGroup)
    siblings: tuple[bytes, ...] = many(3, BYTES)


@dataclass(frozen=True)
class RootMessage:
    notary: bytes = one(1, BYTES)
    mode: int = one(2, U32)
    sequence: int = one(3, U64)
    decided_at_ns: int = one(4, I64)
    count: int = one(5, U32)
    root: bytes = one(6, BYTES)


@dataclass(frozen=True)
class WorkerCertificate:
    service_key: bytes = one(1, BYTES)
    worker_key: bytes = one(2, BYTES)
    not_before_ns: int = one(3, I64)
    not_after_ns: int = one(4, I64)
    scheme: int = one(5, U32)
    signature: bytes = one(6, BYTES)


@dataclass(frozen=True, kw_only=True)
class BatchProof:
    root: RootMessage = field(metadata=part(1, RootMessage))
    index: int = one(2, U32)
    path: tuple[bytes, ...] = many(3, BYTES)
    worker: WorkerCertificate = field(metadata=part(4, WorkerCertificate))
    scheme: int = one(5, U32)
    signature: bytes = one(6, BYTES)


@dataclass(frozen=True, kw_only=True)
class FinalityProof:
    transaction_id: bytes = one(1, BYTES)
    batch: BatchProof = field(metadata=part(2, BatchProof))


@dataclass(frozen=True, kw_only=True)
class InputProof:
    creator: TearOff = field(metadata=part(1, TearOff))
    batch: BatchProof = field(metadata=part(2, BatchProof))


@dataclass(frozen=True)
class Proposal:
    transaction: bytes = one(1, BYTES)
    signatures: tuple[TransactionSignature, ...] = many(2, TransactionSignature)
    input_proofs: tuple[bytes, ...] = many(3, BYTES)


@dataclass(frozen=True)
class NotarisationRequest:
    proposal: bytes = one(1, BYTES)
    caller: bytes = one(2, BYTES)
    scheme: int = one(3, U32)
    signature: bytes = one(4, BYTES)
    uniqueness_proposal: bytes = one(5, BYTES)


@dataclass(frozen=True)
class UniquenessProposal:
    transaction: TearOff = field(metadata=part(1, TearOff))
    input_proofs: tuple[bytes, ...] = many(2, BYTES)
    unlock_signatures: tuple[bytes, ...] = many(3, BYTES)


@dataclass(frozen=True)
class NotarisationReply:
    """One of the two is set; the error stays as it is serialised."""

    finality_proof: bytes = one(1, BYTES)
    error: bytes = one(2, BYTES)


@dataclass(frozen=True)
class NotaryEntry:
    name: str = one(1, TEXT)
    service_key: bytes = one(2, BYTES)
    mode: int = one(3, U32)


@dataclass(frozen=True)
class ContractEntry:
    name: str = one(1, TEXT)
    version: int = one(2, U32)
    code_hash: bytes = one(3, BYTES)


@dataclass(frozen=True)
class CurrencyEntry:
    code: str = one(1, TEXT)
    issuer: bytes = one(2, BYTES)


@dataclass(frozen=True)
class OracleEntry:
    name: str = one(1, TEXT)
    key: bytes = one(2, BYTES)
    facts: tuple[str, ...] = many(3, TEXT)


@dataclass(frozen=True)
class MarketEntry:
    name: str = one(1, TEXT)
    key: bytes = one(2, BYTES)
    settlement_notary: bytes = one(3, BYTES)


@dataclass(frozen=True)
class NetworkParameters:
    version: int = one(1, U32)
    network_id: bytes = one(2, BYTES)
    valid_from_ns: int = one(3, I64)
    notaries: tuple[NotaryEntry, ...] = many(4, NotaryEntry)
    contracts: tuple[ContractEntry, ...] = many(5, ContractEntry)
    energy_types: tuple[str, ...] = many(6, TEXT)
    market_time_unit_ns: int = one(7, I64)
    transaction_bytes_max: int = one(8, U32)
    inputs_max: int = one(9, U32)
    negative_prices: bool = one(10, BOOL)
    currencies: tuple[CurrencyEntry, ...] = many(11, CurrencyEntry)
    attachment_bytes_max: int = one(12, U64)
    oracles: tuple[OracleEntry, ...] = many(13, OracleEntry)
    registrars: tuple[bytes, ...] = many(14, BYTES)
    markets: tuple[MarketEntry, ...] = many(15, MarketEntry)
    trade_deadline_ns: int = one(16, I64)
    reading_deadline_ns: int = one(17, I64)
    issue_attested: bool = one(18, BOOL)
    self_trades: bool = one(19, BOOL)


@dataclass(frozen=True)
class SignedNetworkParameters:
    parameters: bytes = one(1, BYTES)
    scheme: int = one(2, U32)
    signature: bytes = one(3, BYTES)
    certificates: tuple[bytes, ...] = many(4, BYTES)


@dataclass(frozen=True)
class NodeInfo:
    name: str = one(1, TEXT)
    identity: bytes = one(2, BYTES)
    addresses: tuple[str, ...] = many(3, TEXT)
    roles: tuple[str, ...] = many(4, TEXT)
    platform_version: int = one(5, U32)
    serial: int = one(6, U64)
    notary_service_key: bytes = one(7, BYTES)


@dataclass(frozen=True)
class SignedNodeInfo:
    node_info: bytes = one(1, BYTES)
    scheme: int = one(2, U32)
    signature: bytes = one(3, BYTES)
    certificates: tuple[bytes, ...] = many(4, BYTES)


@dataclass(frozen=True)
class EnergyState:
    energy_type: str = one(1, TEXT)
    quantity_wh: int = one(2, I64)
    delivery_start_ns: int = one(3, I64)
    delivery_end_ns: int = one(4, I64)
    asked_price_micro_per_kwh: int = one(5, I64)
    issuer: bytes = one(6, BYTES)
    owner: bytes = one(7, BYTES)
    meter: str = one(8, TEXT)
    zone: str = one(9, TEXT)
    lot_id: bytes = one(10, BYTES)


@dataclass(frozen=True)
class ExportedTransaction:
    """`vault.v1.GetFinalityProofResponse`."""

    finality_proof: bytes = one(1, BYTES)
    signed_transaction: bytes = one(2, BYTES)
    signed_parameters: bytes = one(3, BYTES)
