"""Tear-offs, transactions, encodings, signatures and logs that the independent verifier must refuse."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.interop import ed25519, forge, wire
from tests.interop import verifier as v
from tests.interop.corruption import Case, cases, part_of, refused, swapped
from tests.interop.forge import NOW_NS, SIGNERS, encode, key_of, seed, sign_id
from tests.interop.notary_log import NO_CHAIN, crc32c, scan
from tests.interop.test_l07_vectors import IDS, TEAR_OFFS, network, raw
from tests.interop.wire import decode

OTHER = seed("something else")

# Tear-offs. The one that is corrupted shows outputs 0, 3 and 6 of 7.

OUTPUTS_APART = decode(wire.TearOff, bytes.fromhex(TEAR_OFFS["vectors"][2]["tear_off"]))
ONE_OUTPUT = decode(wire.TearOff, bytes.fromhex(TEAR_OFFS["vectors"][0]["tear_off"]))
EMPTY_SHOWN = decode(wire.TearOff, bytes.fromhex(TEAR_OFFS["vectors"][3]["tear_off"]))
SALT, GROUPS = bytes.fromhex(IDS["every group"]["salt"]), raw(IDS["every group"]["groups"])


def group(tear_off: wire.TearOff = OUTPUTS_APART, number: int = 0, **changes: Any) -> wire.TearOff:
    return replace(tear_off, groups=part_of(tear_off.groups, number, **changes))


def shown(place: int, **changes: Any) -> wire.TearOff:
    return group(components=part_of(OUTPUTS_APART.groups[0].components, place, **changes))


def inner_node_as_leaf() -> wire.TearOff:
    """Outputs 0 and 1 stand as one component of a tree that is one smaller: their leaves as nonce and component."""
    leaves = forge.leaves(SALT, v.OUTPUTS, GROUPS[v.OUTPUTS])
    component = wire.RevealedComponent(0, leaves[0], leaves[1])
    siblings = forge.prove([v.tree(leaves[:2], 0x01), *leaves[2:]], [0], 0x01)
    return group(ONE_OUTPUT, count=6, components=(component,), siblings=siblings)


def whole_group_with_one_hidden() -> wire.TearOff:
    parts = tuple(
        wire.RevealedComponent(i, v.nonce(SALT, v.OUTPUTS, i), component)
        for i, component in enumerate(GROUPS[v.OUTPUTS][:6])
    )
    return group(ONE_OUTPUT, count=6, components=parts, siblings=())


def first_nonce(cut: int) -> wire.TearOff:
    """The boundary of nonce and component moves, so that the leaf's bytes stay."""
    one = OUTPUTS_APART.groups[0].components[0]
    both = one.nonce + one.component
    return shown(0, nonce=both[:cut], component=both[cut:])


TEAR_OFF_CASES: list[Case] = [
    ("index + 1", "id", lambda: shown(0, index=1)),
    ("index - 1", "proof", lambda: shown(2, index=5)),
    ("index = count", "index", lambda: shown(2, index=7)),
    ("count + 1", "id", lambda: group(ONE_OUTPUT, count=8)),
    ("count - 1", "proof", lambda: group(ONE_OUTPUT, count=5)),
    ("a count of 2^32 - 1", "proof", lambda: group(ONE_OUTPUT, count=2**32 - 1)),
    ("another group", "id", lambda: group(group=3)),
    ("group 12", "index", lambda: group(group=12)),
    ("inner node as leaf", "id", inner_node_as_leaf),
    ("hidden component while claiming a whole group", "id", whole_group_with_one_hidden),
    ("hidden group shown as empty", "id", lambda: group(count=0, components=(), siblings=())),
    ("empty group with a sibling", "proof", lambda: group(EMPTY_SHOWN, 3, siblings=(OTHER,))),
    ("group of which nothing is shown", "index", lambda: group(components=(), siblings=(OTHER,))),
    ("tampered nonce", "id", lambda: shown(1, nonce=OTHER)),
    ("nonce of 31 bytes", "nonce", lambda: first_nonce(31)),
    ("nonce of 33 bytes", "nonce", lambda: first_nonce(33)),
    ("tampered component", "id", lambda: shown(1, component=b"\x00")),
    ("swapped siblings", "id", lambda: group(siblings=swapped(OUTPUTS_APART.groups[0].siblings))),
    ("extra sibling", "proof", lambda: group(siblings=(*OUTPUTS_APART.groups[0].siblings, OTHER))),
    ("missing sibling", "proof", lambda: group(siblings=OUTPUTS_APART.groups[0].siblings[:-1])),
    ("sibling of 31 bytes", "proof", lambda: group(siblings=(OTHER[:31], *OUTPUTS_APART.groups[0].siblings[1:]))),
    ("swapped top siblings", "id", lambda: replace(OUTPUTS_APART, siblings=swapped(OUTPUTS_APART.siblings))),
    ("extra top sibling", "proof", lambda: replace(OUTPUTS_APART, siblings=(*OUTPUTS_APART.siblings, OTHER))),
    ("missing top sibling", "proof", lambda: replace(OUTPUTS_APART, siblings=OUTPUTS_APART.siblings[1:])),
    ("unknown format", "format", lambda: replace(OUTPUTS_APART, format=2)),
    ("no format", "format", lambda: replace(OUTPUTS_APART, format=0)),
    ("groups not ascending", "order", lambda: replace(EMPTY_SHOWN, groups=swapped(EMPTY_SHOWN.groups))),
    ("a group twice", "order", lambda: replace(OUTPUTS_APART, groups=OUTPUTS_APART.groups * 2)),
    ("not ascending", "order", lambda: group(components=swapped(OUTPUTS_APART.groups[0].components))),
    ("a component twice", "order", lambda: group(components=OUTPUTS_APART.groups[0].components[:1] * 2)),
]


