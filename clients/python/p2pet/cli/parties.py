"""Names of parties for people, keys for the ledger."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pet.cli.session import UsageError
from p2pet.client import NodeClient

_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:[^,\\+]|\\.)+)")
KEY_BYTES = 32


@dataclass(frozen=True)
class Parties:
    """The nodes of the network as this node knows them: X.500 name to identity key, of notaries also to service key."""

    identities: Mapping[str, bytes]
    services: Mapping[str, bytes] = field(default_factory=dict)

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

    def find_notary(self, text: str) -> bytes:
        """The service key of a notary given by the name of its node, or as 64 hexadecimal digits; raises UsageError."""
        try:
            return Parties(self.services).find(text)
        except UsageError:
            raise UsageError(f"no notary is called {text!r}; `p2pet-cli node peers` lists them") from None

    def notary(self, service_key: bytes) -> str:
        """The CN of the notary with this service key; of an unknown one its first digits."""
        return Parties(self.services).name(service_key)

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
    nodes = [(info.name, info.identity, info.notary_service_key)]
    nodes += [(peer.name, peer.identity, peer.notary_service_key) for peer in peers]
    return Parties(
        {name: identity for name, identity, _ in nodes}, {name: service for name, _, service in nodes if service}
    )


def common_name(name: str) -> str:
    """The CN of an X.500 name; the whole name when it has none."""
    match = _COMMON_NAME.search(name)
    return match[1].replace("\\", "") if match else name
