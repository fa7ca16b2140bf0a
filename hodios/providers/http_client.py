"""Requests to one server over HTTP/1.1, on connections that are kept for the next ones. Follows no redirects, and takes
bodies as they come: none are compressed, since it asks for that where nobody asks for something else.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import aiohappyeyeballs

from hodios.providers.http_connection import Connection, Disconnected, Response

IDLE_S = 15.0
"""Longer than that a connection is not kept that nobody uses."""
_ADDRESS_DELAY_S = 0.25
"""After so long without a connection the next address of the server is tried beside the one before."""
_SAFE = "/?%:@!$&'()*+,;=~-._"


class Unreachable(Exception):
    """No connection: `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class ConnectTimeout(Exception):
    """No connection within the time that one may take."""


class HttpClient:
    """Of one event loop. `headers` go with every request, unless it has its own of the same name."""

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        """Raises ValueError for headers that would not stay on their lines."""
        parts = urlsplit(url)
        self._host = (parts.hostname or "").encode("idna").decode() if not _is_ascii(parts.hostname) else parts.hostname
        self._is_secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        host = f"[{self._host}]" if ":" in (self._host or "") else self._host
        self._authority = f"{host}:{parts.port}" if parts.port else str(host)
        self._headers = dict(headers)
        self._connect_timeout_s = connect_timeout_s
        self._context: ssl.SSLContext | None = None
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        """Those that were used last come last."""
        self._loop = asyncio.get_running_loop()
        self._post_heads: dict[str, bytes] = {}

    async def post(
        self, path: str, body: bytes, deadline_s: float, headers: Mapping[str, str] | None = None
    ) -> Response:
        """With status and headers. Raises Unreachable, ConnectTimeout, Disconnected, and TimeoutError after
        `deadline_s`, a time of the event loop."""
        head = self._post_heads.get(path) if headers is None else self._head("POST", path, {**self._headers, **headers})
        if head is None:
            head = self._post_heads[path] = self._head("POST", path, self._headers)
        return await self._ask(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body), deadline_s)

    async def get(self, path: str, headers: Mapping[str, str], deadline_s: float) -> Response:
        """As `post`."""
        return await self._ask(self._head("GET", path, {**self._headers, **headers}) + b"\r\n", deadline_s)

    def close(self) -> None:
        for connection in list(self._all):
            connection.close()

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        headers = {"Host": self._authority, **headers}
        headers.setdefault("Accept-Encoding", "identity")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        lines = [f"{method} {quote(path, safe=_SAFE)} HTTP/1.1", *lines]
        if any(character in line for line in lines for character in "\r\n\0"):
            raise ValueError("a header or an address has a line of its own in it")
        return "".join(f"{line}\r\n" for line in lines).encode()

    async def _ask(self, request: bytes, deadline_s: float) -> Response:
        """A server may close a connection that it said it would keep (llama-server does after every stream), just when
        the next request is on its way: nobody has read that one, so it is sent once more."""
        while True:
            connection = self._kept() or await self._connected(deadline_s)
            is_new = connection.is_new
            try:
                return await connection.ask(request, deadline_s)
            except Disconnected:
                if is_new:
                    raise

    def _kept(self) -> Connection | None:
        oldest_s = self._loop.time() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closing:
                continue
            if connection.idle_since_s >= oldest_s:
                return connection
            connection.close()
        return None

    async def _connected(self, deadline_s: float) -> Connection:
        within_s = deadline_s - self._loop.time()
        try:
            async with asyncio.timeout(min(within_s, self._connect_timeout_s)):
                return await self._connect()
        except TimeoutError:
            if within_s < self._connect_timeout_s:
                raise
            raise ConnectTimeout from None
        except OSError as error:
            raise Unreachable(error) from None

    async def _connect(self) -> Connection:
        addresses = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_ADDRESS_DELAY_S, interleave=1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_secure and self._context is None:
            # Reads the certificates of the machine, which takes a while.
            self._context = await asyncio.to_thread(_context)
        name = self._host if self._is_secure else None
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._rest, self._lost), sock=sock, ssl=self._context, server_hostname=name
        )
        self._all.add(connection)
        return connection

    def _rest(self, connection: Connection) -> None:
        now_s = connection.idle_since_s = self._loop.time()
        self._idle.append(connection)
        if self._idle[0].idle_since_s < now_s - IDLE_S:
            self._idle.pop(0).close()

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _is_ascii(host: str | None) -> bool:
    return host is None or host.isascii()


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