@cases(TEAR_OFF_CASES)
def test_l04_tear_off_refused(check: str, corrupt: Callable[[], wire.TearOff]) -> None:
    def act() -> None:
        id_, _ = v.read_tear_off(decode(wire.TearOff, encode(corrupt())))
        wire.require(id_.hex() == TEAR_OFFS["id"], "id")

    refused(check, act)


# Transactions.

ISSUE = decode(wire.Transaction, bytes.fromhex(IDS["issue"]["transaction"]))


def groups_with(number: int, *components: bytes) -> wire.Transaction:
    changed = list(ISSUE.groups)
    changed[number] = wire.ComponentGroup(components)
    return replace(ISSUE, groups=tuple(changed))


def output(data: bytes) -> wire.Transaction:
    return groups_with(v.OUTPUTS, data)


OUTPUT, NOTARY = ISSUE.groups[v.OUTPUTS].components[0], ISSUE.groups[v.NOTARY].components[0]
KEYS = sorted(key_of(secret) for secret in SIGNERS)
SIGNED = [b"\x00\x20" + key for key in KEYS]

TRANSACTION_CASES: list[Case] = [
    ("salt of 31 bytes", "salt", lambda: replace(ISSUE, salt=ISSUE.salt[:31])),
    ("salt of 33 bytes", "salt", lambda: replace(ISSUE, salt=ISSUE.salt + b"\x01")),
    ("no salt", "salt", lambda: replace(ISSUE, salt=b"")),
    ("unknown format", "format", lambda: replace(ISSUE, format=2)),
    ("11 groups", "groups", lambda: replace(ISSUE, groups=ISSUE.groups[:-1])),
    ("13 groups", "groups", lambda: replace(ISSUE, groups=(*ISSUE.groups, wire.ComponentGroup()))),
    ("4097 components", "limit", lambda: groups_with(v.CLAIMS, *[OTHER] * 4097)),
    ("input of 35 bytes", "shape", lambda: groups_with(v.INPUTS, bytes(35))),
    ("no notary", "shape", lambda: groups_with(v.NOTARY)),
    ("two notaries", "shape", lambda: groups_with(v.NOTARY, NOTARY, OTHER)),
    ("two windows", "shape", lambda: groups_with(v.WINDOW, bytes(16), bytes(16))),
    ("window of 15 bytes", "shape", lambda: groups_with(v.WINDOW, bytes(15))),
    ("no parameters", "shape", lambda: groups_with(v.PARAMETERS)),
    ("type 2", "shape", lambda: groups_with(v.TYPE, b"\x02")),
    ("type of two bytes", "shape", lambda: groups_with(v.TYPE, b"\x01\x00")),
    ("output lock", "shape", lambda: groups_with(v.LOCKS, OTHER)),
    ("no signers component", "shape", lambda: groups_with(v.SIGNERS)),
    ("signers not ascending", "shape", lambda: groups_with(v.SIGNERS, SIGNED[1] + SIGNED[0])),
    ("signer twice", "shape", lambda: groups_with(v.SIGNERS, SIGNED[0] * 2)),
    ("key of 33 bytes", "key", lambda: groups_with(v.SIGNERS, b"\x00\x21" + bytes(33))),
    ("signers cut short", "shape", lambda: groups_with(v.SIGNERS, SIGNED[0][:-1])),
    ("output with an unknown field", "canonical", lambda: output(OUTPUT + b"\x40\x01")),
    ("output cut short", "canonical", lambda: output(OUTPUT[:-1])),
]


