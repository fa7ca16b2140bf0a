"""The engine's client with a worker that does its part."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_worker import HELLO, STATS, collect, connected, frame, step, submit, tokens_by_index, until
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.engine.messages import Abort, Output, Refused, Submit
from hodios.engine.messages import TokenAlternatives as Alternatives
from hodios.errors import HodiosError, InvalidRequest, Overloaded, ProviderError


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


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


@pytest.mark.parametrize(("param", "error"), [(None, ProviderError), ("response_format", InvalidRequest)])
async def test_a_failed_continuation_fails_the_request_and_stops_its_siblings(
    path: Path, param: str | None, error: type[HodiosError]
) -> None:
    async with connected(path) as (client, _, connection):
        answer = asyncio.create_task(collect(client.generate(submit(client, n=2))))
        request = await connection.receive()
        await connection.send(
            step(
                Output(
                    id=request.id, index=1, tokens=[], finish_reason="error", error="grammar died", error_param=param
                )
            )
        )
        with pytest.raises(error, match="grammar died") as failure:
            await answer
        assert failure.value.param == param
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


async def test_what_is_aborted_before_it_is_taken_is_never_seen(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        outputs = client.generate(submit(client, n=2))
        first = asyncio.ensure_future(anext(outputs))
        request = await connection.receive()
        await connection.send(step(Output(id=request.id, index=0, tokens=[5])))
        await first
        inbox = client._inboxes[request.id]
        await connection.send(step(Output(id=request.id, index=1, tokens=[6])))
        await until(lambda: bool(inbox.outputs))
        client.abort(request.id, 1)
        await connection.send(step(Output(id=request.id, index=0, tokens=[7], finish_reason="stop")))
        assert [output.tokens for output in await collect(outputs)] == [[7]]


async def test_an_answer_that_was_complete_survives_its_worker(path: Path) -> None:
    async with connected(path) as (client, _, connection):
        outputs = client.generate(submit(client))
        first = asyncio.ensure_future(anext(outputs))
        request = await connection.receive()
        await connection.send(step(Output(id=request.id, index=0, tokens=[5])))
        await first
        await connection.send(step(Output(id=request.id, index=0, tokens=[6], finish_reason="stop")))
        connection.close()
        await until(lambda: client.restarts == 1)
        assert [output.tokens for output in await collect(outputs)] == [[6]]
