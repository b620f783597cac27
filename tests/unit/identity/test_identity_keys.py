import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2petd.errors import KeyFileError
from p2petd.identity.keys import (
    PRIVATE_FILE_BYTES_MAX,
    create_ledger_key,
    create_tls_key,
    create_token,
    load_ledger_key,
    load_signing_key,
    load_tls_key,
    load_token,
    read_private,
    write_private,
)


def test_created_key_files_are_read_back_and_private(tmp_path: Path) -> None:
    ledger = create_ledger_key(tmp_path / "identity.key")
    tls = create_tls_key(tmp_path / "tls.key")
    token = create_token(tmp_path / "client.token")

    assert load_ledger_key(tmp_path / "identity.key").private_bytes_raw() == ledger.private_bytes_raw()
    assert load_signing_key(tmp_path / "identity.key").public == ledger.public_key().public_bytes_raw()
    assert load_tls_key(tmp_path / "tls.key").public_key() == tls.public_key()
    assert load_token(tmp_path / "client.token") == token
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    create_ledger_key(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        create_ledger_key(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o001, 0o644])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.key"
    create_ledger_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=r"open to other users \(mode 0.*chmod 600"):
        load_ledger_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    create_ledger_key(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(KeyFileError, match="belongs to user 65534"):
        load_ledger_key(path)


def test_a_missing_key_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="does not exist"):
        load_ledger_key(tmp_path / "identity.key")
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_ledger_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_ledger_key(tmp_path / "pipe")


def test_a_private_file_has_a_limit(tmp_path: Path) -> None:
    write_private(tmp_path / "max", b"x" * PRIVATE_FILE_BYTES_MAX)
    write_private(tmp_path / "more", b"x" * (PRIVATE_FILE_BYTES_MAX + 1))
    assert len(read_private(tmp_path / "max")) == PRIVATE_FILE_BYTES_MAX
    with pytest.raises(KeyFileError, match="at most"):
        read_private(tmp_path / "more")


def test_a_damaged_encrypted_or_wrong_kind_of_key_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "damaged", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    encrypted = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    write_private(tmp_path / "encrypted", encrypted)
    for name in ("damaged", "encrypted"):
        with pytest.raises(KeyFileError, match="not an unencrypted PKCS#8 PEM"):
            load_ledger_key(tmp_path / name)
    create_tls_key(tmp_path / "tls.key")
    create_ledger_key(tmp_path / "identity.key")
    with pytest.raises(KeyFileError, match="a ledger key is Ed25519"):
        load_ledger_key(tmp_path / "tls.key")
    with pytest.raises(KeyFileError, match=r"a TLS key is ECDSA P-256"):
        load_tls_key(tmp_path / "identity.key")


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"AB" * 32, b"ab" * 32 + b"\n\n", b"xy" * 32])
def test_a_malformed_token_is_refused(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "client.token", content)
    with pytest.raises(KeyFileError, match="64 hexadecimal digits"):
        load_token(tmp_path / "client.token")