@cases(TRANSACTION_CASES)
def test_l07_transaction_refused(check: str, corrupt: Callable[[], wire.Transaction]) -> None:
    refused(check, lambda: v.check_shape(v.read_transaction(encode(corrupt()))[1]))


# Encodings that mean the same and are not canonical.

CANONICAL = TEAR_OFFS["vectors"][0]["tear_off"]
ROOT = wire.RootMessage(bytes(32), 1, 77, NOW_NS, 3, bytes(32))

CANONICAL_CASES: list[Case] = [
    ("unknown field", "canonical", lambda: (wire.TearOff, bytes.fromhex(CANONICAL) + b"\x20\x01")),
    ("trailing bytes", "canonical", lambda: (wire.TearOff, bytes.fromhex(CANONICAL) + b"\x00")),
    ("cut short", "canonical", lambda: (wire.TearOff, bytes.fromhex(CANONICAL)[:-1])),
    ("value not minimal", "canonical", lambda: (wire.TearOff, b"\x08\x81\x00")),
    ("tag not minimal", "canonical", lambda: (wire.TearOff, b"\x88\x00\x01")),
    ("length not minimal", "canonical", lambda: (wire.TearOff, b"\x08\x01\x1a\x81\x00\x00")),
    ("singular field twice", "canonical", lambda: (wire.TearOff, b"\x08\x01\x08\x01")),
    ("descending fields", "canonical", lambda: (wire.TearOff, b"\x1a\x01\x00\x08\x01")),
    ("default written out", "canonical", lambda: (wire.RootMessage, b"\x10\x00")),
    ("empty bytes written out", "canonical", lambda: (wire.RootMessage, b"\x0a\x00")),
    ("33 bits in a u32", "canonical", lambda: (wire.RootMessage, b"\x10" + forge.varint(2**32))),
    ("65 bits", "canonical", lambda: (wire.RootMessage, b"\x18" + b"\xff" * 9 + b"\x02")),
    ("varint of 11 bytes", "canonical", lambda: (wire.RootMessage, b"\x18" + b"\xff" * 10 + b"\x01")),
    ("wire type", "canonical", lambda: (wire.RootMessage, b"\x0d" + bytes(4))),
    ("group of wire type 3", "canonical", lambda: (wire.RootMessage, b"\x0b\x0c")),
    ("length beyond the end", "canonical", lambda: (wire.RootMessage, b"\x0a\xff\xff\xff\xff\x0f")),
    ("text that is not UTF-8", "canonical", lambda: (wire.OutputState, b"\x0a\x01\xff")),
    ("missing part", "canonical", lambda: (wire.FinalityProof, b"\x0a\x01\x01")),
]


@cases(CANONICAL_CASES)
def test_l07_not_canonical_refused(check: str, corrupt: Callable[[], tuple[type, bytes]]) -> None:
    message, data = corrupt()
    refused(check, lambda: decode(message, data))


# Signatures: keys and scalars with which careless libraries agree.

MESSAGE = v.signed_message(v.TRANSACTION, network().network_id, OTHER)
GOOD = sign_id(SIGNERS[0], network().network_id, OTHER)
SMALL_ORDER = ed25519.decompress(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))


def with_torsion(key: bytes) -> bytes:
    point = ed25519.decompress(key)
    assert point is not None
    assert SMALL_ORDER is not None
    return ed25519.compress(ed25519.add(point, SMALL_ORDER))


def plus_order(signature: bytes) -> bytes:
    scalar = int.from_bytes(signature[32:], "little") + ed25519.L
    return signature[:32] + scalar.to_bytes(32, "little")


def number_key(number: int) -> bytes:
    return number.to_bytes(32, "little")


SIGNATURE_CASES: list[Case] = [
    ("S >= L", "signature", lambda: replace(GOOD, signature=plus_order(GOOD.signature))),
    ("signature of 63 bytes", "signature", lambda: replace(GOOD, signature=GOOD.signature[:63])),
    ("another R", "signature", lambda: replace(GOOD, signature=GOOD.key + GOOD.signature[32:])),
    ("small-order key", "key", lambda: replace(GOOD, key=number_key(1), signature=number_key(1) + bytes(32))),
    ("mixed-order key", "key", lambda: replace(GOOD, key=with_torsion(GOOD.key))),
    ("non-canonical key", "key", lambda: replace(GOOD, key=number_key(ed25519.P + 1))),
    ("key with a sign at x = 0", "key", lambda: replace(GOOD, key=number_key(1 + 2**255))),
    ("key off the curve", "key", lambda: replace(GOOD, key=number_key(2))),
    ("key of 31 bytes", "key", lambda: replace(GOOD, key=GOOD.key[:31])),
    ("another key", "signature", lambda: replace(GOOD, key=KEYS[0] if GOOD.key == KEYS[1] else KEYS[1])),
    ("another scheme", "scheme", lambda: replace(GOOD, scheme=2)),
    ("another purpose", "signature", lambda: sign_id(SIGNERS[0], network().network_id, OTHER, v.REQUEST)),
    ("another network", "signature", lambda: sign_id(SIGNERS[0], OTHER, OTHER)),
    ("another id", "signature", lambda: sign_id(SIGNERS[0], network().network_id, seed("id"))),
]


