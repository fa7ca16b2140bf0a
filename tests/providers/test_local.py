"""The local provider over the real client and a scripted engine: what a request becomes, and what the answer is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scripted_engine import (
    BOS,
    CARD,
    EOS,
    IM_END,
    VOCAB_SIZE,
    ByteTokenizer,
    LineTemplate,
    Script,
    ScriptedEngine,
    alternatives,
    continuation,
    engine,
    hello,
)

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient
from hodios.engine.messages import Abort, Hello, Output, Refused, Submit
from hodios.errors import (
    ContextLengthExceeded,
    HodiosError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProviderError,
    SetupError,
)
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.providers.base import Provider
from hodios.providers.local import LocalModel, LocalProvider, fingerprint, load_local_model
from hodios.types import Grammar, Request, Sampling

Frames = Iterable[Sequence[Output | Refused | None]]


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


def frames_of(*continuations: Sequence[Output]) -> Frames:
    """Step by step, all continuations side by side."""
    longest = max(map(len, continuations))
    return [[outputs[step] for outputs in continuations if step < len(outputs)] for step in range(longest)]


def saying(*texts: str) -> Script:
    """Continuation `i` says `texts[i]`, a byte a token, and then ends."""
    return lambda submit: frames_of(
        *(
            continuation(submit, index, [*texts[index % len(texts)].encode(), EOS][: submit.max_tokens])
            for index in range(submit.n)
        )
    )


@contextlib.asynccontextmanager
async def provider(
    path: Path, script: Script, *, greeting: Hello | None = None, tokenizer: ByteTokenizer | None = None
) -> AsyncIterator[tuple[LocalProvider, ScriptedEngine]]:
    async with engine(path, script, greeting) as scripted:
        parts: Any = tokenizer or ByteTokenizer(), LineTemplate()
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(CARD, *parts, client)])
        await local.start()
        await client.wait_ready()
        yield local, scripted
        await local.aclose()


def request(*prompts: str | tuple[int, ...], **fields: Any) -> Request:
    sampling = {name: fields.pop(name) for name in list(fields) if name in Sampling.__struct_fields__}
    asked: dict[str, Any] = {"prompts": prompts or ("hi",), "sampling": Sampling(**sampling), **fields}
    return Request(id="cmpl-1", model=CARD.id, **asked)


def chat(*contents: str, **fields: Any) -> Request:
    messages = tuple({"role": "user", "content": content} for content in contents)
    return Request(id="chat-1", model=CARD.id, messages=messages, **fields)


async def collect(local: Provider, asked: Request) -> list[Event]:
    """Through the gateway, which checks the grammar of the events."""
    return [event async for event in Gateway([local]).generate(asked)]


def texts(events: Sequence[Event], *, is_echo: bool = False) -> dict[int, str]:
    answer: dict[int, str] = {}
    for event in events:
        if isinstance(event, Text) and event.is_echo == is_echo:
            answer[event.index] = answer.get(event.index, "") + event.text
    return answer


def ends(events: Sequence[Event]) -> dict[int, Stopped]:
    return {event.index: event for event in events if isinstance(event, Stopped)}


def usage(events: Sequence[Event]) -> Usage:
    assert isinstance(events[-1], Finish)
    return events[-1].usage


async def refusal(local: Provider, asked: Request) -> HodiosError:
    with pytest.raises(HodiosError) as failure:
        await collect(local, asked)
    return failure.value


async def test_a_completion(path: Path) -> None:
    async with provider(path, saying("hello €")) as (local, scripted):
        events = await collect(local, request("abc", max_tokens=20, caller="key1", cache_salt="s"))
        (card,) = local.models()
        assert card.fingerprint.startswith("fp_")
        assert len(card.fingerprint) == 15
        assert events[0] == Started("local", CARD.id, card.fingerprint, 3, 0)
        assert texts(events) == {0: "hello €"}
        assert ends(events) == {0: Stopped(0, "stop")}
        assert usage(events) == Usage(prompt_tokens=3, completion_tokens=10)
        (submit,) = scripted.submits
        assert submit.prompt == [97, 98, 99]
        assert submit.max_tokens == 20
        assert submit.eos_ids == [EOS, IM_END]
        assert submit.caller == "key1"
        assert submit.prompt_logprobs is None


async def test_everything_for_the_engine_reaches_it(path: Path) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, seed=7, stop_token_ids=(5,), logit_bias=((3, 1.5),), logprobs=3)
    grammar = Grammar("regex", "a+")
    async with provider(path, saying("ok")) as (local, scripted):
        asked = replace(request("abc", grammar=grammar, n=2, echo=True), sampling=sampling)
        await collect(local, asked)
        (submit,) = scripted.submits
        assert (submit.sampling, submit.grammar, submit.n, submit.prompt_logprobs) == (sampling, grammar, 2, 3)


async def test_salts_of_different_callers_never_meet(path: Path) -> None:
    async with provider(path, saying("ok")) as (local, scripted):
        pairs = [
            ("", ""),
            ("", "1"),
            ("1", ""),
            ("a", "b"),
            ("ab", ""),
            ("", "ab"),
            ("1:", "a"),
            ("1", ":a"),
            ("", "0:"),
        ]
        for caller, salt in pairs:
            await collect(local, request(caller=caller, cache_salt=salt))
        assert len({submit.salt for submit in scripted.submits}) == len(pairs)


async def test_a_chat(path: Path) -> None:
    async with provider(path, saying("yes")) as (local, scripted):
        assert texts(await collect(local, chat("hi"))) == {0: "yes"}
        await collect(local, chat("hi", add_generation_prompt=False, template_kwargs={"x": 1}))
        assert [bytes(submit.prompt) for submit in scripted.submits] == [b"user:hi\n>", b"user:hi\n{'x': 1}"]
        assert scripted.submits[0].max_tokens == 64 - 9


@pytest.mark.parametrize("start", ["", "<s>"])
async def test_a_chat_begins_with_one_bos(path: Path, start: str) -> None:
    tokenizer: Any = ByteTokenizer(add_bos=True)
    template: Any = LineTemplate(start)
    async with engine(path, saying("yes")) as scripted:
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(CARD, tokenizer, template, client)])
        await local.start()
        await client.wait_ready()
        await collect(local, chat("x"))
        assert scripted.submits[0].prompt == [BOS, *b"user:x\n>"]
        door = local.tokenizer(CARD.id)
        assert door is not None
        ids = await door.encode_messages(
            chat("x").messages or (), add_generation_prompt=True, continue_final_message=False, template_kwargs=None
        )
        assert ids == scripted.submits[0].prompt
        await local.aclose()


async def test_without_a_chat_template(path: Path) -> None:
    async with engine(path, saying("yes")):
        tokenizer: Any = ByteTokenizer()
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(CARD, tokenizer, None, client)])
        await local.start()
        await client.wait_ready()
        failure = await refusal(local, chat("x"))
        assert isinstance(failure, InvalidRequest)
        assert failure.param == "messages"
        await local.aclose()


@pytest.mark.parametrize(("bos_id", "eos_id", "start"), [(BOS, EOS, BOS), (None, EOS, EOS)])
async def test_an_empty_prompt_starts_a_document(path: Path, bos_id: int | None, eos_id: int, start: int) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(bos_id=bos_id, eos_id=eos_id)) as (local, scripted):
        for prompt in ("", ()):
            assert usage(await collect(local, request(prompt))).prompt_tokens == 1
        assert [submit.prompt for submit in scripted.submits] == [[start], [start]]


async def test_an_empty_prompt_without_any_token_to_start_with(path: Path) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(bos_id=None, eos_id=None)) as (local, _):
        assert (await refusal(local, request(""))).param == "prompt"


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        (request((1, VOCAB_SIZE)), "prompt", f"{VOCAB_SIZE}; the ids of this model are 0 … {VOCAB_SIZE - 1}"),
        (request((-1,)), "prompt", "-1"),
        (request(stop_token_ids=(VOCAB_SIZE,)), "stop_token_ids", f"{VOCAB_SIZE}"),
        (request(logit_bias=((10**6, 1.0),)), "logit_bias", "1000000"),
        (request(max_tokens=0), "max_tokens", "echo"),
        (
            request("a" * 60, max_tokens=5),
            "max_tokens",
            "65 together; the context of tiny/bytes holds 64. Ask for at most 4",
        ),
        (request("a" * 64), "prompt", "64 tokens; the context of tiny/bytes holds 64"),
        (request("a" * 65, max_tokens=1), "prompt", "65 tokens"),
        (request("a" * 65, max_tokens=0, echo=True), "prompt", "65 tokens"),
        (chat("a" * 70), "messages", "context"),
        (chat("a" * 50, max_tokens=20), "max_tokens", "context"),
    ],
)
async def test_what_does_not_fit_is_refused(path: Path, asked: Request, param: str, words: str) -> None:
    async with provider(path, saying("x")) as (local, scripted):
        failure = await refusal(local, asked)
        assert isinstance(failure, InvalidRequest)
        assert isinstance(failure, ContextLengthExceeded) == ("context" in words or "tokens" in words)
        assert failure.param == param
        assert words in failure.message
        assert scripted.submits == []


async def test_the_longest_that_fits(path: Path) -> None:
    async with provider(path, saying("xxxxxxx")) as (local, scripted):
        await collect(local, request("a" * 60, max_tokens=4))
        await collect(local, request("a" * 63))
        await collect(local, request("a" * 64, max_tokens=0, echo=True))
        assert [submit.max_tokens for submit in scripted.submits] == [4, 1, 0]


async def test_megabytes_are_refused_untokenized(path: Path) -> None:
    tokenizer = ByteTokenizer()
    async with provider(path, saying("x"), tokenizer=tokenizer) as (local, _):
        for asked, param in ((request("a " * 10**6), "prompt"), (chat("€" * 10**6), "messages")):
            failure = await refusal(local, asked)
            assert isinstance(failure, ContextLengthExceeded)
            assert failure.param == param
        assert tokenizer.num_encoded == 0


async def test_long_texts_are_tokenized_in_a_thread(path: Path) -> None:
    threads = []

    class Watched(ByteTokenizer):
        def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
            threads.append(threading.current_thread() is threading.main_thread())
            return [1]

    greeting = hello(context_length=10**6)
    async with engine(path, saying("x"), greeting):
        tokenizer: Any = Watched()
        template: Any = LineTemplate()
        card = replace(CARD, context_length=10**6, max_output_tokens=10**6)
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(card, tokenizer, template, client)])
        await local.start()
        await client.wait_ready()
        for size in (10, 30_000):
            await collect(local, request("a" * size))
            await collect(local, chat("a" * size))
        assert threads == [True, True, False, False]
        assert (await collect(local, request()))[0]
        await local.aclose()


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


async def test_nothing_runs_before_the_first_event_is_asked_for(path: Path) -> None:
    async with provider(path, saying("x")) as (local, scripted):
        await local.generate(request()).aclose()
        await collect(local, request())
        assert len(scripted.submits) == 1


async def test_closing_stops_the_engine(path: Path) -> None:
    def endless(submit: Submit) -> Frames:
        while True:
            yield [Output(id=submit.id, index=index, tokens=[97]) for index in range(submit.n)]

    async with provider(path, endless) as (local, scripted):
        events = Gateway([local]).generate(request("a", "b", n=2))
        async for event in events:
            if isinstance(event, Text) and event.completion_tokens >= 3:
                break
        await events.aclose()
        aborts = {(await scripted.aborts.get()).id, (await scripted.aborts.get()).id}
        assert aborts == {submit.id for submit in scripted.submits}
        scripted.may_go_on.clear()
        waiting = asyncio.create_task(collect(local, request("c")))
        while len(scripted.submits) < 3:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await scripted.aborts.get() == Abort(scripted.submits[2].id)


async def test_failures_of_the_engine(path: Path) -> None:
    messages: dict[int, Sequence[Output | Refused | None]] = {
        ord("e"): [Output(id=0, index=0, tokens=[], finish_reason="error", error="the grammar died")],
        ord("f"): [Refused(id=0, reason="full", message="256 requests wait")],
        ord("i"): [Refused(id=0, reason="invalid", message="bad schema", param="response_format")],
        ord("k"): [None],
    }

    def script(submit: Submit) -> Frames:
        yield [message and replace(message, id=submit.id) for message in messages[submit.prompt[0]]]

    async with provider(path, script) as (local, _):
        failure = await refusal(local, request("e"))
        assert (type(failure), failure.message) == (ProviderError, "the grammar died")
        failure = await refusal(local, request("f"))
        assert isinstance(failure, Overloaded)
        assert failure.retry_after
        failure = await refusal(local, request("i"))
        assert (type(failure), failure.param) == (InvalidRequest, "response_format")
        failure = await refusal(local, request("k"))
        assert (type(failure), failure.code, failure.retry_after) == (Overloaded, "engine_restarted", 1)


async def test_a_model_that_is_not_there(path: Path) -> None:
    tokenizer: Any = ByteTokenizer()
    client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
    local = LocalProvider([LocalModel(CARD, tokenizer, None, client)])
    with pytest.raises(ModelNotFound):
        await anext(local.generate(replace(request(), model="other")))
    assert local.tokenizer("other") is None
    await local.start()
    failure = await refusal(local, request())
    assert isinstance(failure, Overloaded)
    assert failure.retry_after
    assert [(health.model, health.state) for health in local.health()] == [(CARD.id, "loading")]
    assert local.models() == [CARD]
    async with engine(path, saying("x")):
        await client.wait_ready()
        await collect(local, request())
        (health,) = local.health()
        assert (health.state, health.message, health.num_restarts) == ("ready", "", 0)
        assert health.stats["free_blocks"] == 7
    await local.aclose()
    await local.aclose()
    assert [health.state for health in local.health()] == ["failed"]
    assert isinstance(await refusal(local, request()), ProviderError)


async def test_the_card_tells_what_the_engine_serves(path: Path) -> None:
    async with provider(path, saying("x"), greeting=hello(context_length=32)) as (local, _):
        (card,) = local.models()
        assert (card.context_length, card.max_output_tokens) == (32, 32)
        assert (await refusal(local, request("a" * 32))).param == "prompt"
    changes = [{"weights_hash": "v"}, {"representation": "f32"}, {"engine_version": "2"}]
    assert len({fingerprint(CARD, hello(**change)) for change in [{}, *changes]}) == 4
    assert fingerprint(CARD, hello()) == fingerprint(CARD, hello(pid=2, load_s=9.0))


async def test_the_tokenizer_door(path: Path) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(add_bos=True)) as (local, _):
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert await door.encode("ab", add_special_tokens=True) == [BOS, 97, 98]
        assert await door.encode("ab", add_special_tokens=False) == [97, 98]
        assert await door.decode([97, IM_END, 0xFF]) == "a<|im_end|>\ufffd"
        assert await door.decode([]) == ""
        assert await door.token_strings([97, EOS]) == ["a", "</s>"]
        assert await door.decode([97] * 30_000) == "a" * 30_000
        for wrong in ([VOCAB_SIZE], [0, -1]):
            with pytest.raises(InvalidRequest, match="tokens"):
                await door.decode(wrong)
            with pytest.raises(InvalidRequest, match="tokens"):
                await door.token_strings(wrong)
        info = door.info()
        assert {"tokenizer_class", "bos_token", "eos_token", "pad_token", "model_max_length", "chat_template"} <= set(
            info
        )
        assert (info["bos_token"], info["eos_token"], info["model_max_length"]) == ("<s>", "</s>", 64)


async def test_a_crowd(path: Path) -> None:
    """64 requests at once, some left early: everybody gets their own answer, and all the others are aborted."""
    dice = random.Random(5)

    def script(submit: Submit) -> Frames:
        text = bytes(submit.prompt) * 4
        return frames_of(*(continuation(submit, index, text) for index in range(submit.n)))

    async def ask(local: LocalProvider, number: int) -> bool:
        prompt, n = f"[{number} €]", dice.randint(1, 3)
        if number % 4 == 3:
            events = local.generate(request(prompt, n=n))
            await anext(events)
            await events.aclose()
            return True
        stop = (f"]{prompt[:3]}",) if number % 4 == 1 else ()
        expected = prompt[:-1] if stop else prompt * 4
        return texts(await collect(local, request(prompt, n=n, stop=stop))) == dict.fromkeys(range(n), expected)

    async with provider(path, script) as (local, _):
        assert all(await asyncio.gather(*(ask(local, number) for number in range(64))))
        assert local.health()[0].state == "ready"


def saved_tokenizer(folder: Path, **metadata: object) -> Path:
    """A SentencePiece vocabulary of bytes and a few words, as `Tokenizer.save` writes it."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "hi", "▁hi"]
    types = [2, 3, 3, *[6] * 256, *[1] * 5]
    tokenizer = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": pieces,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.scores": [-float(number) for number in range(len(pieces))],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            **metadata,
        }
    )
    tokenizer.save(folder / "tokenizer.json")
    return folder / "tokenizer.json"


