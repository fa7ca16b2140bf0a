"""Outputs into choices: several prompts, several continuations, the best of them, and the echo."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scripted_engine import (
    IM_END,
    Frames,
    alternatives,
    collect,
    continuation,
    ends,
    frames_of,
    hello,
    provider,
    request,
    saying,
    texts,
    usage,
)

from hodios.engine.messages import Abort, Output, Submit
from hodios.events import Event, Started, Stopped, Text, Usage


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


async def test_several_prompts_and_continuations(path: Path) -> None:
    def script(submit: Submit) -> Frames:
        prompt = bytes(submit.prompt).decode()
        return frames_of(*(continuation(submit, index, f"{prompt}{index}".encode()) for index in range(submit.n)))

    async with provider(path, script) as (local, _):
        events = await collect(local, request("a", "bc", "d", n=2))
        assert texts(events) == {0: "a0", 1: "a1", 2: "bc0", 3: "bc1", 4: "d0", 5: "d1"}
        assert set(ends(events)) == set(range(6))
        assert usage(events).prompt_tokens == 4
        assert usage(events).completion_tokens == 14


async def test_more_prompts_than_the_queue_holds(path: Path) -> None:
    running = most = 0

    def script(submit: Submit) -> Frames:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield [Output(id=submit.id, index=0, tokens=submit.prompt)]
        running -= 1
        yield [Output(id=submit.id, index=0, tokens=[], finish_reason="length", queue_s=submit.prompt[0] / 100)]

    async with provider(path, script, greeting=hello(max_queue=8)) as (local, _):
        prompts = [chr(97 + number) for number in range(21)]
        events = await collect(local, request(*prompts))
        assert texts(events) == dict(enumerate(prompts))
        assert usage(events).queue_s == (97 + 20) / 100
        assert 1 <= most <= 2


async def test_different_stops_in_several_continuations(path: Path) -> None:
    said = ["aaSTOPaaaa", "bENDbbbbbb", "ccccc", "STO", "dddEN"]
    async with provider(path, saying(*said)) as (local, scripted):
        events = await collect(local, request(n=5, stop=("STOP", "END")))
        assert texts(events) == {0: "aa", 1: "b", 2: "ccccc", 3: "STO", 4: "dddEN"}
        assert ends(events) == {
            0: Stopped(0, "stop", "STOP"),
            1: Stopped(1, "stop", "END"),
            2: Stopped(2, "stop"),
            3: Stopped(3, "stop"),
            4: Stopped(4, "stop"),
        }
        assert usage(events).completion_tokens == 6 + 4 + 6 + 4 + 6
        aborts = [scripted.aborts.get_nowait() for _ in range(scripted.aborts.qsize())]
        assert set(aborts) <= {Abort(1, 0), Abort(1, 1)}


async def test_a_stop_string_aborts_in_the_engine(path: Path) -> None:
    def script(submit: Submit) -> Frames:
        for token in b"x STOP and on":
            yield [Output(id=submit.id, index=0, tokens=[token])]

    async with provider(path, script) as (local, scripted):
        events = await collect(local, request(stop=("STOP",)))
        assert texts(events) == {0: "x "}
        assert usage(events).completion_tokens <= 6
        assert await scripted.aborts.get() == Abort(scripted.submits[0].id, 0)


async def test_echo(path: Path) -> None:
    async with provider(path, saying("yes")) as (local, _):
        events = await collect(local, request("abc", (100, 101, IM_END), echo=True, n=2))
        assert texts(events, is_echo=True) == {0: "abc", 1: "abc", 2: "de<|im_end|>", 3: "de<|im_end|>"}
        assert texts(events) == dict.fromkeys(range(4), "yes")
        seen = set()
        for event in events:
            if isinstance(event, Text):
                assert event.is_echo == (event.index not in seen)
                seen.add(event.index)


async def test_echo_and_nothing_else(path: Path) -> None:
    async with provider(path, saying("yes")) as (local, _):
        events = await collect(local, request("abc", echo=True, max_tokens=0))
        assert texts(events, is_echo=True) == {0: "abc"}
        assert texts(events) == {}
        assert ends(events) == {0: Stopped(0, "length")}
        assert usage(events) == Usage(prompt_tokens=3, completion_tokens=0)


@settings(max_examples=40)
@given(st.permutations(range(6)), st.lists(st.integers(1, 4), max_size=3), st.booleans())
def test_prompt_logprobs_come_first_whatever_the_order(order: list[int], cuts: list[int], ends_at_once: bool) -> None:
    """Other continuations may begin before continuation 0 has told the prompt's last log-probability."""

    def script(submit: Submit) -> Frames:
        told = [alternatives(token, 1, None if position == 0 else -2.0) for position, token in enumerate(submit.prompt)]
        edges = sorted({0, *cuts, 5})
        stretches = [told[start:stop] for start, stop in itertools.pairwise(edges)]
        first = [Output(id=submit.id, index=0, tokens=[], prompt_logprobs=stretch) for stretch in stretches]
        if ends_at_once:
            first[-1] = replace(first[-1], finish_reason="length")
        else:
            first += continuation(submit, 0, b"zero")
        queues = [first, continuation(submit, 1, b"one"), continuation(submit, 2, b"two")]
        while any(queues):
            for number in order:
                if queues[number % 3]:
                    yield [queues[number % 3].pop(0)]

    async def ask(path: Path) -> list[Event]:
        async with provider(path, script) as (local, _):
            return await collect(local, request("abcde", echo=True, logprobs=1, n=3))

    with tempfile.TemporaryDirectory() as folder:
        events = asyncio.run(ask(Path(folder) / "engine.sock"))
    assert texts(events, is_echo=True) == {0: "abcde", 1: "abcde", 2: "abcde"}
    assert texts(events) == ({} if ends_at_once else {0: "zero"}) | {1: "one", 2: "two"}
    echoes = [event for event in events if isinstance(event, Text) and event.is_echo]
    assert len(echoes) == 3
    for echo in echoes:
        assert [entry.text for entry in echo.logprobs] == list("abcde")
        assert [entry.logprob for entry in echo.logprobs] == [None, -2.0, -2.0, -2.0, -2.0]
    first = {event.index: event for event in reversed(events) if isinstance(event, Text)}
    assert all(event.is_echo for event in first.values())


