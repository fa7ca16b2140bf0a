"""The connection to one other server: bodies out, JSON documents in, streamed or whole. Knows no dialect.

A reply that is closed closes its connection, which is how a server learns that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hodios.errors import HodiosError, TimedOut
from hodios.providers.http_client import ConnectTimeout, HttpClient, Unreachable
from hodios.providers.http_connection import Disconnected, Response
from hodios.providers.refusals import Judge
from hodios.providers.server_events import MOST_BYTES, EventReader
from hodios.remotes import Remote

_MOST_REFUSAL_BYTES = 64 * 1024
_DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode
_FAILURES = (ConnectTimeout, Disconnected, Unreachable)

Document = Mapping[str, Any]


class Upstream:
    """One client for all requests, so that connections are kept."""

    def __init__(self, remote: Remote, key: str | None, *, clock: Callable[[], datetime] | None = None) -> None:
        self.judge = Judge(remote.name, key)
        self._remote = remote
        self._path = urlsplit(remote.base_url).path.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._clock = clock or (lambda: datetime.now(UTC))
        self._client: HttpClient | None = None

    async def start(self) -> None:
        if self._client is None:
            self._client = HttpClient(self._remote.base_url, self._headers, self._remote.connect_timeout_s)

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def ask(self, route: str, body: Mapping[str, Any]) -> Reply:
        """The answer to a POST of `body` to `route`, once it has begun. It has to be closed.

        Raises InvalidRequest and Overloaded as the server does, TimedOut, and ProviderError for all else.
        """
        patience = _Patience(self._remote)
        response = await self._post(route, body, patience)
        if response.status == 200:
            return Reply(self, response, patience, is_stream=_is_stream(response, body))
        try:
            raise self._refusal(response, await self.all(response, patience, _MOST_REFUSAL_BYTES))
        finally:
            response.close()

    async def status_of(self, route: str, within_s: float) -> int | None:
        """Of a GET, of whose answer nothing else is read; None where nobody answers in time."""
        got = await self._got(f"{self._path}{route}", within_s, 0)
        return None if got is None else got[0]

    async def text_at_root(self, route: str, within_s: float, most_bytes: int) -> bytes | None:
        """The text of a 200 to a GET of what lies beside the version; None where it does not come whole in time, or
        is longer."""
        got = await self._got(self._path.removesuffix("/v1") + route, within_s, most_bytes + 1)
        return got[1] if got is not None and got[0] == 200 and len(got[1]) <= most_bytes else None

    async def _got(self, path: str, within_s: float, most_bytes: int) -> tuple[int, bytes] | None:
        """Status and as much of the body; None where nobody answers in time."""
        if self._client is None:
            return None
        deadline_s = asyncio.get_running_loop().time() + within_s
        body = bytearray()
        try:
            response = await self._client.get(path, {"Accept": "*/*"}, deadline_s)
            try:
                while len(body) < most_bytes and (chunk := await response.read(deadline_s)):
                    body += chunk
            finally:
                response.close()
        except (*_FAILURES, TimeoutError):
            return None
        return response.status, bytes(body[:most_bytes])

    async def _post(self, route: str, body: Mapping[str, Any], patience: _Patience) -> Response:
        if self._client is None:
            raise self.judge.broken("is not connected")
        try:
            return await self._client.post(self._path + route, _encode(body), patience.deadline_s())
        except (*_FAILURES, TimeoutError) as error:
            raise self._failure(error, patience) from None

    async def all(self, response: Response, patience: _Patience, most_bytes: int) -> bytes:
        """The whole body, or as much of it as anybody wants to know."""
        body = await self.chunk(response, patience)
        while len(body) < most_bytes and not response.is_read and (chunk := await self.chunk(response, patience)):
            body += chunk
        return body[:most_bytes]

    async def chunk(self, response: Response, patience: _Patience) -> bytes:
        """What has come of the body, at least a byte; b"" at its end."""
        try:
            chunk = await response.read(patience.deadline_s())
        except (*_FAILURES, TimeoutError) as error:
            raise self._failure(error, patience) from None
        patience.has_heard = True
        return chunk

    def _timed_out(self, what: str, seconds: float) -> TimedOut:
        name = self._remote.name
        return TimedOut(f"{name} {what} within {seconds:g} s", metadata={"provider": name})

    def _failure(self, error: Exception, patience: _Patience) -> HodiosError:
        if isinstance(error, ConnectTimeout):
            return self._timed_out("could not be reached", self._remote.connect_timeout_s)
        if isinstance(error, TimeoutError):
            what = "was silent in the middle of its answer" if patience.has_heard else "did not begin to answer"
            return self._timed_out(what, patience.most_s)
        if isinstance(error, Unreachable):
            # Errors of certificates have no error of the system.
            return self.judge.broken(f"cannot be reached: {error.error.strerror or type(error.error).__name__}")
        if patience.has_heard:
            return self.judge.broken("broke off its answer")
        return self.judge.broken("closed the connection without an answer")

    def _refusal(self, response: Response, body: bytes) -> HodiosError:
        retry_after = response.headers.get(b"retry-after")
        told = None if retry_after is None else retry_after.decode("latin-1")
        return self.judge.refusal(response.status, body, retry_after=told, now=self._clock())

    def read(self, data: bytes) -> Document:
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


class Reply:
    """What a server answers: one document, or a stream of them."""

    def __init__(self, upstream: Upstream, response: Response, patience: _Patience, *, is_stream: bool) -> None:
        self.is_stream = is_stream
        self._upstream = upstream
        self._response = response
        self._patience = patience
        self._document: Document | None = None

    async def document(self) -> Document:
        """Where it is no stream: all of it. Raises TimedOut, ProviderError."""
        if self._document is None:
            body = await self._upstream.all(self._response, self._patience, MOST_BYTES + 1)
            self._document = self._upstream.read(body)
        return self._document

    async def documents(self) -> AsyncGenerator[Document | None, None]:
        """The JSON objects in order; None where the server said that this was all. Raises TimedOut, ProviderError."""
        if not self.is_stream:
            yield await self.document()
            yield None
            return
        upstream, events = self._upstream, EventReader()
        is_open = True
        while is_open:
            chunk = await upstream.chunk(self._response, self._patience)
            is_open = bool(chunk)
            for data in events.push(chunk) if is_open else events.finish():
                if data.strip() == _DONE:
                    yield None
                    return
                yield upstream.read(data)

    def close(self) -> None:
        """Of a connection whose answer was read to its end this takes nothing: it is kept."""
        self._response.close()


class _Patience:
    """How long the next bytes of one answer may take."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._now_s = asyncio.get_running_loop().time
        self._first_s = self._now_s() + remote.first_byte_timeout_s
        self.has_heard = False

    @property
    def most_s(self) -> float:
        return self._remote.silence_timeout_s if self.has_heard else self._remote.first_byte_timeout_s

    def deadline_s(self) -> float:
        """A time of the event loop."""
        return self._now_s() + self._remote.silence_timeout_s if self.has_heard else self._first_s


def _is_stream(response: Response, body: Mapping[str, Any]) -> bool:
    """Some servers stream without saying so, and some do not stream though they were asked to."""
    kind = response.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == b"text/event-stream" or (bool(body.get("stream")) and not kind.endswith(b"json"))


def _decode(data: bytes) -> Any:
    """JSON as servers write it: halves of surrogate pairs, NaN and bytes that are no UTF-8 pass."""
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data.decode("utf-8", "replace"))
