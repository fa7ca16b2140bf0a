"""The engine's client against everything that can go wrong on a socket."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from fake_worker import (
    GUARD_S,
    HELLO,
    STATS,
    FakeWorker,
    client_of,
    collect,
    connected,
    frame,
    step,
    submit,
    tokens_by_index,
    until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.engine.client import MAX_FRAME_BYTES, EngineClient
from hodios.engine.messages import Hello, Output, Refused
from hodios.engine.messages import TokenAlternatives as Alternatives
from hodios.errors import Overloaded, ProviderError


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


async def test_refuses_at_once_while_the_worker_is_away(path: Path) -> None:
    async with client_of(path) as client:
        assert client.state == "loading"
        with pytest.raises(Overloaded, match="tiny is loading") as refusal:
            await collect(client.generate(submit(client)))
        assert refusal.value.retry_after
        async with FakeWorker(path):
            assert await client.wait_ready() == HELLO
            assert client.restarts == 0
        await until(lambda: client.state != "ready")
        assert client.state == "restarting"
        assert client.restarts == 1
        with pytest.raises(Overloaded, match="tiny is restarting") as refusal:
            await collect(client.generate(submit(client)))
        assert refusal.value.retry_after
        async with FakeWorker(path):
            await client.wait_ready()
        assert client.hello == HELLO


async def test_delays_grow_to_their_bound(path: Path) -> None:
    delays: list[float] = []
    enough = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)
        if len(delays) >= 6:
            enough.set()
        await asyncio.sleep(0)

    client = EngineClient(path, name="tiny", first_delay_s=1.0, max_delay_s=5.0, sleep=sleep)
    await client.start()
    await client.start()
    async with asyncio.timeout(GUARD_S):
        await enough.wait()
        assert delays[:6] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
        async with FakeWorker(path):
            await client.wait_ready()
            delays.clear()
            enough.clear()
        await enough.wait()
        assert delays[0] == 1.0
    await client.aclose()


async def test_a_killed_worker_fails_every_request_once(path: Path) -> None:
    failures: list[tuple[str | None, int | None]] = []

    async def consume(client: EngineClient, number: int, begun: asyncio.Event) -> list[int]:
        seen: list[int] = []
        try:
            async for output in client.generate(submit(client, prompt=[number])):
                seen += output.tokens
                begun.set()
        except Overloaded as failure:
            failures.append((failure.code, failure.retry_after))
        return seen

    async with connected(path) as (client, worker, connection):
        begun = [asyncio.Event() for _ in range(20)]
        tasks = [asyncio.create_task(consume(client, number, begun[number])) for number in range(20)]
        requests = [await connection.receive() for _ in tasks]
        last = Output(id=requests[1].id, index=0, tokens=[8], finish_reason="stop")
        await connection.send(step(Output(id=requests[0].id, index=0, tokens=[7]), last))
        await begun[0].wait()
        connection.kill()
        answers = await asyncio.gather(*tasks)
        assert failures == [("engine_restarted", 1)] * 19
        assert answers[0] == [7]
        assert answers[1] == [8]
        assert client.stats is None
        await client.wait_ready()
        again = asyncio.create_task(collect(client.generate(submit(client))))
        connection = await worker.connections.get()
        request = await connection.receive()
        assert request.id not in {earlier.id for earlier in requests}
        await connection.send(step(Output(id=request.id, index=0, tokens=[1], finish_reason="stop")))
        assert len(await again) == 1


def test_a_connection_cut_at_every_byte_ends_cleanly(path: Path) -> None:
    first = step(Output(id=1, index=0, tokens=[5]))
    second = step(Output(id=1, index=0, tokens=[6], finish_reason="length"))
    hello = frame(HELLO)
    whole = hello + first + second

    async def cut_at(position: int) -> None:
        async with FakeWorker(path, greeting=whole[: min(position, len(hello))]) as worker, client_of(path) as client:
            connection = await worker.connections.get()
            worker.greeting = hello
            if position < len(hello):
                connection.close()
                await client.wait_ready()
                assert client.restarts == 0
                return
            await client.wait_ready()
            answer = asyncio.create_task(collect(client.generate(submit(client))))
            await connection.receive()
            await connection.send(whole[len(hello) : position])
            connection.close()
            if position == len(whole):
                assert tokens_by_index(await answer) == {0: [5, 6]}
            else:
                with pytest.raises(Overloaded, match="stopped while it answered"):
                    await answer
            await worker.connections.get()
            await client.wait_ready()
            assert client.restarts == 1

    async def every_cut() -> None:
        for position in range(len(whole) + 1):
            await cut_at(position)

    asyncio.run(every_cut())


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_the_bytes_gives_the_same(cuts: list[int]) -> None:
    outputs = [Output(id=1, index=0, tokens=[token], logprobs=[Alternatives(token, -0.5)]) for token in range(4)]
    end = Output(id=1, index=0, tokens=[], finish_reason="length")
    stream = b"".join(step(output) for output in [*outputs, end])
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(edges)]

    async def exchange(path: Path) -> list[Output]:
        async with connected(path) as (client, _, connection):
            answer = asyncio.create_task(collect(client.generate(submit(client))))
            await connection.receive()
            await connection.send(*chunks)
            return await answer

    with tempfile.TemporaryDirectory() as folder:
        received = asyncio.run(exchange(Path(folder) / "engine.sock"))
    assert tokens_by_index(received) == {0: [0, 1, 2, 3]}
    assert sum(len(output.logprobs or []) for output in received) == 4


NESTED = b"\x91" * 100_000 + b"\xc0"


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x",
        b"\xff\xff\xff\xff",
        framed(b""),
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode({"type": "Future", "version": 2})),
        framed(msgspec.msgpack.encode({"type": "Step", "outputs": "none"})),
        framed(b"\x81\xa4type\xa2\xff\xfe"),
        framed(NESTED),
        framed(b"\x82\xa1x" + NESTED + b"\xa4type\xa4Step"),
        framed(msgspec.msgpack.encode(STATS)),
        frame(HELLO),
    ],
)
async def test_garbage_ends_the_connection_and_nothing_else(path: Path, garbage: bytes) -> None:
    async with connected(path) as (client, worker, connection):
        answer = asyncio.create_task(collect(client.generate(submit(client))))
        await connection.receive()
        await connection.send(garbage)
        with pytest.raises(Overloaded):
            await answer
        await worker.connections.get()
        await client.wait_ready()
        assert client.restarts == 1


@pytest.mark.parametrize(
    "greeting",
    [
        step(),
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode({"type": "Hello"})),
        frame(Refused(id=1, reason="full", message="")),
    ],
)
async def test_a_wrong_greeting_is_no_worker(path: Path, greeting: bytes) -> None:
    async with FakeWorker(path, greeting=greeting) as worker, client_of(path) as client:
        await worker.connections.get()
        await worker.connections.get()
        assert client.state == "loading"
        worker.greeting = frame(HELLO)
        await client.wait_ready()
        assert client.restarts == 0


async def test_random_bytes_never_stop_the_client(path: Path) -> None:
    dice = random.Random(1)
    async with connected(path) as (client, worker, connection):
        for _ in range(100):
            await connection.send(framed(dice.randbytes(dice.randrange(40))))
            connection = await worker.connections.get()
        await client.wait_ready()


async def test_a_worker_that_does_not_read_stalls_only_who_writes(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        ready = asyncio.create_task(collect(client.generate(submit(client))))
        request = await connection.receive()
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        stuck = asyncio.create_task(collect(client.generate(submit(client, prompt=[70000] * 2_000_000))))
        await asyncio.sleep(0)
        await connection.send(step(Output(id=request.id, index=0, tokens=[3], finish_reason="stop")))
        assert len(await ready) == 1
        assert not stuck.done()
        connection.kill()
        with pytest.raises(Overloaded):
            await stuck


async def test_closing_while_the_worker_is_away(path: Path) -> None:
    client = EngineClient(path, name="tiny")
    await client.aclose()
    client = EngineClient(path, name="tiny")
    await client.start()
    waiting: Callable[[], Awaitable[Hello]] = client.wait_ready
    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(ProviderError):
        await task
