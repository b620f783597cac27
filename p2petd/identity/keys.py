"""Key and token files: readable by their owner only, or refused.

A key file is PKCS#8 PEM: Ed25519 for ledger keys, ECDSA P-256 for TLS. A token file is 64 hexadecimal digits.
"""

import os
import re
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2petd.errors import KeyFileError
from p2petd.native import SigningKey

PRIVATE_FILE_BYTES_MAX = 16_384
TOKEN_BYTES = 32
_TOKEN = re.compile(rb"[0-9a-f]{64}\n?")

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def read_private(path: Path) -> bytes:
    """The content of a file that only its owner, this process's user, can read.

    Raises KeyFileError when it is missing, not a regular file, another user's, open to others, or too large.
    """
    try:
        # Checked on the open file, so that it cannot be exchanged between check and use.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(f"{path} does not exist; restore it from a backup") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        _check_private(path, os.fstat(descriptor))
        return os.read(descriptor, PRIVATE_FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to user {status.st_uid}, but the process runs as user {os.geteuid()}; "
            "change its owner or run as that user"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(f"{path} is open to other users (mode {mode:04o}); run chmod 600 on it")
    if status.st_size > PRIVATE_FILE_BYTES_MAX:
        raise KeyFileError(
            f"{path} has {status.st_size} bytes; a key or token file has at most {PRIVATE_FILE_BYTES_MAX}"
        )


def write_private(path: Path, data: bytes) -> None:
    """Creates the file with mode 0600 and syncs it; raises KeyFileError when it exists, never overwrites."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path} exists already; a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error


def _load(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is not an unencrypted PKCS#8 PEM private key; restore it from a backup") from None


def load_ledger_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key of a file; raises KeyFileError."""
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds a key of another kind; a ledger key is Ed25519")
    return key


def load_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The ECDSA P-256 key of a file; raises KeyFileError."""
    key = _load(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(f"{path} holds a key of another kind; a TLS key is ECDSA P-256")
    return key


def load_signing_key(path: Path) -> SigningKey:
    """The Ed25519 key of a file, ready to sign for the ledger; raises KeyFileError."""
    return signing_key(load_ledger_key(path))


def signing_key(key: Ed25519PrivateKey) -> SigningKey:
    """The same key in the hands of the extension."""
    return SigningKey.from_seed(key.private_bytes_raw())


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#8 PEM, unencrypted: for a file that `write_private` creates."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def create_ledger_key(path: Path) -> Ed25519PrivateKey:
    """A new Ed25519 key in a new file of mode 0600; raises KeyFileError when the file exists."""
    key = Ed25519PrivateKey.generate()
    write_private(path, private_pem(key))
    return key


def create_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new ECDSA P-256 key in a new file of mode 0600; raises KeyFileError when the file exists."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path, private_pem(key))
    return key


def create_token(path: Path) -> str:
    """A new client token, 32 random bytes in hexadecimal, in a new file of mode 0600."""
    token = secrets.token_hex(TOKEN_BYTES)
    write_private(path, token.encode("ascii") + b"\n")
    return token


def load_token(path: Path) -> str:
    """The client token of a file; raises KeyFileError."""
    content = read_private(path)
    if not _TOKEN.fullmatch(content):
        raise KeyFileError(f"{path} is not a client token; it should be {2 * TOKEN_BYTES} hexadecimal digits")
    return content.decode("ascii").strip()
