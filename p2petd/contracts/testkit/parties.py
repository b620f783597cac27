"""Parties with keys that never change, for tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TypeAlias

from p2petd import native

_names: dict[bytes, str] = {}
_encodings: dict[bytes, bytes] = {}


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody with a key. `key` is what states name; `signs_as` is what stands in a transaction's list of signers."""

    name: str
    signing_key: native.SigningKey

    @property
    def key(self) -> bytes:
        return self.signing_key.public

    @property
    def signs_as(self) -> bytes:
        return self.signing_key.public


@dataclass(frozen=True, slots=True)
class Composite:
    """Several parties as one owner: `key` is the 32-byte id of the composite key, `signs_as` its encoding."""

    name: str
    key: bytes
    signs_as: bytes


Signer: TypeAlias = Party | Composite | bytes


@cache
def party(name: str) -> Party:
    """The same key for the same name, always. Never use it outside tests."""
    made = Party(name, native.SigningKey.from_seed(sha256(b"test party " + name.encode()).digest()))
    _names[made.key] = name
    return made


def composite(threshold: int, *members: Party | Composite | tuple[int, Party | Composite]) -> Composite:
    """A key that is satisfied when members of that much weight have signed; a member alone weighs 1.

    Raises KeyFormatError for weights and thresholds that are out of range.
    """
    weighted: Sequence[tuple[int, Party | Composite]] = [m if isinstance(m, tuple) else (1, m) for m in members]
    encoding = native.composite_key(threshold, [(weight, member.signs_as) for weight, member in weighted])
    names = " + ".join(member.name if weight == 1 else f"{weight}×{member.name}" for weight, member in weighted)
    made = Composite(f"({threshold} of {names})", native.key_id(encoding), encoding)
    _names[made.key], _encodings[made.key] = made.name, encoding
    return made


def signing_name(signer: Signer) -> bytes:
    """What stands in a list of signers: of the id of a composite key that the kit has made, the key itself."""
    return _encodings.get(signer, signer) if isinstance(signer, bytes) else signer.signs_as


def name_of(key: bytes) -> str:
    """The name of the party with this key; of other bytes, the first few in hexadecimal."""
    if key in _names:
        return _names[key]
    return f"{len(key)} bytes {key[:4].hex()}…" if len(key) > 4 else repr(key)


PRODUCER, BANK, NOTARY, OTHER_NOTARY = party("producer"), party("bank"), party("notary"), party("other notary")
REGISTRAR, METERING, TARIFFS, MARKET = party("registrar"), party("metering"), party("tariffs"), party("market")
"""Whoever registers meters; the oracles of readings and forecasts, and of tariffs; a market."""