async def test_a_prepared_model_is_loaded(path: Path) -> None:
    template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %} {{ strftime_now('%Y') }}"
    )
    tokenizer_path = saved_tokenizer(path.parent, **{"tokenizer.chat_template": template})
    model = await load_local_model(CARD, tokenizer_path, path, clock=lambda: datetime(1999, 12, 31))
    local = LocalProvider([model])

    def script(submit: Submit) -> Frames:
        euro = [3 + byte for byte in "€".encode()]
        return [[output] for output in continuation(submit, 0, [263, *euro, 263, 2])]

    async with engine(path, script, hello(vocab_size=264)) as scripted:
        await local.start()
        await model.client.wait_ready()
        events = await collect(local, chat("hi"))
        assert texts(events) == {0: " hi€ hi"}
        assert ends(events) == {0: Stopped(0, "stop")}
        (submit,) = scripted.submits
        assert submit.prompt[0] == 1
        assert 1 not in submit.prompt[1:]
        assert submit.eos_ids == [2]
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert await door.decode(submit.prompt[1:]) == "hi 1999"
        assert door.info()["chat_template"] == template
        assert texts(await collect(local, request("hi", echo=True)), is_echo=True) == {0: "hi"}
    await local.aclose()


async def test_a_base_model_cannot_chat(path: Path) -> None:
    tokens = [*map(chr, range(0x21, 0x7F)), "<|endoftext|>"]
    fields: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [*[1] * (len(tokens) - 1), 3],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": len(tokens) - 1,
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
    }
    model = await load_local_model(CARD, saved_tokenizer(path.parent, **fields), path)
    local = LocalProvider([model])
    async with engine(path, lambda submit: [continuation(submit, 0, [64])], hello(vocab_size=95)):
        await local.start()
        await model.client.wait_ready()
        failure = await refusal(local, chat("x"))
        assert isinstance(failure, InvalidRequest)
        assert failure.param == "messages"
        assert texts(await collect(local, request("x"))) == {0: "a"}
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert door.info()["chat_template"] is None
    await local.aclose()


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "no JSON"])
async def test_a_tokenizer_file_that_is_none(path: Path, content: str) -> None:
    file = path.parent / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(SetupError):
        await load_local_model(CARD, file, path)
