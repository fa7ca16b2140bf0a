"""What is to be stored of requests and answers, on its way to the store, so that no request waits for it.

Held in memory alone: it is no money, and nothing of it shall lie about in files. What is waiting when its process is
killed, or while the store is away for longer than there is room, is lost, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from hodios.accounts.background import repeat
from hodios.store.failures import StoreUnavailable
from hodios.store.records import StoredContent

MOST_WAITING_BYTES = 64 * 2**20
BATCH_BYTES = 4 * 2**20
PAUSE_S = 0.2
"""Between batches."""
RETRY_S = 5.0
FLUSH_S = 10.0
"""At the end, for what the store does not have yet."""
_ENTRY_BYTES = 1024
"""What one takes besides request and answer, at most about."""
_log = logging.getLogger(__name__)


class ContentShelf(Protocol):
    """As `store.contents.Contents`."""

    async def add(self, told: Iterable[StoredContent]) -> None: ...

    async def of(self, request_id: str) -> StoredContent | None: ...


class ContentQueue:
    """Of one process and one event loop; `keeping` keeps it at work."""

    def __init__(self, shelf: ContentShelf, *, most_bytes: int = MOST_WAITING_BYTES) -> None:
        self._shelf = shelf
        self._most_bytes = most_bytes
        self._waiting: dict[str, StoredContent] = {}
        """The oldest first."""
        self._came = asyncio.Event()
        self._is_away = False
        self.num_bytes = 0

    def __len__(self) -> int:
        """What the store does not have yet."""
        return len(self._waiting)

    def add(self, content: StoredContent) -> bool:
        """Whether there is room for it; if not, it is lost."""
        size = _size(content)
        if self.num_bytes + size > self._most_bytes:
            return False
        self._waiting[content.request_id] = content
        self.num_bytes += size
        self._came.set()
        return True

    async def of(self, request_id: str) -> StoredContent | None:
        """None where nothing of that request is stored. Raises StoreUnavailable."""
        return self._waiting.get(request_id) or await self._shelf.of(request_id)

    async def step(self) -> float:
        """Waits for something and passes it on. Returns for how many seconds to leave the store alone."""
        if not self._waiting:
            self._came.clear()
            await self._came.wait()
        return PAUSE_S if await self.pass_on() else RETRY_S

    async def pass_on(self) -> bool:
        """One batch, and one at a time. Whether the store has it now."""
        batch: list[StoredContent] = []
        num_bytes = 0
        for content in self._waiting.values():
            batch.append(content)
            num_bytes += _size(content)
            if num_bytes >= BATCH_BYTES:
                break
        try:
            await self._shelf.add(batch)
        except StoreUnavailable as error:
            if not self._is_away:
                _log.warning("what is to be stored of answers waits for the store: %s", error)
            self._is_away = True
            return False
        self._is_away = False
        for content in batch:
            del self._waiting[content.request_id]
        self.num_bytes -= num_bytes
        return True

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncGenerator[None, None]:
        """At work within the block; after it the store has what it takes in FLUSH_S."""
        task = asyncio.create_task(repeat(self.step))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    while self._waiting and await self.pass_on():
                        pass


def _size(content: StoredContent) -> int:
    return _ENTRY_BYTES + len(content.request) + len(content.answer)
