"""Names of parties for people, keys for the ledger."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from p2pet.cli.session import UsageError
from p2pet.client import NodeClient

_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:[^,\\+]|\\.)+)")
KEY_BYTES = 32


@dataclass(frozen=True)
class Parties:
    """The nodes of the network as this node knows them: X.500 name to identity key."""

    identities: Mapping[str, bytes]

    def find(self, text: str) -> bytes:
        """The key of a party given by X.500 name, CN or 64 hexadecimal digits; raises UsageError."""
        if re.fullmatch(r"[0-9a-fA-F]{64}", text):
            return bytes.fromhex(text)
        if text in self.identities:
            return self.identities[text]
        found = [name for name in self.identities if common_name(name) == text]
        if len(found) > 1:
            raise UsageError(f"several parties are called {text!r}; give the whole name, such as {found[0]!r}")
        if not found:
            raise UsageError(f"no party is called {text!r}; `p2pet-cli node peers` lists them")
        return self.identities[found[0]]

    def name(self, identity: bytes) -> str:
        """The CN of a party; of an unknown key its first digits."""
        for name, key in self.identities.items():
            if key == identity:
                return common_name(name)
        return identity.hex()[:16] if identity else "-"


async def load_parties(client: NodeClient) -> Parties:
    """The node itself and its peers."""
    info = await client.info()
    peers = (await client.peers()).peers
    return Parties({info.name: info.identity} | {peer.name: peer.identity for peer in peers})


def common_name(name: str) -> str:
    """The CN of an X.500 name; the whole name when it has none."""
    match = _COMMON_NAME.search(name)
    return match[1].replace("\\", "") if match else name
