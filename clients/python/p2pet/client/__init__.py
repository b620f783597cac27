"""A client of one p2petd node: `NodeClient.from_config(directory of the node)`."""

from p2pet.client.errors import ApiError, ClientError, SettingsError, UnreachableError
from p2pet.client.node_client import FlowsClient, NodeClient, VaultClient
from p2pet.client.settings import ClientSettings

__all__ = [
    "ApiError",
    "ClientError",
    "ClientSettings",
    "FlowsClient",
    "NodeClient",
    "SettingsError",
    "UnreachableError",
    "VaultClient",
]
