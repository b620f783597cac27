"""node.toml as a frozen model: unknown keys are refused, errors name file and key and say what to do."""

import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from p2petd.errors import ConfigError

CONFIG_BYTES_MAX = 65_536
_LISTEN = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")

# Where the model's own words would not help the writer of a file.
_SENTENCES = {
    "missing": "is missing; write it",
    "model_type": "should be a section",
    "path_type": "should be a path in quotes",
    "string_type": "should be text in quotes",
    "int_type": "should be a whole number without quotes",
}


def _listen_address(value: str) -> str:
    match = _LISTEN.fullmatch(value)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise ValueError('should be an address such as "0.0.0.0:7500"')
    return value


def _from_config_file(value: Path, info: ValidationInfo) -> Path:
    directory = cast(Path, info.context) if info.context is not None else Path()
    return directory / value.expanduser()


ListenAddress = Annotated[str, AfterValidator(_listen_address)]
# Relative to the directory of node.toml.
ConfigPath = Annotated[Path, Field(strict=False), AfterValidator(_from_config_file)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True)


class NodeSection(_Section):
    """What this node is called and where it keeps everything durable."""

    name: str = Field(
        min_length=4,
        max_length=300,
        description="X.500 name, exactly as in the certificate",
        examples=["CN=Alice,O=Alice,C=DE"],
    )
    data_directory: ConfigPath = Field(
        default=Path("data"), description="Log, view and snapshots. On a local disk, for this node only"
    )


class IdentitySection(_Section):
    """Keys and certificates. Key files: PKCS#8 PEM, mode 0600."""

    key_file: ConfigPath = Field(default=Path("identity.key"), description="Ed25519 key that signs on the ledger")
    certificate_file: ConfigPath = Field(
        default=Path("identity.crt"), description="Its certificate, then that of the identity authority"
    )
    tls_key_file: ConfigPath = Field(default=Path("tls.key"), description="ECDSA P-256 key of both listeners")
    tls_certificate_file: ConfigPath = Field(
        default=Path("tls.crt"), description="Its certificate, then that of the TLS authority"
    )


class NetworkSection(_Section):
    """The network, as its operator publishes it."""

    root_certificate: ConfigPath = Field(
        default=Path("../network/root.crt"), description="Whom every certificate must lead to"
    )
    tls_trust: ConfigPath = Field(
        default=Path("../network/tls-trust.crt"), description="The TLS authority: the only one trusted in connections"
    )
    parameters_directory: ConfigPath = Field(
        default=Path("../network/parameters"), description="All versions of the signed network parameters, *.params"
    )
    nodes_directory: ConfigPath = Field(default=Path("../network/nodes"), description="The signed node infos, *.info")


class PeerSection(_Section):
    """The listener for other nodes. What they dial stands in the node info."""

    listen: ListenAddress = Field(default="0.0.0.0:7500", description="Address and port")
    outbox_messages_max: int = Field(
        default=100_000,
        ge=1,
        le=500_000,
        description="Messages that wait for one peer, at most; beyond it no new flow with that peer is begun",
    )


Permission = Literal["attachments", "flows", "node", "notary", "oracle", "vault"]


class ClientUser(_Section):
    """A user of the client listener who may not do everything; one [[client.users]] for each."""

    name: str = Field(min_length=1, max_length=100, description="What the node calls this user", examples=["auditor"])
    token_file: ConfigPath = Field(description="This user's token, mode 0600", examples=["auditor.token"])
    permissions: tuple[Permission, ...] = Field(
        strict=False, description="The services that it may call", examples=[["vault"]]
    )


class ClientSection(_Section):
    """The listener for clients of this node."""

    listen: ListenAddress = Field(
        default="127.0.0.1:7501", description="Address and port; keep it on loopback unless clients need it elsewhere"
    )
    token_file: ConfigPath = Field(
        default=Path("client.token"), description="The token of those who may call every service, mode 0600"
    )
    users: tuple[ClientUser, ...] = Field(
        default=(),
        strict=False,
        description="Users who may call some services only: sections [[client.users]] with name, token_file and "
        "permissions, a list out of " + ", ".join(f'"{one}"' for one in get_args(Permission)),
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.listen.rpartition(":")[0].strip("[]")
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


class NotarySection(_Section):
    """Only on a node that works for a notary service; without this section it does not."""

    worker_key_file: ConfigPath = Field(default=Path("worker.key"), description="Ed25519 key that signs batches")
    worker_certificate_file: ConfigPath = Field(
        default=Path("worker.certificate"), description="The service key's certificate for the worker key"
    )
    batch_max: int = Field(default=256, ge=1, le=1024, description="Requests decided together, at most")
    queue_max: int = Field(
        default=4096, ge=1, le=1_000_000, description="Requests that wait, at most; more are told to come again"
    )
    queue_bytes_max: int = Field(
        default=256 * 1024 * 1024, ge=4 * 1024 * 1024, le=2**40, description="Bytes of requests that wait, at most"
    )


class OracleSection(_Section):
    """Only on a node that vouches for facts; without this section it does not."""

    key_file: ConfigPath = Field(default=Path("oracle.key"), description="Ed25519 key that signs facts")
    readings_directory: ConfigPath = Field(
        default=Path("readings"), description="Where *.csv files of readings are read when they appear or change"
    )


class FlowsSection(_Section):
    """Rules of the operator's own."""

    policy: str = Field(
        default="",
        max_length=300,
        description='A function, "module:function", that is asked before this node signs what another party proposes',
    )


class StoreSection(_Section):
    """The log and its view."""

    segment_bytes: int = Field(
        default=64 * 1024 * 1024, ge=64 * 1024, le=2**32, description="Size of a log segment, preallocated"
    )
    map_bytes: int = Field(
        default=16 * 1024**3, ge=16 * 1024 * 1024, le=2**44, description="Address space for the view: its largest size"
    )
    snapshot_log_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        le=2**50,
        description="After so many bytes of a log a snapshot of its view is taken, and what an earlier one covers "
        "leaves the log, unless it is a notary's or an oracle's; 0: never",
    )


