"""Requests that wait for attachments which this notary must fetch before contracts can run."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from p2petd import native
from p2petd.errors import NodeError
from p2petd.ledger.groups import Group
from p2petd.observe.log import log_unexpected

log = logging.getLogger(__name__)

# Requests that wait for attachments at once, in all and of one caller; further ones are told to come again.
FETCHING_MAX = 64
FETCHING_PER_CALLER_MAX = 8
# For all attachments of one request. What comes later is here when the caller asks again.
FETCH_SECONDS_MAX = 60.0


class AttachmentSource(Protocol):
    """The attachments of this node. `fetch_all` on the event loop, the others from any thread."""

    def missing(self, cited: Sequence[bytes]) -> tuple[bytes, ...]: ...

    def require(self, cited: Sequence[bytes]) -> None: ...

    def content(self, attachment: bytes) -> bytes: ...

    async def fetch_all(self, peer: bytes, attachments: Sequence[bytes]) -> None: ...


class AttachmentWait:
    """Fetches from the caller what a checked request lacks; the deciding thread never waits for it."""

    def __init__(self, source: AttachmentSource) -> None:
        self._source = source
        self._asyncio = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._fetching: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def lacking(self, checked: native.Checked) -> tuple[bytes, ...]:
        """What the transaction cites and is not here; nothing for one that cites more than is ever fetched."""
        cited = checked.groups[Group.ATTACHMENTS]
        if not cited:
            return ()
        try:
            return self._source.missing(cited)
        except NodeError:
            return ()

    def fetch(self, caller: bytes, attachments: Sequence[bytes], then: Callable[[], None]) -> bool:
        """Call `then` on the event loop when they are here or cannot be had; False when too many wait already."""
        with self._lock:
            if self._fetching.total() >= FETCHING_MAX or self._fetching[caller] >= FETCHING_PER_CALLER_MAX:
                return False
            self._fetching[caller] += 1
        self._asyncio.call_soon_threadsafe(self._start, caller, tuple(attachments), then)
        return True

    async def stop(self) -> None:
        """Give up what is under way; its callers ask again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, caller: bytes, attachments: tuple[bytes, ...], then: Callable[[], None]) -> None:
        task = asyncio.create_task(self._fetch(caller, attachments, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, caller: bytes, attachments: tuple[bytes, ...], then: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                await self._source.fetch_all(caller, attachments)
        except TimeoutError:
            log.info("attachments do not come in time from %s", caller.hex()[:16])
        except Exception:  # noqa: BLE001 - a request that does not come back would never be answered
            log_unexpected(log, "fetching attachments for the notary")
        finally:
            with self._lock:
                self._fetching[caller] -= 1
                if not self._fetching[caller]:
                    del self._fetching[caller]
        then()