async def test_the_best_of_several(path: Path) -> None:
    means = [-3.0, -1.0, -2.0, -0.5, -9.0]

    def script(submit: Submit) -> Frames:
        assert submit.n == 5
        assert submit.sampling.logprobs == 0
        said = [f"answer {index}".encode() * (1 + index % 2) for index in range(5)]
        return frames_of(*(continuation(submit, index, said[index], logprob=means[index]) for index in range(5)))

    async with provider(path, script) as (local, _):
        events = await collect(local, request("a", "b", n=2, best_of=5, echo=True))
        best = {0: "answer 3answer 3", 1: "answer 1answer 1"}
        assert texts(events) == best | {index + 2: text for index, text in best.items()}
        assert texts(events, is_echo=True) == {0: "a", 1: "a", 2: "b", 3: "b"}
        assert usage(events).completion_tokens == 2 * (3 * 8 + 2 * 16)
        assert not any(event.logprobs for event in events if isinstance(event, Text))
        assert len([event for event in events if isinstance(event, Text) and not event.is_echo]) == 4


async def test_the_best_of_several_with_logprobs_and_stops(path: Path) -> None:
    def script(submit: Submit) -> Frames:
        return frames_of(
            *(continuation(submit, index, b"a.b.c", logprob=-1.0 - index) for index in reversed(range(submit.n)))
        )

    async with provider(path, script) as (local, _):
        events = await collect(local, request(best_of=3, logprobs=2, stop=(".c",)))
        (text,) = [event for event in events if isinstance(event, Text)]
        assert (text.text, text.completion_tokens) == ("a.b", 5)
        assert [entry.text for entry in text.logprobs] == list("a.b")
        assert text.logprobs[0].logprob == -1.0
        assert ends(events) == {0: Stopped(0, "stop", ".c")}


async def test_usage_gathers_what_outputs_tell(path: Path) -> None:
    def script(submit: Submit) -> Frames:
        first = Output(id=submit.id, index=0, tokens=[97, 98], cached_tokens=2, queue_s=0.25, accepted_drafts=1)
        yield [first, replace(first, index=1)]
        last = replace(first, tokens=[99], cached_tokens=0, queue_s=0.0, finish_reason="length")
        yield [last, replace(last, index=1)]

    async with provider(path, script) as (local, _):
        events = await collect(local, request("abc", "def", n=2))
        assert usage(events) == Usage(
            prompt_tokens=6, completion_tokens=12, cached_tokens=4, accepted_prediction_tokens=8, queue_s=0.25
        )
        assert isinstance(events[0], Started)
        assert events[0].cached_tokens >= 2
