"""Opaque page tokens over ordered keys."""

import base64
import binascii

from p2petd.errors import PageTokenInvalid
from p2petd.store.changes import Reader
from p2petd.store.tables import Table

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000


def page_size(wanted: int) -> int:
    """Raises PageTokenInvalid above the limit; 0 is the default."""
    if wanted > PAGE_SIZE_MAX:
        raise PageTokenInvalid(f"a page has at most {PAGE_SIZE_MAX} entries, {wanted} were asked for")
    return wanted or PAGE_SIZE_DEFAULT


def encode_token(key: bytes | None) -> str:
    return "" if key is None else base64.urlsafe_b64encode(key).decode()


def decode_token(token: str) -> bytes:
    """The key after which the page starts; raises PageTokenInvalid."""
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise PageTokenInvalid("the page token is not one that this node gave") from None


def newest_first(store: Reader, table: Table, token: str, size: int) -> tuple[list[bytes], str]:
    """A page of keys from the newest to the oldest, and the token of the next page."""
    end = decode_token(token) if token else None
    rows = store.scan(table, b"", end, size + 1, reverse=True)
    keys = [key for key, _ in rows[:size]]
    return keys, encode_token(keys[-1] if len(rows) > size else None)


def ascending(store: Reader, table: Table, token: str, size: int) -> tuple[list[tuple[bytes, bytes]], str]:
    """A page of rows in key order, and the token of the next page."""
    start = decode_token(token) + b"\x00" if token else b""
    rows = store.scan(table, start, None, size + 1)
    return rows[:size], encode_token(rows[size - 1][0] if len(rows) > size else None)
