"""What a stream writes, together as far as it came together: a piece goes out at once, and what follows it before the
event loop has turned goes out as one.

So a burst of many chunks costs as few writes as there were reads, and no chunk waits for a later one.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from hodios.api.exchange import Exchange

MOST_BYTES = 64 * 1024
"""That may wait for a client who is slow to read."""


class Outbox:
    """Of one exchange whose headers are sent. Left in any way but by cancelling, all that was put is written."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._num_bytes = 0
        self._has_written = False
        """In this turn of the event loop."""
        self._writing: asyncio.Task[None] | None = None
        self._is_first = True

    async def __aenter__(self) -> Outbox:
        return self

    async def put(self, data: bytes) -> None:
        """In order. Waits where too much is waiting."""
        if not self._has_written and self._writing is None:
            self._has_written = True
            self._loop.call_soon(self._turn)
            await self._exchange.write(data)
            if self._is_first:
                # Transports write when the loop turns, and a long burst may be waiting to be read.
                self._is_first = False
                await asyncio.sleep(0)
            return
        self._waiting.append(data)
        self._num_bytes += len(data)
        if self._num_bytes > MOST_BYTES:
            await self._settle()

    def _turn(self) -> None:
        self._has_written = False
        if self._waiting and self._writing is None:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                data = b"".join(self._waiting)
                self._waiting.clear()
                self._num_bytes = 0
                await self._exchange.write(data)
        finally:
            self._writing = None

    async def _settle(self) -> None:
        """Until all is written."""
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())
        await self._writing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            if self._writing is not None:
                self._writing.cancel()
        elif self._waiting or self._writing is not None:
            await self._settle()
