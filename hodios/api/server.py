"""Serves the application on a socket that someone else has bound: HTTP/1.1 with bounds on what a client may hold up.

A client may have so many header bytes and so much time for them, for its body, and for reading its answer. What two
programs could read in two ways is refused, so that nobody in front of this server is led to believe something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Generator
from functools import partial
from math import ceil
from typing import Any

import httptools
import uvicorn
from msgspec import Struct, structs
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hodios.api.exchange import API_HEADERS, SEND_WHOLE, Leaving

DRAIN_S = 30
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 256
LEAST_BYTES_PER_S = 1024
"""How fast a body must come on average, after its first `client_timeout_s`."""
_FRAMING_PER_BYTE = 16
"""Bytes around each byte of a chunked body: its length, line ends, extensions."""
_SPARE_FILES = 256
"""File descriptors for everything but connections."""
_ONLY_ONCE = frozenset({b"authorization", b"host", b"idempotency-key", b"origin", b"x-request-id"})
_VERSIONS = ("1.0", "1.1")
_MALFORMED = "the HTTP request is malformed, or its headers are too large or too slow"


class Bounds(Struct, frozen=True):
    """What clients may hold up, all together and each."""

    max_connections: int = 4096
    client_timeout_s: float = 30.0
    """For headers, for a pause in a body, and for reading on in an answer."""
    keep_alive_s: float = 75.0


class _Refused(Exception):
    """Raised where httptools calls, which makes a parser's error of it."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with an end to what a client may send and how long it may take, and with JSON errors.

    Of pipelined requests uvicorn tells only the last one that the client left; here the one that runs is told too.
    """

    def __init__(self, *arguments: Any, bounds: Bounds | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds or Bounds()
        self._is_in_headers = True
        self._is_in_body = False
        self._header_bytes = 0
        """Of headers that have not ended."""
        self._body_bytes = 0
        self._framing_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        """Of headers, then of the body."""
        self._reading_deadline: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self._body_began_s = 0.0
        self._running: RequestResponseCycle | None = None
        self._leaving = Leaving()
        """Of the one that runs."""

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        if len(self.connections) > self._bounds.max_connections:
            self._refuse("503 Service Unavailable", "overloaded", "there are too many connections; try again later")
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._forget_reading_deadline()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            self._leaving.leave()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._leaving = Leaving()
        extensions: Any = {Leaving.EXTENSION: self._leaving, SEND_WHOLE: self._send_whole}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def _send_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """As `exchange.SendWhole`: what uvicorn's cycle does in two messages, in one write."""
        cycle = self._running
        assert cycle is not None, "a request runs"
        is_usual = cycle.keep_alive and cycle.scope["method"] == "POST" and status >= 200
        if not is_usual or cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        lines = [b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)]
        head = b"".join([STATUS_LINE[status], *lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
            raise RuntimeError("a header of the answer has a line of its own in it")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(head + body)
        cycle.message_event.set()
        cycle.on_response()
        return True

    def data_received(self, data: bytes) -> None:
        was_in_headers, was_in_body, body_bytes = self._is_in_headers, self._is_in_body, self._body_bytes
        self._unset_keepalive_if_required()
        self._parse(data)
        if self.transport.is_closing():
            return
        if was_in_headers and self._is_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response("")
        elif self._is_in_body:
            self._heard_s = self.loop.time()
            if was_in_body:
                self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
            if self._framing_bytes > MAX_HEADER_BYTES + _FRAMING_PER_BYTE * self._body_bytes:
                self.send_400_response("")
            elif self._deadline is None:
                self._expect_body()

    def _parse(self, data: bytes) -> None:
        """Offers to go on in another protocol are passed over. The parser would take the rest for that protocol, so it
        is given to another parser, behind the same head without the offer."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                method, url, rest = self.parser.get_method(), self.url, data[offer.args[0] :]
                data = _head(method, url, _without_offer(self.headers)) + rest
                self.parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError:
                self.send_400_response("")
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers = True
        self._header_bytes = self._body_bytes = self._framing_bytes = 0
        if self._deadline is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused
            return
        self._is_in_headers = False
        self._is_in_body = True
        self._header_bytes = 0
        self._forget_deadline()
        if not _is_unmistakable(self.url, self.headers, self.parser.get_http_version()):
            raise _Refused
        super().on_headers_complete()
        # What comes after the body is no part of what the application reads: nobody has looked at it.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_in_body = False
        self._forget_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_reading_deadline()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(self._bounds.client_timeout_s, self.transport.close)

    def _expect_body(self) -> None:
        self._heard_s = self._body_began_s = self.loop.time()
        self._deadline = self.loop.call_later(self._bounds.client_timeout_s, self._check_body)

    def _check_body(self) -> None:
        """Waits on for a client that sends fast enough, or that we do not listen to."""
        timeout_s, now_s = self._bounds.client_timeout_s, self.loop.time()
        if self.flow.read_paused:
            self._expect_body()
            return
        left_s = min(
            self._heard_s + timeout_s - now_s,
            self._body_began_s + timeout_s + self._body_bytes / LEAST_BYTES_PER_S - now_s,
        )
        if left_s > 0:
            self._deadline = self.loop.call_later(left_s, self._check_body)
        else:
            self._refuse("408 Request Timeout", "timeout", "the request body came too slowly")

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        if self._reading_deadline is None:
            self._reading_deadline = self.loop.call_later(self._bounds.client_timeout_s, self.transport.abort)

    def _forget_reading_deadline(self) -> None:
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
            self._reading_deadline = None

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", "invalid_value", _MALFORMED)

    def _refuse(self, status: str, code: str, message: str) -> None:
        """The connection's last word; none where an answer has begun, which it would seem a part of."""
        self._forget_deadline()
        if self._running is None or self._running.response_complete or not self._running.response_started:
            self.transport.write(_refusal(status, code, message))
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._expect_reading()


def _is_unmistakable(url: bytes, headers: list[tuple[bytes, bytes]], version: str) -> bool:
    names = [name for name, _ in headers]
    different = frozenset(names)
    return (
        len(names) <= MAX_HEADERS
        and len(url) + sum(len(name) + len(value) for name, value in headers) <= MAX_HEADER_BYTES
        and version in _VERSIONS
        and (b"host" in different or version == "1.0")
        and (len(different) == len(names) or all(names.count(name) < 2 for name in _ONLY_ONCE))
        and (b"transfer-encoding" not in different or (b"transfer-encoding", b"chunked") in headers)
    )


def _head(method: bytes, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return method + b" " + url + b" HTTP/1.1\r\n" + lines + b"\r\n"


def _without_offer(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Of HTTP/1.1 with `Upgrade`."""
    kept = [(name, value) for name, value in headers if name not in (b"upgrade", b"http2-settings", b"connection")]
    wishes = b",".join(value.lower() for name, value in headers if name == b"connection").split(b",")
    if any(wish.strip() == b"close" for wish in wishes):
        kept.append((b"connection", b"close"))
    return kept


def _refusal(status: str, code: str, message: str) -> bytes:
    kind = "overloaded" if status.startswith("503") else "invalid_request_error"
    body = f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *API_HEADERS]
    headers.append((b"content-length", b"%d" % len(body)))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + lines + b"\r\n" + body


class _Server(uvicorn.Server):
    """Without uvicorn's last act, which is to end the process by the signal that stopped it: whoever serves has things
    to put away then, such as leases of budgets."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server_of(app: ASGIApp, *, drain_s: int = DRAIN_S, bounds: Bounds | None = None) -> uvicorn.Server:
    """A server for `app`: uvloop and httptools, no access log, no Server header."""
    bounds = bounds or Bounds()
    http: Any = partial(BoundedHttp, bounds=bounds)
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # What uvicorn has for it is a whole number.
        timeout_keep_alive=ceil(bounds.keep_alive_s),
        timeout_graceful_shutdown=drain_s,
        backlog=2048,
    )
    return _Server(config)


async def serve(app: ASGIApp, sock: socket.socket, *, drain_s: int = DRAIN_S, bounds: Bounds | None = None) -> None:
    """Answer on the listening `sock` until SIGTERM or SIGINT; then let open requests finish for at most `drain_s`.

    To be run on a uvloop event loop: `uvloop.run(serve(app, sock))`.
    """
    await server_of(app, drain_s=drain_s, bounds=with_files(bounds or Bounds())).serve(sockets=[sock])


def with_files(bounds: Bounds) -> Bounds:
    """No more connections than this process may have open; as far as it may, it allows itself more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.max_connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return bounds
    return structs.replace(bounds, max_connections=max(1, soft - _SPARE_FILES))
