"""Ed25519 as section 4 of docs/protocol.md wants it: ZIP-215, and keys that leave no doubt.

Curve arithmetic in plain integers, slow and not constant-time: it only ever sees public data. Points are in extended
coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z (RFC 8032, section 5.1.4).
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def add(p: Point, q: Point) -> Point:
    a = (p[1] - p[0]) * (q[1] - q[0])
    b = (p[1] + p[0]) * (q[1] + q[0])
    c = 2 * p[3] * q[3] * D
    d = 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def equal(p: Point, q: Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def decompress(encoding: bytes) -> Point | None:
    """The point of 32 bytes by ZIP-215: y need not be reduced, and x = 0 may carry a sign. None: not on the curve."""
    number = int.from_bytes(encoding, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % P
    numerator, denominator = (y * y - 1) % P, (D * y * y + 1) % P
    x = numerator * pow(denominator, 3, P) * pow(numerator * pow(denominator, 7, P), (P - 5) // 8, P) % P
    if (denominator * x * x - numerator) % P:
        x = x * SQRT_MINUS_ONE % P
    if (denominator * x * x - numerator) % P:
        return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


def compress(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little")) or NEUTRAL


def acceptable_key(key: bytes) -> bool:
    """Whether the 32 bytes are the canonical encoding of a point without torsion that is not small-order."""
    point = decompress(key) if len(key) == 32 else None
    if point is None or compress(point) != key:
        return False
    return equal(multiply(L, point), NEUTRAL) and not equal(point, NEUTRAL)


def zip215_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether [8][S]B = [8]R + [8][k]A, with S < L and an acceptable key."""
    if len(signature) != 64 or not acceptable_key(key):
        return False
    a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return equal(multiply(8 * s, BASE), add(multiply(8, r), multiply(8 * k, a)))


def valid(key: bytes, message: bytes, signature: bytes) -> bool:
    """As `zip215_valid`; the stock library answers for the signatures on which all agree."""
    if not acceptable_key(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return zip215_valid(key, message, signature)
    return True
