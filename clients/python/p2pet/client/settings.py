"""How to reach a node: read from its node.toml, without the node's own packages."""

import base64
import binascii
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pet.client.errors import SettingsError

FILE_BYTES_MAX = 65_536
_TOKEN = re.compile(r"[0-9a-f]{64}")
_NODE_NAME = re.compile(rb"[a-z2-7]{52}\.node\.p2pet")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class ClientSettings:
    """Where the node listens for clients, the token it asks for, and how to know that it is the node."""

    address: str
    token: str
    trust_pem: bytes
    server_name: str

    def __repr__(self) -> str:
        return f"ClientSettings(address={self.address!r}, server_name={self.server_name!r})"

    @staticmethod
    def from_config(path: Path, token_file: Path | None = None) -> "ClientSettings":
        """Reads a node.toml, or the one in a directory, and the files it names; raises SettingsError.

        Instead of the token that node.toml names, `token_file` may give that of another user.
        """
        file = path / "node.toml" if path.is_dir() else path
        try:
            table = tomllib.loads(_read(file).decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} is not valid TOML: {error}") from None
        directory = file.absolute().parent
        token_file = token_file or directory / _text(file, table, "client", "token_file", "client.token")
        token = _read(token_file).decode("ascii", "replace")
        if not _TOKEN.fullmatch(token.strip()):
            raise SettingsError(f"the client token in {token_file} is not 64 hexadecimal digits")
        return ClientSettings(
            address=_reachable(_text(file, table, "client", "listen", "127.0.0.1:7501")),
            token=token.strip(),
            trust_pem=_read(directory / _text(file, table, "network", "tls_trust", "../network/tls-trust.crt")),
            server_name=_node_name(directory / _text(file, table, "identity", "tls_certificate_file", "tls.crt")),
        )


def _text(file: Path, table: dict[str, Any], section: str, key: str, default: str) -> str:
    values = table.get(section, {})
    value = values.get(key, default) if isinstance(values, dict) else None
    if not isinstance(value, str):
        raise SettingsError(f"{file}: [{section}] {key} should be text in quotes")
    return value


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; name a node's directory or its node.toml") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise SettingsError(f"{path} has more than {FILE_BYTES_MAX} bytes; it is not a file of a node")
    return content


def _reachable(listen: str) -> str:
    """The address to dial for a listener, which may be on every address of this machine."""
    host, _, port = listen.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"


def _node_name(certificate: Path) -> str:
    """The name in the node's TLS certificate.

    The file is the node's own, so it says whom to expect; TLS checks what the listener then shows. A DNS name stands
    in the DER as plain text, which spares the client an X.509 library.
    """
    block = _PEM.search(_read(certificate))
    try:
        names = set(_NODE_NAME.findall(base64.b64decode(block[1]))) if block else set()
    except binascii.Error:
        names = set()
    if len(names) != 1:
        raise SettingsError(f"{certificate} is not the TLS certificate of a node")
    return str(names.pop(), "ascii")
