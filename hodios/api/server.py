"""Serves the application on a socket that someone else has bound: HTTP/1.1 with bounds on what a client may hold up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hodios.api.exchange import Leaving

DRAIN_S = 30
KEEP_ALIVE_S = 75
HEADERS_S = 30.0
MAX_HEADER_BYTES = 64 * 1024
_BAD_REQUEST = (
    b'{"error":{"message":"the HTTP request is malformed, or its headers are too large or too slow",'
    b'"type":"invalid_request_error","param":null,"code":"invalid_value"}}'
)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with an end to how large headers may be and how long they may take, and with JSON errors.

    Of pipelined requests uvicorn tells only the last one that the client left; here the one that runs is told too.
    """

    _header_bytes = 0
    _is_in_headers = True
    _deadline: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    _leaving: Leaving
    """Of the one that runs."""

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            self._leaving.leave()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._leaving = Leaving()
        extensions: Any = {Leaving.EXTENSION: self._leaving}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        was_in_headers = self._is_in_headers
        super().data_received(data)
        if was_in_headers and self._is_in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers = True
        if self._deadline is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._header_bytes = 0
        self._forget_deadline()
        super().on_headers_complete()

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def send_400_response(self, msg: str) -> None:
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(_BAD_REQUEST) + _BAD_REQUEST)
        self.transport.close()


class _Server(uvicorn.Server):
    """Without uvicorn's last act, which is to end the process by the signal that stopped it: whoever serves has things
    to put away then, such as leases of budgets."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server_of(app: ASGIApp, *, drain_s: int = DRAIN_S) -> uvicorn.Server:
    """A server for `app`: uvloop and httptools, no access log, no Server header."""
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,
        backlog=2048,
    )
    return _Server(config)


async def serve(app: ASGIApp, sock: socket.socket, *, drain_s: int = DRAIN_S) -> None:
    """Answer on the listening `sock` until SIGTERM or SIGINT; then let open requests finish for at most `drain_s`.

    To be run on a uvloop event loop: `uvloop.run(serve(app, sock))`.
    """
    await server_of(app, drain_s=drain_s).serve(sockets=[sock])
