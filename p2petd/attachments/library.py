"""The attachments of a node for whoever decides about transactions: what is here, its content, and getting the rest."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2petd.attachments.chunks import AttachmentChunks
from p2petd.attachments.fetcher import AttachmentFetcher, CallPeer
from p2petd.attachments.store import AttachmentStore
from p2petd.errors import NodeError, TransactionRefused

log = logging.getLogger(__name__)

# What one transaction can make a node fetch.
FETCHED_FOR_TRANSACTION_MAX = 16


class Attachments:
    """`missing` and `content` from any thread, `fetch` and `fetch_all` on the event loop."""

    def __init__(self, store: AttachmentStore, fetcher: AttachmentFetcher) -> None:
        self._store = store
        self._fetcher = fetcher

    def missing(self, cited: Sequence[bytes]) -> tuple[bytes, ...]:
        """Those that are not here. Raises TransactionRefused transaction.attachment_missing for too many of them."""
        lacking = tuple([attachment for attachment in cited if not self._store.holds(attachment)])
        if len(lacking) > FETCHED_FOR_TRANSACTION_MAX:
            raise TransactionRefused(
                "transaction.attachment_missing",
                f"{len(lacking)} cited attachments are not here; for one transaction {FETCHED_FOR_TRANSACTION_MAX} "
                "are fetched",
            )
        return lacking

    def require(self, cited: Sequence[bytes]) -> None:
        """Raises TransactionRefused transaction.attachment_missing unless all of them are here."""
        for attachment in self.missing(cited):
            raise TransactionRefused(
                "transaction.attachment_missing",
                f"the cited attachment {attachment.hex()} is not here; upload it, or fetch it from another node",
            )

    def content(self, attachment: bytes) -> bytes:
        """The reader that contracts get; raises TransactionRefused as `AttachmentReader` says."""
        return self._store.for_contract(attachment)

    async def fetch(self, peer: bytes, attachment: bytes) -> None:
        """The attachment is here afterwards; raises as `AttachmentFetcher.fetch` does."""
        await self._fetcher.fetch(peer, attachment)

    async def fetch_all(self, peer: bytes, attachments: Sequence[bytes]) -> None:
        """Like `fetch` for each that can be had; what cannot is only logged, and still missing afterwards."""
        for attachment in attachments:
            try:
                await self._fetcher.fetch(peer, attachment)
            except NodeError as error:
                log.info("no attachment %s from %s: %s", attachment.hex(), peer.hex()[:16], error.message)


@dataclass(frozen=True)
class AttachmentParts:
    """All that a node has to do with attachments; `fetcher` is to be stopped."""

    store: AttachmentStore
    fetcher: AttachmentFetcher
    library: Attachments
    chunks: AttachmentChunks


def open_attachments(
    directory: Path, directory_bytes_max: int, attachment_bytes_max: Callable[[], int], call: CallPeer
) -> AttachmentParts:
    """The attachments in a directory, which is made when it is not there. Raises DataDirectoryError."""
    store = AttachmentStore(directory, directory_bytes_max, attachment_bytes_max)
    fetcher = AttachmentFetcher(store, call)
    return AttachmentParts(store, fetcher, Attachments(store, fetcher), AttachmentChunks(store))