class AttachmentsSection(_Section):
    """Files that transactions cite, kept in the data directory."""

    directory_bytes_max: int = Field(
        default=10 * 1024**3, ge=0, le=2**50, description="What all of them may take on the disk, in bytes"
    )


class LogSection(_Section):
    """What the node writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )


class NodeConfig(_Section):
    """The whole of node.toml. Paths are absolute or start at the process's working directory."""

    node: NodeSection
    identity: IdentitySection = IdentitySection()
    network: NetworkSection = NetworkSection()
    peer: PeerSection = PeerSection()
    client: ClientSection = ClientSection()
    notary: NotarySection | None = None
    oracle: OracleSection | None = None
    flows: FlowsSection = FlowsSection()
    store: StoreSection = StoreSection()
    attachments: AttachmentsSection = AttachmentsSection()
    log: LogSection = LogSection()


def load_config(path: Path) -> NodeConfig:
    """The configuration of a node.toml, or of the one in a directory; raises ConfigError.

    Whether the files that it names exist is `check_config`'s question.
    """
    file = path / "node.toml" if path.is_dir() else path
    content = _read(file)
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    sections = {name: {} for name in NodeConfig.model_fields if name not in ("node", "notary", "oracle")} | table
    try:
        return NodeConfig.model_validate(sections, context=file.absolute().parent)
    except ValidationError as error:
        sentences = [_sentence(one["loc"], one["type"], one["msg"]) for one in error.errors(include_url=False)]
        raise ConfigError(f"{file}: {'; '.join(sentences)}") from None


def check_config(path: Path) -> NodeConfig:
    """Like `load_config`, and every file and directory that it names exists, but for the data directory."""
    config = load_config(path)
    sections: list[tuple[str, object]] = [*config, *(("client.users", user) for user in config.client.users)]
    missing = [
        f"[{section}] {key}: {value} does not exist"
        for section, model in sections
        if isinstance(model, _Section)
        for key, value in model
        if isinstance(value, Path) and key not in ("data_directory", "readings_directory") and not value.exists()
    ]
    if missing:
        raise ConfigError(f"{path}: {'; '.join(missing)}; correct the path, or copy the file there")
    return config


def render_defaults() -> str:
    """A node.toml with every key, its default and what it means; keys without a default show an example."""
    return "\n".join(_render()) + "\n"


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist; name a node.toml or the directory that holds one") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{file} has more than {CONFIG_BYTES_MAX} bytes; it is not a node.toml")
    return content


def _sections() -> dict[str, type[_Section]]:
    return {
        "node": NodeSection,
        "identity": IdentitySection,
        "network": NetworkSection,
        "peer": PeerSection,
        "client": ClientSection,
        "notary": NotarySection,
        "oracle": OracleSection,
        "flows": FlowsSection,
        "store": StoreSection,
        "attachments": AttachmentsSection,
        "log": LogSection,
    }


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """One error of the model in our words: the key, what is wrong, what to write instead."""
    path = [str(part) for part in location]
    where = f"[{path[0]}] {'.'.join(path[1:])}".rstrip()
    if kind == "extra_forbidden":
        known = list(_sections()) if len(path) == 1 else _known_keys(path)
        close = difflib.get_close_matches(path[-1], known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{where}: unknown {'section' if len(path) == 1 else 'key'}, {advice}"
    if kind in _SENTENCES:
        return f"{where}: {_SENTENCES[kind]}"
    return f"{where}: {message.removeprefix('Value error, ').removeprefix('Input ')}"


def _known_keys(path: list[str]) -> list[str]:
    in_user = path[:2] == ["client", "users"] and len(path) > 2
    return list((ClientUser if in_user else _sections()[path[0]]).model_fields)


def _render() -> Iterator[str]:
    yield "# Every key of node.toml. Relative paths start at the file's own directory."
    for name, section in _sections().items():
        yield ""
        yield f"# {section.__doc__}"
        yield f"[{name}]"
        for key, field in section.model_fields.items():
            value: Any = field.examples[0] if field.is_required() and field.examples else field.default
            yield f"# {field.description}{' (required)' if field.is_required() else ''}."
            yield f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}"