@cases(SIGNATURE_CASES)
def test_l07_signature_refused(check: str, corrupt: Callable[[], wire.TransactionSignature]) -> None:
    v.check_signature(GOOD.key, GOOD.scheme, MESSAGE, GOOD.signature)
    bad = corrupt()
    refused(check, lambda: v.check_signature(bad.key, bad.scheme, MESSAGE, bad.signature))


# Logs. Records 1 to 3 are in the first segment, 4 and 5 in the second.

LOG = forge.log_of_two_segments()


def in_segment(number: int, place: int, data: bytes) -> list[tuple[str, bytes]]:
    """The log with some bytes of one segment overwritten."""
    log = list(LOG)
    name, before = log[number]
    log[number] = (name, before[:place] + data + before[place + len(data) :])
    return log


def flipped(number: int, place: int) -> list[tuple[str, bytes]]:
    return in_segment(number, place, bytes([LOG[number][1][place] ^ 0x10]))


def made(payloads: list[bytes], first: int = 1, chain: bytes = NO_CHAIN) -> tuple[str, bytes]:
    return forge.segment(first, chain, payloads)[:2]


def broken_chain() -> list[tuple[str, bytes]]:
    """The second record's chain value is another, and its checksum is right."""
    first = len(made([b"one"])[1]) - 256
    body = (2).to_bytes(8, "big") + OTHER + b"two"
    data = made([b"one", b"two"])[1]
    record = len(b"two").to_bytes(4, "big") + crc32c(forge.SALT + body).to_bytes(4, "big") + body
    return [(LOG[0][0], data[:first] + record + data[first + len(record) :])]


def another_header(first: int, chain: bytes) -> list[tuple[str, bytes]]:
    return [LOG[0], (LOG[1][0], made([b"four"], first, chain)[1])]


def under_another_salt() -> list[tuple[str, bytes]]:
    """Header and records are each right, and made for different segments."""
    name, data = LOG[0]
    other = forge.segment(1, NO_CHAIN, [b"one", b"", b"the third record"], salt=b"tlas")[1]
    return [(name, other[:64] + data[64:])]


LOG_CASES: list[Case] = [
    ("flipped bit of a payload", "log checksum", lambda: flipped(0, 64 + 48)),
    ("flipped bit of a sequence", "log checksum", lambda: flipped(0, 64 + 15)),
    ("flipped bit of a chain value", "log checksum", lambda: flipped(1, 64 + 20)),
    ("flipped bit of a checksum", "log checksum", lambda: flipped(0, 64 + 5)),
    ("flipped bit of a length", "log record", lambda: flipped(0, 64 + 1)),
    ("chain value broken", "log chain", broken_chain),
    ("padding not zero", "log record", lambda: flipped(0, 64 + 48 + 4)),
    ("tail not zero", "log tail", lambda: flipped(0, len(LOG[0][1]) - 1)),
    ("first record removed", "log sequence", lambda: [(LOG[0][0], LOG[0][1][:64] + LOG[0][1][64 + 56 :])]),
    ("another magic", "log header", lambda: in_segment(0, 0, b"P")),
    ("another version", "log header", lambda: in_segment(0, 11, b"\x01")),
    ("flipped bit of the salt", "log header", lambda: flipped(0, 14)),
    ("records under another salt", "log checksum", under_another_salt),
    ("header's checksum", "log header", lambda: flipped(0, 57)),
    ("header cut short", "log header", lambda: [(LOG[0][0], LOG[0][1][:63])]),
    ("segment missing", "log name", lambda: LOG[1:]),
    ("segment of another log", "log header", lambda: another_header(4, OTHER)),
    ("segment's first sequence", "log header", lambda: another_header(5, LOG[1][1][24:56])),
    ("segment's name", "log name", lambda: [LOG[0], ("00000000000000000005.log", LOG[1][1])]),
]


def test_l07_log_of_the_uncorrupted() -> None:
    assert [(record.sequence, record.payload) for record in scan(LOG)] == [
        (1, b"one"),
        (2, b""),
        (3, b"the third record"),
        (4, b"four"),
        (5, b"five"),
    ]


@cases(LOG_CASES)
def test_l07_log_refused(check: str, corrupt: Callable[[], list[tuple[str, bytes]]]) -> None:
    refused(check, lambda: scan(corrupt()))
