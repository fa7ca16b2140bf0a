"""A worker that speaks the frames and misbehaves on demand, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

from hodios.engine.client import EngineClient
from hodios.engine.messages import Abort, FromClient, FromWorker, Hello, Output, Stats, Step, Submit

HELLO = Hello(
    engine_version="1",
    weights_hash="w",
    representation="int8",
    is_exact=False,
    vocab_size=256,
    context_length=64,
    num_blocks=8,
    block_size=32,
    max_sequences=4,
    max_queue=4,
    load_s=0.1,
    pid=1,
)


STATS = Stats(num_waiting=0, num_running=1, free_blocks=7, cached_blocks=0, num_blocks=8)


GUARD_S = 20


def frame(message: FromWorker) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(4, "big") + payload


def step(*outputs: Output) -> bytes:
    return frame(Step(outputs=list(outputs), stats=STATS))


class Connection:
    """One client's connection, seen from the worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = msgspec.msgpack.Decoder(FromClient)

    async def receive(self) -> Submit | Abort:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        message: Submit | Abort = self.decoder.decode(await self.reader.readexactly(size))
        return message

    async def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.writer.write(chunk)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()
            await asyncio.sleep(0)

    def kill(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        """Deliver what was written, then end."""
        self.writer.close()


class FakeWorker:
    def __init__(self, path: Path, *, greeting: bytes = frame(HELLO)) -> None:
        self.path = path
        self.greeting = greeting
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        self._all: list[Connection] = []

    async def __aenter__(self) -> FakeWorker:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._all.append(connection)
        await connection.send(self.greeting)
        self.connections.put_nowait(connection)

    async def __aexit__(self, *_: object) -> None:
        """As `kill -9` does it: everything breaks at once."""
        self._server.close()
        for connection in self._all:
            connection.kill()
        await self._server.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


def soon(_: float) -> Awaitable[None]:
    return asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[EngineClient, FakeWorker, Connection]]:
    async with FakeWorker(path) as worker, client_of(path) as client:
        await client.wait_ready()
        yield client, worker, await worker.connections.get()


@contextlib.asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[EngineClient]:
    client = EngineClient(path, name="tiny", sleep=soon)
    await client.start()
    try:
        async with asyncio.timeout(GUARD_S):
            yield client
    finally:
        await client.aclose()


def submit(client: EngineClient, **fields: object) -> Submit:
    return msgspec.convert({"type": "Submit", "prompt": [1], "max_tokens": 4, **fields, "id": client.new_id()}, Submit)


async def collect(outputs: AsyncGenerator[Output, None]) -> list[Output]:
    return [output async for output in outputs]


def tokens_by_index(outputs: list[Output]) -> dict[int, list[int]]:
    tokens: dict[int, list[int]] = {}
    for output in outputs:
        tokens.setdefault(output.index, []).extend(output.tokens)
    return tokens
