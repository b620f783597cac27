"""A client of one p2petd node: `NodeClient.from_config(directory of the node)`."""

from p2pet.client.attachments import AttachmentsClient
from p2pet.client.errors import ApiError, ClientError, SettingsError, UnreachableError
from p2pet.client.node_client import FlowsClient, NodeClient, NotaryClient, VaultClient
from p2pet.client.oracle import OracleClient
from p2pet.client.settings import ClientSettings

__all__ = [
    "ApiError",
    "AttachmentsClient",
    "ClientError",
    "ClientSettings",
    "FlowsClient",
    "NodeClient",
    "NotaryClient",
    "OracleClient",
    "SettingsError",
    "UnreachableError",
    "VaultClient",
]
