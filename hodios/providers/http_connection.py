"""One connection of HTTP/1.1 to a server that is asked: a request out, its answer in, and then the next. Knows neither
addresses nor what the bodies say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

MOST_HEAD_BYTES = 64 * 1024
MOST_WAITING_BYTES = 256 * 1024
"""Of a body that nobody has read yet."""


class Disconnected(Exception):
    """The connection has ended before the answer had, or what came is no HTTP."""


class Response:
    """One answer. `status` and `headers` (their names in lower case) are known before it is handed out, the body comes
    while it is read."""

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.is_whole = False
        """Whether all of the body has come."""
        self.is_broken = False
        self._connection = connection
        self._loop = loop
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_read(self) -> bool:
        """Whether nothing more comes."""
        return self.is_whole and not self._parts

    async def head(self, deadline_s: float) -> None:
        """Until status and headers have come. Raises Disconnected, TimeoutError."""
        while not self.status:
            await self._news(deadline_s)

    async def read(self, deadline_s: float) -> bytes:
        """What has come of the body, at least a byte; b"" at its end. Raises Disconnected, TimeoutError. `deadline_s`
        is a time of the event loop, and no matter where something is here already."""
        while not self._parts:
            if self.is_whole:
                return b""
            await self._news(deadline_s)
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._num_bytes = 0
        self._connection.resume(self)
        return data

    def close(self) -> None:
        """Nobody wants the rest. An answer that has come whole has given its connection to others already."""
        if not self.is_whole:
            self._connection.close()

    def feed(self, data: bytes) -> bool:
        """More of the body. Whether too much of it is waiting."""
        self._parts.append(data)
        self._num_bytes += len(data)
        self.wake()
        return self._num_bytes > MOST_WAITING_BYTES

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self, deadline_s: float) -> None:
        if self.is_broken:
            raise Disconnected
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline_s, _end, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Connection(asyncio.Protocol):
    """`on_idle` is told when the next request may come, `on_lost` when none may any more. Its parser calls the methods
    `on_…`."""

    def __init__(self, on_idle: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        self.is_new = True
        """Whether it has answered nothing yet."""
        self.idle_since_s = 0.0
        self._tell_idle = on_idle
        self._tell_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._response: Response | None = None
        """The one that is on its way."""
        self._headers: dict[bytes, bytes] = {}
        self._num_head_bytes = 0
        self._is_paused = False

    async def ask(self, request: bytes, deadline_s: float) -> Response:
        """Raises Disconnected, and TimeoutError where the head of the answer has not come by `deadline_s`."""
        response = self._response = Response(self, self._loop)
        # One for each answer: it does not go on after a chunked one.
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers = {}
        self._num_head_bytes = 0
        self._transport.write(request)
        try:
            await response.head(deadline_s)
        except BaseException:
            self.close()
            raise
        return response

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def resume(self, response: Response) -> None:
        """Of `response`, all that has come was read."""
        if self._is_paused and response is self._response:
            self._is_paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        response, self._response = self._response, None
        if response is not None:
            if response.status and self._ends_with_connection and error is None:
                response.is_whole = True
            else:
                response.is_broken = True
            response.wake()
        self._tell_lost(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nobody has asked.
            self.close()
            return
        if not response.status:
            self._num_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        else:
            if not response.status and self._num_head_bytes > MOST_HEAD_BYTES:
                self.close()

    def on_message_begin(self) -> None:
        if self._response is None:
            # More than was asked for: what comes next would be taken for the answer to another request.
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if self._response is None or status < 200:
            return
        self._ends_with_connection = b"content-length" not in headers and b"transfer-encoding" not in headers
        self._response.headers = headers
        self._response.status = status
        self._response.wake()

    def on_body(self, data: bytes) -> None:
        if self._response is not None and self._response.feed(data) and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or not response.status:
            return
        self._response = None
        response.is_whole = True
        response.wake()
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._parser.should_keep_alive() and not self._transport.is_closing():
            self.is_new = False
            self._tell_idle(self)
        else:
            self._transport.close()
