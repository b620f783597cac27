"""The parts of a new network that hold no keys: ports and node.toml."""

import errno
import json
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from p2petd.errors import NetworkError

# A home's log grows by some 2 kB a transaction; a whole network on one disk should not preallocate gigabytes.
SEGMENT_BYTES = 16 * 1024 * 1024

_NODE_TOML = """\
# Relative paths start at this file. `p2petd config show --defaults` explains all keys.

[node]
name = {name}
data_directory = "data"

[identity]
key_file = "identity.key"
certificate_file = "identity.crt"
tls_key_file = "tls.key"
tls_certificate_file = "tls.crt"

[network]
root_certificate = "../network/root.crt"
tls_trust = "../network/tls-trust.crt"
parameters_directory = "../network/parameters"
nodes_directory = "../network/nodes"

[peer]
listen = {peer}

[client]
listen = {client}
token_file = "client.token"

[store]
segment_bytes = {segment_bytes}
"""

_NOTARY_TOML = """
[notary]
worker_key_file = "worker.key"
worker_certificate_file = "worker.certificate"
"""

_ORACLE_TOML = """
[oracle]
key_file = "oracle.key"
"""


@dataclass(frozen=True)
class Listeners:
    """Where a node listens: `host:port` each."""

    peer: str
    client: str


def node_toml(name: str, where: Listeners, *, serves_notary: bool, is_oracle: bool = False) -> str:
    """The text of a node.toml beside the files that `bootstrap` makes."""
    # JSON strings are TOML basic strings.
    text = _NODE_TOML.format(
        name=json.dumps(name, ensure_ascii=False),
        peer=json.dumps(where.peer),
        client=json.dumps(where.client),
        segment_bytes=SEGMENT_BYTES,
    )
    return text + (_NOTARY_TOML if serves_notary else "") + (_ORACLE_TOML if is_oracle else "")


# Below those that outgoing connections get, so that none of these takes the port of a node that is stopped.
PORTS = range(10_240, 32_768)


def free_listeners(host: str, base_port: int, nodes: int) -> tuple[Listeners, ...]:
    """Two ports for each node: from `base_port` upwards, or with 0 ports that are free now. Raises NetworkError."""
    ports = list(range(base_port, base_port + 2 * nodes)) if base_port else _free_ports(host, 2 * nodes)
    if base_port < 0 or ports[-1] > 65535:
        raise NetworkError(f"{2 * nodes} ports do not fit between base port {base_port} and 65535; choose a lower one")
    return tuple(
        Listeners(f"{host}:{peer}", f"{host}:{client}") for peer, client in zip(ports[::2], ports[1::2], strict=True)
    )


def spread_listeners(hosts: tuple[str, ...], base_port: int) -> tuple[Listeners, ...]:
    """Each node on a host of its own, all on the same two ports."""
    return tuple(Listeners(f"{host}:{base_port}", f"{host}:{base_port + 1}") for host in hosts)


def _free_ports(host: str, count: int) -> list[int]:
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(PORTS, len(PORTS)):
            listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise NetworkError(f"{host} is not an address of this machine: {error.strerror}") from error
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise NetworkError(f"{host} has not {count} free ports between {PORTS.start} and {PORTS.stop}")
