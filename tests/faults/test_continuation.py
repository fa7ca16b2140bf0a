"""Answers whose provider dies half-way: whoever goes on, the client has each byte once, wherever the answer broke."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parlour import THINKING, Heard, Parlour, Speaker, hear, parlour
from scripted_upstream import event, piece

from hodios.dialog.formats.mistral import MistralFormat
from hodios.events import Noticed, Text
from hodios.types import Price, Sampling, Tool

WEATHER = Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CLOCK = Tool("clock", "The time of day.")
TOOLS = {"tools": (WEATHER, CLOCK)}
IDS = [MistralFormat().new_id("chat-1/0", number) for number in range(2)]

TEXT = "The sea — «héllo» 🙂🇨🇭 is  blue,\n\n\tsaid 日本 STO twice: €€. "
CALLS = (
    'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zü\\"rich", "n": [1, {"a": null}]}}\n'
    '</tool_call>\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)
THOUGHT = "<think>\nIs it 6 × 7? I think\nso. <b>\n</think>\n\nIt is 42 €."
THOUGHT_CALL = (
    "<think>\nLook it up.\n</think>\n\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'
)
LLAMA = '{"name": "get_weather", "parameters": {"city": "Zürich"}}; {"name": "clock", "parameters": {}}'
LLAMA_TEXT = 'Wait.<function=get_weather>{"city": "Zürich"}</function><function=clock>{}</function>'
MISTRAL = (
    f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {{"city": "Zürich"}}, "id": "{IDS[0]}"}}, '
    f'{{"name": "clock", "arguments": {{}}, "id": "{IDS[1]}"}}]'
)
ANSWERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "text": ("hermes", TEXT, {}),
    "text, raw": ("hermes", TEXT, {"prompts": ("Once",)}),
    "hermes calls": ("hermes", CALLS, TOOLS),
    "thoughts": (THINKING, THOUGHT, {}),
    "thoughts, hidden": (THINKING, "It is 42 €.", {"has_reasoning": False}),
    "thoughts and a call": ("hermes", THOUGHT_CALL, TOOLS),
    "llama calls": ("llama3", LLAMA, TOOLS),
    "llama calls after text": ("llama3", LLAMA_TEXT, TOOLS),
    "mistral calls": ("mistral-v3", MISTRAL, TOOLS),
}


def parlour_for(family: str) -> Any:
    return parlour("hermes", THINKING) if family == THINKING else parlour(family)


def check(heard: Heard, whole: Heard, num_breaks: int) -> None:
    assert heard.error is None, heard.error.message
    assert heard.answer == whole.answer
    providers = [provider for provider, _ in heard.outcomes]
    shown = [outcome for _, outcome in heard.outcomes if outcome == "broke_off"]
    assert len(providers) == len(set(providers))
    assert heard.codes.count("continued") == len(shown) <= num_breaks
    assert heard.outcomes[-1][1] == "answered"


KINDS = ("engine", "server")
Sample = Callable[[Sequence[Any], int], Sequence[Any]]


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample:
    """So many of them, always the same; with --full all."""
    if request.config.getoption("--full"):
        return lambda options, num: options
    return lambda options, num: random.Random(1).sample(options, min(num, len(options)))


async def opened(rooms: Parlour, kind: str, speaker: Speaker) -> None:
    await (rooms.engine(speaker) if kind == "engine" else rooms.server(speaker))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_another_one_goes_on_at_every_byte(name: str, kind: str) -> None:
    family, answer, fields = ANSWERS[name]
    async with parlour_for(family) as rooms:
        first, second = Speaker(answer), Speaker(answer)
        await rooms.engine(first)
        await opened(rooms, kind, second)
        request = rooms.request(**fields)
        whole = await rooms.whole(request)
        assert whole.text or whole.calls
        for cut in range(len(answer.encode()) + 1):
            first.cut = cut
            check(await hear(rooms.gateway(), request), whole, 1)
            await rooms.ready()
        assert max(map(len, second.begun)) > len(answer) // 2


@pytest.mark.parametrize("kinds", [("engine", "engine"), ("engine", "server"), ("server", "engine")])
@pytest.mark.parametrize("name", ["text", "hermes calls", "thoughts and a call"])
async def test_a_third_goes_on_where_the_second_breaks_off(name: str, kinds: tuple[str, str], sample: Sample) -> None:
    family, answer, fields = ANSWERS[name]
    size = len(answer.encode())
    async with parlour_for(family) as rooms:
        first, second, third = (Speaker(answer) for _ in range(3))
        await rooms.engine(first)
        await opened(rooms, kinds[0], second)
        await opened(rooms, kinds[1], third)
        request = rooms.request(**fields)
        whole = await rooms.whole(request)
        num_twice = 0
        # A server's own cut counts bytes on the wire.
        scale = 1 if kinds[0] == "engine" else 15
        for cuts in sample(_pairs(size), 50):
            first.cut, second.cut = cuts[0], scale * cuts[1]
            heard = await hear(rooms.gateway(), request)
            check(heard, whole, 2)
            num_twice += heard.codes.count("continued") == 2
            await rooms.ready()
        assert num_twice


def _pairs(size: int) -> list[tuple[int, int]]:
    """Every first cut, with second ones right behind it, ever further away, and at the end. All pairs take half an
    hour, and the far ones are all alike."""
    distances = (*range(1, 9), 12, 16, 24, 32, 48, 64, 96, 128)
    return [(a, b) for a in range(size) for b in (*(a + d for d in distances if a + d < size), size)]


async def test_a_server_breaks_off_at_every_byte_of_the_wire(sample: Sample) -> None:
    async with parlour() as rooms:
        first, second = Speaker(TEXT), Speaker(TEXT)
        await rooms.server(first)
        await rooms.engine(second)
        request = rooms.request()
        whole = await rooms.whole(request)
        first.cut = 10**6
        check(await hear(rooms.gateway(), request), whole, 1)
        wire = sum(len(event(piece(text))) for text in first._pieces(TEXT))
        for cut in sample(range(wire), 60):
            first.cut = cut
            check(await hear(rooms.gateway(), request), whole, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("include_stop", [False, True])
@pytest.mark.parametrize("prompts", [None, ("Once",)])
async def test_a_stop_string_is_found_across_the_seam(kind: str, include_stop: bool, prompts: Any) -> None:
    fields: dict[str, Any] = {"stop": ("日本 STOP", "€€€", "said 日"), "include_stop": include_stop}
    fields |= {"prompts": prompts} if prompts else {}
    async with parlour() as rooms:
        first, second = Speaker(TEXT), Speaker(TEXT)
        await rooms.engine(first)
        await opened(rooms, kind, second)
        request = rooms.request(**fields)
        whole = await rooms.whole(request)
        assert whole.text.endswith("said 日" if include_stop else "\n\n\t")
        for cut in range(20, len(TEXT.encode())):
            first.cut = cut
            heard = await hear(rooms.gateway(), request)
            assert (heard.error, heard.text) == (None, whole.text)
            assert heard.answer[3][0].finish_reason == "stop"
            await rooms.ready()


async def test_an_answer_is_no_longer_than_it_may_be() -> None:
    answer = "abcdefghijklmnopqrstuvwxyz0123456789"
    async with parlour() as rooms:
        first, second, third = (Speaker(answer) for _ in range(3))
        for speaker in (first, second, third):
            await rooms.engine(speaker)
        request = rooms.request(max_tokens=30, prompts=("Once",), sampling=Sampling(min_tokens=20))
        for cut in range(1, 31):
            first.cut, second.cut = cut, min(30, cut + 5)
            heard = await hear(rooms.gateway(), request)
            assert heard.error is None
            assert heard.text == answer[:30]
            assert heard.answer[3][0].finish_reason == "length"
            assert heard.finish.usage.completion_tokens == 30
            assert heard.finish.route is not None
            attempts = heard.finish.route.attempts
            assert sum(attempt.completion_tokens for attempt in attempts) == 30
            counts = [each.completion_tokens for each in heard.events if isinstance(each, Text)]
            assert counts == sorted(counts)
            await rooms.ready()


@settings(max_examples=60)
@given(
    answer=st.lists(st.sampled_from([*'aé日🙂 \n<{"', "<tool_call>", "</think>", "hello world", "STOP"])).map("".join),
    seed=st.integers(0, 2**16),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    has_tools=st.booleans(),
)
def test_any_answer_in_any_pieces(
    answer: str, seed: int, cuts: tuple[float, float], kinds: tuple[str, str], has_tools: bool
) -> None:
    async def run() -> None:
        async with parlour() as rooms:
            speakers = [Speaker(answer, rng=random.Random(seed + place)) for place in range(3)]
            await rooms.engine(speakers[0])
            for kind, speaker in zip(kinds, speakers[1:], strict=True):
                await opened(rooms, kind, speaker)
            request = rooms.request(**TOOLS) if has_tools else rooms.request()
            whole = await rooms.whole(request)
            size = len(answer.encode())
            speakers[0].cut, speakers[1].cut = int(cuts[0] * size), int(cuts[1] * size)
            heard = await hear(rooms.gateway(), request)
            assert (heard.error, heard.answer[:3]) == (whole.error, whole.answer[:3])

    asyncio.run(run())


@pytest.mark.parametrize("overlap", [4, 17, 30, 10**6])
async def test_what_a_server_says_again_is_cut_off(overlap: int) -> None:
    answer = "It was the best of times, it was the worst of times — es war 🙂 die beste Zeit."
    async with parlour() as rooms:
        first, second = Speaker(answer), Speaker(answer, overlap=overlap)
        await rooms.engine(first)
        await rooms.server(second)
        request = rooms.request()
        whole = await rooms.whole(request)
        for cut in range(4 if overlap > 100 else 35, len(answer)):
            first.cut = cut
            heard = await hear(rooms.gateway(), request)
            # Four characters may well be meant.
            assert (heard.text == whole.text) == (overlap > 4 or heard.codes == [])
            await rooms.ready()


async def test_the_route_and_the_warnings_say_so() -> None:
    records: list[Any] = []
    async with parlour() as rooms:
        first, second = Speaker(TEXT, cut=30), Speaker(TEXT)
        await rooms.engine(first)
        await rooms.server(second, row={"price": Price(prompt=5, completion=7)})
        request = rooms.request(sampling=Sampling(seed=1))
        await rooms.whole(request)
        await rooms.ready()
        heard = await hear(rooms.gateway(lambda *record: records.append(record)), request)
        assert [each.warning.param for each in heard.events if isinstance(each, Noticed)] == ["model", "seed"]
        notice = next(each.warning.message for each in heard.events if isinstance(each, Noticed))
        assert notice.startswith("p0 broke off its answer after about ")
        assert "p1 went on with it" in notice
        ((asked, route, usage, error),) = records
        assert (asked, route, usage, error) == (request, heard.finish.route, heard.finish.usage, None)
        broken, answered = route.attempts
        assert broken.error
        assert (broken.prompt_tokens, answered.prompt_tokens) == (usage.prompt_tokens, 7)
        assert usage.completion_tokens == broken.completion_tokens + 3
        assert answered.completion_tokens == 3
        assert answered.price == Price(prompt=5, completion=7)


async def test_a_client_that_leaves_during_the_seam_leaves_nothing_behind() -> None:
    async with parlour() as rooms:
        first, second = Speaker(TEXT, cut=30), Speaker(TEXT)
        await rooms.engine(first)
        scripted = await rooms.engine(second)
        scripted.may_go_on.clear()
        gateway, records = rooms.gateway(lambda *record: records.append(record)), []
        before = asyncio.all_tasks()
        task = asyncio.create_task(hear(gateway, rooms.request()))
        while not scripted.submits:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await scripted.aborts.get()).id == scripted.submits[0].id
        ((_, route, usage, error),) = records
        assert [attempt.outcome for attempt in route.attempts] == ["broke_off", "cancelled"]
        assert (usage, error) == (None, None)
        await rooms.ready()
        scripted.may_go_on.set()
        await asyncio.sleep(0.01)
        assert {each for each in asyncio.all_tasks() - before if "ScriptedEngine" not in str(each)} == set()
