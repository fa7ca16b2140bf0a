"""The engine's client against a worker that speaks the frames and misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.engine.client import MAX_FRAME_BYTES, EngineClient
from hodios.engine.messages import Abort, FromClient, FromWorker, Hello, Output, Refused, Stats, Step, Submit
from hodios.engine.messages import TokenAlternatives as Alternatives
from hodios.errors import InvalidRequest, Overloaded, ProviderError

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


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


def submit(client: EngineClient, **fields: object) -> Submit:
    return msgspec.convert({"type": "Submit", "prompt": [1], "max_tokens": 4, **fields, "id": client.new_id()}, Submit)


async def collect(outputs: AsyncGenerator[Output, None]) -> list[Output]:
    return [output async for output in outputs]


def tokens_by_index(outputs: list[Output]) -> dict[int, list[int]]:
    tokens: dict[int, list[int]] = {}
    for output in outputs:
        tokens.setdefault(output.index, []).extend(output.tokens)
    return tokens


async def test_yields_until_every_continuation_has_finished(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        answer = asyncio.create_task(collect(client.generate(submit(client, n=2))))
        request = await connection.receive()
        assert isinstance(request, Submit)
        assert request.n == 2
        await connection.send(
            step(Output(id=request.id, index=0, tokens=[5]), Output(id=request.id, index=1, tokens=[6])),
            step(Output(id=request.id, index=1, tokens=[7], finish_reason="stop", stop_token=7)),
            step(Output(id=request.id, index=0, tokens=[8], finish_reason="length")),
        )
        outputs = await answer
        assert tokens_by_index(outputs) == {0: [5, 8], 1: [6, 7]}
        assert client.stats == STATS
        assert client.hello == HELLO
        assert client.state == "ready"


async def test_each_of_many_requests_gets_its_own(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        answers = [asyncio.create_task(collect(client.generate(submit(client, prompt=[k])))) for k in range(64)]
        requests = [await connection.receive() for _ in answers]
        numbers = {request.id: request.prompt[0] for request in requests if isinstance(request, Submit)}
        for count in range(10):
            reason = "length" if count == 9 else None
            outputs = [
                Output(id=id, index=0, tokens=[number, count], finish_reason=reason) for id, number in numbers.items()
            ]
            await connection.send(step(*outputs, Output(id=10**9, index=0, tokens=[9])))
        for number, answer in enumerate(answers):
            expected = [token for count in range(10) for token in (number, count)]
            assert tokens_by_index(await answer) == {0: expected}


async def test_several_submissions_in_one_call(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        submits = [submit(client, prompt=[number]) for number in range(3)]
        answer = asyncio.create_task(collect(client.generate(*submits)))
        for expected in submits:
            assert await connection.receive() == expected
        for request in reversed(submits):
            await connection.send(step(Output(id=request.id, index=0, tokens=request.prompt, finish_reason="stop")))
        assert {output.id: output.tokens for output in await answer} == {each.id: each.prompt for each in submits}


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


async def test_refusals(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        for reason, error in (("full", Overloaded), ("invalid", InvalidRequest)):
            answer = asyncio.create_task(collect(client.generate(submit(client), submit(client))))
            first, second = await connection.receive(), await connection.receive()
            refused = Refused(id=first.id, reason=reason, message="no room", param="prompt")  # type: ignore[arg-type]
            await connection.send(frame(refused))
            with pytest.raises(error, match="no room") as failure:
                await answer
            assert failure.value.param == (None if reason == "full" else "prompt")
            assert bool(failure.value.retry_after) == (reason == "full")
            assert await connection.receive() == Abort(second.id)
        await connection.send(frame(Refused(id=12345, reason="full", message="unknown")))
        assert client.state == "ready"


async def test_a_failed_continuation_fails_the_request_and_stops_its_siblings(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        answer = asyncio.create_task(collect(client.generate(submit(client, n=2))))
        request = await connection.receive()
        await connection.send(
            step(Output(id=request.id, index=1, tokens=[], finish_reason="error", error="grammar died"))
        )
        with pytest.raises(ProviderError, match="grammar died"):
            await answer
        assert await connection.receive() == Abort(request.id)


async def test_closing_the_generator_aborts(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        unused = client.generate(submit(client))
        await unused.aclose()
        outputs = client.generate(submit(client, n=3))
        first = asyncio.ensure_future(anext(outputs))
        request = await connection.receive()
        assert request.id == 2
        await connection.send(step(Output(id=request.id, index=0, tokens=[5])))
        await first
        await outputs.aclose()
        assert await connection.receive() == Abort(request.id)
        waiting = asyncio.create_task(collect(client.generate(submit(client))))
        request = await connection.receive()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await connection.receive() == Abort(request.id)


async def test_aborting_one_continuation_leaves_the_others(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        outputs = client.generate(submit(client, n=2))
        first = asyncio.ensure_future(anext(outputs))
        request = await connection.receive()
        await connection.send(step(Output(id=request.id, index=1, tokens=[5])))
        await first
        client.abort(request.id, 1)
        client.abort(request.id, 1)
        client.abort(request.id + 1, 0)
        assert await connection.receive() == Abort(request.id, 1)
        late = Output(id=request.id, index=1, tokens=[6])
        await connection.send(step(late, Output(id=request.id, index=0, tokens=[7], finish_reason="stop")))
        assert [output.tokens for output in await collect(outputs)] == [[7]]
        outputs = client.generate(submit(client))
        first = asyncio.ensure_future(anext(outputs))
        request = await connection.receive()
        await connection.send(step(Output(id=request.id, index=0, tokens=[5])))
        await first
        client.abort(request.id, 0)
        assert await collect(outputs) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=30), st.integers(0, 30))
def test_a_slow_consumer_gets_everything_merged(pieces: list[tuple[int, int, bool]], pause: int) -> None:
    """Outputs that pile up are as many as there are continuations, whatever the number of steps."""
    expected: dict[int, list[int]] = {0: [], 1: [], 2: []}
    outputs = [Output(id=1, index=0, tokens=[], cached_tokens=3, queue_s=0.5)]
    for number, (index, count, with_prompt) in enumerate(pieces):
        tokens = [number] * count
        expected[index] += tokens
        alternatives = [Alternatives(token, -1.0) for token in tokens]
        prompt = [Alternatives(number, None)] if with_prompt else None
        outputs.append(
            Output(id=1, index=index, tokens=tokens, logprobs=alternatives, prompt_logprobs=prompt, accepted_drafts=1)
        )
    ends = [Output(id=1, index=index, tokens=[], finish_reason="length") for index in range(3)]

    async def exchange(path: Path) -> list[Output]:
        async with connected(path) as (client, _, connection):
            answer = client.generate(submit(client, n=3))
            first = asyncio.ensure_future(anext(answer))
            await connection.receive()
            await connection.send(*(step(output) for output in outputs[: pause + 1]))
            received = [await first]
            await connection.send(*(step(output) for output in [*outputs[pause + 1 :], *ends]))
            inbox = client._inboxes[1]
            await until(lambda: not inbox.unfinished)  # every frame has arrived before anybody takes one
            late = await collect(answer)
            assert len(late) <= 3 + 3
            return received + late

    with tempfile.TemporaryDirectory() as folder:
        received = asyncio.run(exchange(Path(folder) / "engine.sock"))
    tokens = tokens_by_index(received)
    assert {index: tokens.get(index, []) for index in range(3)} == expected
    logprobs = [entry.token_id for output in received for entry in output.logprobs or []]
    assert sorted(logprobs) == sorted(token for tokens in expected.values() for token in tokens)
    assert sum(len(output.prompt_logprobs or []) for output in received) == sum(
        with_prompt for *_, with_prompt in pieces
    )
    assert sum(output.accepted_drafts for output in received) == len(pieces)
    assert max(output.cached_tokens for output in received) == 3
    assert max(output.queue_s for output in received) == 0.5


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


async def test_closing_the_client_ends_its_streams(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        answer = asyncio.create_task(collect(client.generate(submit(client))))
        await connection.receive()
        await client.aclose()
        await client.aclose()
        with pytest.raises(ProviderError, match="shut down"):
            await answer
        assert client.state == "closed"
        assert client.restarts == 0
        with pytest.raises(ProviderError, match="shut down"):
            await collect(client.generate(submit(client)))
        with pytest.raises(ProviderError):
            await client.wait_ready()
        await client.start()
        assert client.state == "closed"


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
