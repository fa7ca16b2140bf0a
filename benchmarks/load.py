"""One load on one gateway: connections that send a request, read the answer to its end, and send the next.

A process of its own: `python -m benchmarks.load LOAD`, a `Load` as JSON; prints a `Seen`. Every answer is looked at:
one that is not 200, or in which a chunk is missing, merged with another or out of place, ends the measurement.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httptools
import msgspec
import uvloop
from msgspec import Struct

PATH = "/v1/chat/completions"
NUMBER = "0123456789AB"
"""Stands in a body for the number of the request, which has as many digits."""
_TEXT = re.compile(rb'"content":\s*"([^"]+)"')
_PATIENCE_S = 60.0
"""As long as nothing at all may come. How long an answer takes is for its figures to tell, not for a limit."""


class Load(Struct, frozen=True, kw_only=True):
    body: str
    num_connections: int
    seconds: float = 0.0
    num_requests: int = 0
    """So many of them, at least one for each connection, instead of for so long."""
    first_number: int = 0
    texts: Sequence[str] = ()
    """What the chunks of a streamed answer must say, one by one; empty where it is not streamed."""
    port: int = 0
    headers: dict[str, str] = {}


class Seen(Struct, frozen=True, kw_only=True):
    """Of the answers of one load."""

    num: int
    rate: float
    """Answers per second."""
    p50_ms: float
    p99_ms: float
    first_ms: float
    """Median of the time until the first chunk with text had come whole; 0 where answers are not streamed."""


class Failure(Exception):
    """An answer is not what it has to be."""


def problem(status: int, answer: bytes, texts: Sequence[bytes]) -> str:
    """What is wrong with an answer; "" where nothing is."""
    if status != 200:
        return f"status {status}: {answer[:300]!r}"
    found = _TEXT.findall(answer)
    if not texts:
        return "" if len(found) == 1 else f"no chat completion: {answer[:300]!r}"
    if found == texts:
        return "" if answer.count(b"data: [DONE]") == 1 else "the stream has no end"
    place = next((n for n, pair in enumerate(zip(found, texts, strict=False)) if pair[0] != pair[1]), len(found))
    differs = f"{len(found)} chunks with text instead of {len(texts)}; the first that differs is number {place}"
    return f"{differs}; the answer ends with {answer[-300:]!r}"


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the sorted `values` that so many of them do not exceed."""
    return values[max(0, -(-len(values) * round(share * 1000) // 1000) - 1)]


def seen(times: Sequence[tuple[float, float]], seconds: float) -> Seen:
    """From (first text, end) of each answer, in seconds since it was asked for."""
    ends = sorted(end for _, end in times)
    firsts = sorted(first for first, _ in times)
    return Seen(
        num=len(times),
        rate=len(times) / seconds,
        p50_ms=percentile(ends, 0.5) * 1e3,
        p99_ms=percentile(ends, 0.99) * 1e3,
        first_ms=percentile(firsts, 0.5) * 1e3,
    )


class _Connection(asyncio.Protocol):
    """Its parser calls the methods `on_…`."""

    def __init__(self, load: Load, numbers: Iterator[int], until_s: float, done: asyncio.Future[None]) -> None:
        """`numbers` are those of the requests that nobody has sent yet."""
        headers = {"Host": f"127.0.0.1:{load.port}", "Content-Type": "application/json", **load.headers}
        body = load.body.encode()
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
        self._is_numbered = NUMBER in load.body
        self._texts = [text.encode() for text in load.texts]
        self._numbers = numbers
        self._until_s = until_s
        self._done = done
        self.times: list[tuple[float, float]] = []
        self.last_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask(next(self._numbers))

    def _ask(self, number: int) -> None:
        # One for each answer: it does not go on after a chunked one.
        self._parser = httptools.HttpResponseParser(self)
        self._answer = bytearray()
        self._first_s = 0.0
        self._asked_s = time.perf_counter()
        numbered = b"%0*d" % (len(NUMBER), number)
        self._transport.write(self._request.replace(NUMBER.encode(), numbered) if self._is_numbered else self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._answer += data
        if self._texts and not self._first_s and _TEXT.search(self._answer):
            self._first_s = time.perf_counter() - self._asked_s

    def on_message_complete(self) -> None:
        self.last_s = time.perf_counter()
        self.times.append((self._first_s, self.last_s - self._asked_s))
        wrong = problem(self._parser.get_status_code(), bytes(self._answer), self._texts)
        if wrong:
            self._fail(wrong)
        elif self.last_s < self._until_s and (number := next(self._numbers, None)) is not None:
            self._ask(number)
        elif not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the connection was closed in the middle of an answer")

    @property
    def progress(self) -> tuple[int, int]:
        """(whole answers, bytes of the one that is coming)"""
        return len(self.times), len(self._answer)

    def close(self) -> None:
        self._transport.close()

    def _fail(self, what: str) -> None:
        if not self._done.done():
            self._done.set_exception(Failure(what))


async def run(load: Load, patience_s: float = _PATIENCE_S) -> Seen:
    """Raises Failure, OSError."""
    loop = asyncio.get_running_loop()
    began_s = time.perf_counter()
    numbers = iter(
        range(load.first_number, load.first_number + load.num_requests)
        if load.num_requests
        else itertools.count(load.first_number)
    )
    until_s = math.inf if load.num_requests else began_s + load.seconds
    connections = []
    ends = [loop.create_future() for _ in range(load.num_connections)]
    for done in ends:
        connection = _Connection(load, numbers, until_s, done)
        connections.append(connection)
        await loop.create_connection(lambda made=connection: made, "127.0.0.1", load.port)  # type: ignore[misc] # mypy takes the default for an argument
    try:
        await _all_of(asyncio.gather(*ends), connections, patience_s)
    finally:
        for connection in connections:
            connection.close()
    times = [time for connection in connections for time in connection.times]
    return seen(times, max(connection.last_s for connection in connections) - began_s)


async def _all_of(ends: asyncio.Future[list[None]], connections: Sequence[_Connection], patience_s: float) -> None:
    """Raises Failure, also where for so long nothing comes on any of them."""
    before: list[tuple[int, int]] = []
    while not ends.done():
        await asyncio.wait([ends], timeout=patience_s)
        now = [connection.progress for connection in connections]
        if not ends.done() and now == before:
            ends.cancel()
            num_whole, num_bytes = (sum(each) for each in zip(*now, strict=True))
            raise Failure(
                f"nothing came for {patience_s:g} s, after {num_whole} answers and {num_bytes} bytes of others"
            )
        before = now
    ends.result()


def main(arguments: list[str]) -> int:
    try:
        told = uvloop.run(run(msgspec.json.decode(arguments[0], type=Load)))
    except (Failure, OSError) as error:
        print(str(error) or repr(error), file=sys.stderr)
        return 1
    print(msgspec.json.encode(told).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
