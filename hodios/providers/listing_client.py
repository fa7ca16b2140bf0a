"""Asks a provider for its list of models: free of charge, and with bounds on all that may come back.

Follows no redirect, because the key would go with it. Reads what comes by `listings`; keeps nothing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from hodios.errors import HodiosError, ProviderError, TimedOut
from hodios.providers.catalog_rows import ProviderRow
from hodios.providers.http_client import ConnectTimeout, HttpClient, Unreachable
from hodios.providers.http_connection import Disconnected, Response
from hodios.providers.listing_entries import Ask, Tags
from hodios.providers.listing_values import decode
from hodios.providers.listings import KINDS, Reading, entries_of, read_listing
from hodios.providers.refusals import Judge

MOST_BYTES = 32 * 2**20
"""Of a list, as it is sent and also as it is unpacked."""
MOST_S = 60.0
"""For all that is asked of one provider."""
_MOST_REFUSAL_BYTES = 64 * 1024
_SEVERAL = 8
"""Models that are asked about at the same time."""


class Listed(Struct, frozen=True):
    """What a provider lists."""

    reading: Reading
    tags: Tags


class ListingClient:
    """Of one provider. One object for one visit."""

    def __init__(
        self,
        row: ProviderRow,
        key: str | None,
        *,
        most_s: float = MOST_S,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._row = row
        self._kind = KINDS[row.listing]
        self._judge = Judge(row.name, key)
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "Hodios"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._most_s = most_s
        self._most_bytes = most_bytes
        self._clock = clock

    async def read(self, tags: Tags) -> Listed | None:
        """None where nothing has changed since the answer that had these tags. Raises ProviderError, Overloaded,
        TimedOut, and InvalidRequest."""
        client = HttpClient(self._row.base_url, self._headers, self._row.connect_timeout_s)
        try:
            async with asyncio.timeout(self._most_s):
                return await self._listed(client, tags)
        except ConnectTimeout:
            raise self._timed_out("could not be reached", self._row.connect_timeout_s) from None
        except TimeoutError:
            raise self._timed_out("did not list its models", self._most_s) from None
        except Unreachable as error:
            raise self._cannot_be_asked(error.error.strerror or type(error.error).__name__) from None
        except Disconnected:
            raise self._cannot_be_asked("it closed the connection") from None
        finally:
            client.close()

    def _cannot_be_asked(self, reason: str) -> ProviderError:
        return self._judge.broken(f"cannot be asked for its models: {reason}")

    def _timed_out(self, what: str, seconds: float) -> TimedOut:
        name = self._row.name
        return TimedOut(f"{name} {what} within {seconds:g} s", metadata={"provider": name})

    async def _listed(self, client: HttpClient, tags: Tags) -> Listed | None:
        answer = await self._ask(client, self._kind.ask, tags)
        if answer is None:
            return None
        body, new_tags = answer
        try:
            document = await asyncio.to_thread(decode, body)
            entries = entries_of(self._row.listing, document)
            answers = await self._answers(client, self._kind.further(entries))
            reading = await asyncio.to_thread(
                read_listing, self._row.listing, document, native=self._row.features, answers=answers
            )
        except ValueError as error:
            raise self._judge.broken(f"sent no list of models: {error}") from None
        return Listed(reading, new_tags)

    async def _answers(self, client: HttpClient, asks: tuple[Ask, ...]) -> Mapping[Ask, Any]:
        """Those that make sense."""
        answers: dict[Ask, Any] = {}
        gate = asyncio.Semaphore(_SEVERAL)

        async def add(ask: Ask) -> None:
            async with gate:
                try:
                    answer = await self._ask(client, ask, Tags())
                except (HodiosError, Unreachable, ConnectTimeout, Disconnected):
                    return
                document = await asyncio.to_thread(_decoded, answer[0]) if answer else None
                if isinstance(document, dict):
                    answers[ask] = document

        async with asyncio.TaskGroup() as group:
            for ask in asks:
                group.create_task(add(ask))
        return answers

    async def _ask(self, client: HttpClient, ask: Ask, tags: Tags) -> tuple[bytes, Tags] | None:
        """The body of a 200; None for a 304."""
        headers = {"If-None-Match": tags.etag, "If-Modified-Since": tags.last_modified}
        headers = {name: value for name, value in headers.items() if value}
        response = await self._response(client, ask, headers)
        try:
            if response.status == 304 and headers:
                return None
            if 300 <= response.status < 400:
                raise self._judge.broken(f"answered with status {response.status}: redirects are not followed")
            if response.status != 200:
                body = await self._body(response, _MOST_REFUSAL_BYTES, is_cut=True)
                retry_after = _header(response, b"retry-after")
                raise self._judge.refusal(response.status, body, retry_after=retry_after or None, now=self._clock())
            body = await self._body(response, self._most_bytes)
            return body, Tags(_tag(response, b"etag"), _tag(response, b"last-modified"))
        finally:
            response.close()

    async def _response(self, client: HttpClient, ask: Ask, headers: Mapping[str, str]) -> Response:
        path = self._path(ask)
        if not ask.model:
            return await client.get(path, headers, self._end_s())
        body = msgspec.json.encode({"model": ask.model})
        return await client.post(path, body, self._end_s(), {"Content-Type": "application/json"})

    def _end_s(self) -> float:
        """The time of the event loop at which an answer has to be there: the visit as a whole ends before."""
        return asyncio.get_running_loop().time() + 2 * self._most_s

    def _path(self, ask: Ask) -> str:
        base = urlsplit(self._row.base_url).path.rstrip("/")
        return (base.removesuffix("/v1") if ask.is_at_root else base) + ask.path

    async def _body(self, response: Response, most: int, *, is_cut: bool = False) -> bytes:
        packed = bytearray()
        while len(packed) <= most and (chunk := await response.read(self._end_s())):
            packed += chunk
        encoding = _header(response, b"content-encoding").strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise self._judge.broken(f"packed its list by {encoding!r}, which was not asked for")
        try:
            body = bytes(packed) if encoding == "identity" else await asyncio.to_thread(_unpacked, bytes(packed), most)
        except zlib.error:
            raise self._judge.broken("packed its list wrongly") from None
        if len(body) > most and not is_cut:
            raise self._judge.broken(f"sent a list of more than {most} bytes")
        return body[:most]


def _header(response: Response, name: bytes) -> str:
    return response.headers.get(name, b"").decode("latin-1")


def _tag(response: Response, name: bytes) -> str:
    """ "" for what could not be sent back as it is."""
    value = _header(response, name)
    return value if value.isascii() and value.isprintable() else ""


def _unpacked(packed: bytes, most: int) -> bytes:
    """At most one byte more than `most`, however much it would become. Raises zlib.error."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    body = unpacker.decompress(packed, most + 1)
    if not unpacker.eof and len(body) <= most:
        raise zlib.error("it ends too early")
    return body


def _decoded(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return decode(body)
    except ValueError:
        return None
