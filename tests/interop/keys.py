"""Keys that may be composite, encumbrances and locks, from section 2 of docs/protocol.md alone."""

import hashlib
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.interop import ed25519
from tests.interop.wire import require

DEPTH_MAX, CHILDREN_MAX, LEAVES_MAX = 4, 32, 64


@dataclass(frozen=True)
class Threshold:
    """Children with their weights; a child is an Ed25519 key or another threshold."""

    threshold: int
    children: tuple[tuple[int, "bytes | Threshold"], ...]

    def leaves(self) -> list[bytes]:
        return [leaf for _, child in self.children for leaf in leaves_of(child)]

    def satisfied(self, signed: Collection[bytes]) -> bool:
        reached = sum(weight for weight, child in self.children if satisfied(child, signed))
        return reached >= self.threshold


Node = bytes | Threshold


def leaves_of(node: Node) -> list[bytes]:
    return node.leaves() if isinstance(node, Threshold) else [node]


def satisfied(node: Node, signed: Collection[bytes]) -> bool:
    return node.satisfied(signed) if isinstance(node, Threshold) else node in signed


def key_id(key: bytes) -> bytes:
    return key if len(key) == 32 else hashlib.sha256(b"\x05" + key).digest()


def read_key(key: bytes) -> Node:
    """An Ed25519 key, or a composite key in its one encoding."""
    if len(key) == 32:
        return key
    require(key[:2] == b"\x01\x01", "key", "neither 32 bytes nor a threshold")
    node, rest = _node(key[1:], 0)
    require(not rest, "key", "bytes after the last child")
    leaves = leaves_of(node)
    require(len(leaves) <= LEAVES_MAX, "key", f"{len(leaves)} leaves")
    require(len(set(leaves)) == len(leaves), "key", "a leaf stands twice")
    return node


def _node(data: bytes, depth: int) -> tuple[Node, bytes]:
    """The node that `data` begins with, and what follows it."""
    if data[:1] == b"\x00":
        require(len(data) >= 33, "key", "cut short")
        return data[1:33], data[33:]
    require(data[:1] == b"\x01" and len(data) >= 4, "key", "no node")
    require(depth < DEPTH_MAX, "key", "nested too deep")
    threshold, count = struct.unpack(">HB", data[1:4])
    require(1 <= count <= CHILDREN_MAX, "key", f"{count} children")
    rest, children, previous = data[4:], [], b""
    for _ in range(count):
        require(len(rest) > 2, "key", "cut short")
        weight = int.from_bytes(rest[:2])
        node, after = _node(rest[2:], depth + 1)
        encoded = rest[2 : len(rest) - len(after)]
        require(weight > 0, "key", "weight 0")
        require(encoded > previous, "key", "children do not ascend")
        children.append((weight, node))
        rest, previous = after, encoded
    require(1 <= threshold <= sum(weight for weight, _ in children), "key", f"threshold {threshold}")
    return Threshold(threshold, tuple(children)), rest


def check_cycles(encumbered_by: Sequence[int]) -> None:
    """Each encumbered output is named by exactly one other encumbered output."""
    named = [by - 1 for by in encumbered_by if by]
    require(len(set(named)) == len(named), "encumbrance", "an output encumbers two")
    for index, by in enumerate(encumbered_by):
        require(by <= len(encumbered_by), "encumbrance", "of an output that does not exist")
        require(by != index + 1, "encumbrance", "of an output by itself")
    encumbered = {index for index, by in enumerate(encumbered_by) if by}
    require(encumbered == set(named), "encumbrance", "of an output by one that is not")


def check_companions(refs: Sequence[bytes], encumbered_by: Sequence[int]) -> None:
    """Each encumbered input's companion, an output of the same transaction, is an input too."""
    for ref, by in zip(refs, encumbered_by, strict=True):
        require(not by or ref[:32] + struct.pack(">I", by - 1) in refs, "encumbered alone", ref.hex())


def lock_of(owner: bytes, salt: bytes, index: int) -> bytes:
    """A + b·B for the owner's key A."""
    require(ed25519.acceptable_key(owner), "key", owner.hex())
    point = ed25519.decompress(owner)
    assert point is not None
    digest = hashlib.sha512(b"p2pet/lock\x00" + salt + struct.pack(">I", index) + owner).digest()
    scalar = int.from_bytes(digest, "little") % ed25519.L
    return ed25519.compress(ed25519.add(point, ed25519.multiply(scalar, ed25519.BASE)))
