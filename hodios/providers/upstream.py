"""The connection to one other server: bodies out, JSON documents in, streamed or whole. Knows no dialect.

A generator that is closed closes its connection, which is how a server learns that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import msgspec

from hodios.errors import HodiosError, ProviderError, TimedOut
from hodios.providers.refusals import Judge
from hodios.providers.server_events import MOST_BYTES, EventReader
from hodios.remotes import Remote

_MOST_REFUSAL_BYTES = 64 * 1024
_DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode

Document = Mapping[str, Any]
Result = TypeVar("Result")


class Upstream:
    """One session for all requests, so that connections are kept. aiohttp sets TCP_NODELAY on them all."""

    def __init__(self, remote: Remote, key: str | None, *, clock: Callable[[], datetime] | None = None) -> None:
        self.judge = Judge(remote.name, key)
        self._remote = remote
        self._url = remote.base_url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._clock = clock or (lambda: datetime.now(UTC))
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._remote.connect_timeout_s),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def documents(self, route: str, body: Mapping[str, Any]) -> AsyncGenerator[Document | None, None]:
        """The JSON objects of the answer to a POST of `body` to `route`, in order; None where the server said that
        this was all.

        Raises InvalidRequest and Overloaded as the server does, TimedOut, and ProviderError for all else.
        """
        patience = _Patience(self._remote)
        response = await self._post(route, body, patience)
        try:
            if response.status != 200:
                raise self._refusal(response, await self._all(response, patience, _MOST_REFUSAL_BYTES))
            if not _is_stream(response, body):
                yield self._read(await self._all(response, patience, MOST_BYTES + 1))
                yield None
                return
            events = EventReader()
            is_open = True
            while is_open:
                chunk = await self._chunk(response, patience)
                is_open = bool(chunk)
                for data in events.push(chunk) if is_open else events.finish():
                    if data.strip() == _DONE:
                        yield None
                        return
                    yield self._read(data)
        finally:
            # Of a connection whose answer was read to its end this takes nothing: it is kept.
            response.close()

    async def status_of(self, route: str, within_s: float) -> int | None:
        """Of a GET, of whose answer nothing else is read; None where nobody answers in time."""
        got = await self._got(f"{self._url}{route}", within_s, 0)
        return None if got is None else got[0]

    async def text_at_root(self, route: str, within_s: float, most_bytes: int) -> bytes | None:
        """The text of a 200 to a GET of what lies beside the version; None where it does not come whole in time, or
        is longer."""
        got = await self._got(self._url.removesuffix("/v1") + route, within_s, most_bytes + 1)
        return got[1] if got is not None and got[0] == 200 and len(got[1]) <= most_bytes else None

    async def _got(self, url: str, within_s: float, most_bytes: int) -> tuple[int, bytes] | None:
        """Status and as much of the body; None where nobody answers in time."""
        if self._session is None:
            return None
        body = bytearray()
        try:
            async with (
                asyncio.timeout(within_s),
                self._session.get(url, headers={"Accept": "*/*"}, allow_redirects=False) as response,
            ):
                while len(body) < most_bytes and (chunk := await response.content.readany()):
                    body += chunk
                return response.status, bytes(body[:most_bytes])
        except (aiohttp.ClientError, OSError):
            return None

    async def _post(self, route: str, body: Mapping[str, Any], patience: _Patience) -> aiohttp.ClientResponse:
        if self._session is None:
            raise self.judge.broken("is not connected")
        return await self._guarded(self._answered(self._session, f"{self._url}{route}", _encode(body)), patience)

    async def _answered(self, session: aiohttp.ClientSession, url: str, data: bytes) -> aiohttp.ClientResponse:
        """A server may close a connection that it said it would keep (llama-server does after every stream), just when
        the next request is on its way: nobody has read that one, so it is sent once more."""
        while True:
            way = _Way()
            _way.set(way)
            try:
                return await session.post(url, data=data, allow_redirects=False)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if way.is_new:
                    raise

    async def _all(self, response: aiohttp.ClientResponse, patience: _Patience, most_bytes: int) -> bytes:
        """The whole body, or as much of it as anybody wants to know."""
        body = await self._chunk(response, patience)
        while len(body) < most_bytes and (chunk := await self._chunk(response, patience)):
            body += chunk
        return body[:most_bytes]

    async def _chunk(self, response: aiohttp.ClientResponse, patience: _Patience) -> bytes:
        """What has come of the body, at least a byte; b"" at its end."""
        content = response.content
        chunk = b"" if content.exception() else content.read_nowait()
        if not chunk and not content.at_eof():
            chunk = await self._guarded(content.readany(), patience)
        patience.has_heard = True
        return chunk

    async def _guarded(self, work: Awaitable[Result], patience: _Patience) -> Result:
        """Waits no longer than is right. What aiohttp raises is never a cause: its errors hold headers and the key."""
        try:
            async with asyncio.timeout(patience.left_s):
                return await work
        except aiohttp.ConnectionTimeoutError:
            raise self._timed_out("could not be reached", self._remote.connect_timeout_s) from None
        except TimeoutError:
            what = "was silent in the middle of its answer" if patience.has_heard else "did not begin to answer"
            raise self._timed_out(what, patience.most_s) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error, patience) from None

    def _timed_out(self, what: str, seconds: float) -> TimedOut:
        name = self._remote.name
        return TimedOut(f"{name} {what} within {seconds:g} s", metadata={"provider": name})

    def _failure(self, error: Exception, patience: _Patience) -> ProviderError:
        if patience.has_heard:
            return self.judge.broken("broke off its answer")
        if isinstance(error, aiohttp.ClientConnectorError):
            # Errors of certificates have no error of the system.
            system = getattr(error, "os_error", None)
            return self.judge.broken(f"cannot be reached: {getattr(system, 'strerror', None) or type(error).__name__}")
        return self.judge.broken("closed the connection without an answer")

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> HodiosError:
        retry_after = response.headers.get("Retry-After")
        return self.judge.refusal(response.status, body, retry_after=retry_after, now=self._clock())

    def _read(self, data: bytes) -> Document:
        """One JSON object. Raises what the server says where it is an error."""
        try:
            document = _decode(data)
        except (ValueError, RecursionError):
            raise self.judge.broken("sent what is no JSON") from None
        if not isinstance(document, dict):
            raise self.judge.broken("sent JSON that is no answer")
        if document.get("error"):
            raise self.judge.told_midway(document["error"])
        return document


class _Way:
    """How one request went out."""

    is_new = False
    """Whether a connection was made for it; else it took one that had carried others before."""


_way: ContextVar[_Way] = ContextVar("_way")


class _Connector(aiohttp.TCPConnector):
    """Notes for whom connections are made. aiohttp tells that by traces too, which cost every request 15 µs."""

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        way = _way.get(None)
        if way is not None:
            way.is_new = True
        return await super()._create_connection(*args, **kwargs)


class _Patience:
    """How long the next bytes of one answer may take."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._deadline_s = asyncio.get_running_loop().time() + remote.first_byte_timeout_s
        self.has_heard = False

    @property
    def most_s(self) -> float:
        return self._remote.silence_timeout_s if self.has_heard else self._remote.first_byte_timeout_s

    @property
    def left_s(self) -> float:
        return self.most_s if self.has_heard else self._deadline_s - asyncio.get_running_loop().time()


def _is_stream(response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> bool:
    """Some servers stream without saying so, and some do not stream though they were asked to."""
    kind = response.content_type
    return kind == "text/event-stream" or (bool(body.get("stream")) and not kind.endswith("json"))


def _decode(data: bytes) -> Any:
    """JSON as servers write it: halves of surrogate pairs, NaN and bytes that are no UTF-8 pass."""
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data.decode("utf-8", "replace"))
