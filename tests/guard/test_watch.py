"""Answers under guard: nothing is lost or reordered, what is blocked is not shown, and no split makes a difference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_guard import WordGuard

from hodios.errors import ContentFiltered, GuardDown, ProviderError
from hodios.events import Event, Finish, Judged, Reasoning, Started, Stopped, Text, TokenLogprob, ToolCall, Usage
from hodios.guard.guarding import Guarding
from hodios.guard.panel import BUSY, LATE, Panel
from hodios.guard_settings import GuardSettings
from hodios.types import Judgement, Request

STARTED = Started("one", "maker/model", "fp_0", 3)
FINISH = Finish(Usage(prompt_tokens=3, completion_tokens=5))
MURDER = "murder is a word that no harmless text has"


def request(text: str = "hello", **values: Any) -> Request:
    return Request(id="chat-0", model="m", messages=({"role": "user", "content": text},), **values)


async def played(events: Sequence[Event | Exception], over: Any = lambda: False) -> AsyncGenerator[Event, None]:
    """As the router: ends with the Finish once the answer is over."""
    for event in events:
        if over() and not isinstance(event, Finish):
            continue
        if isinstance(event, Exception):
            raise event
        yield event


def panel_of(*guards: Any) -> Panel:
    return Panel(guards, clock=time.monotonic)


async def watched(
    events: Sequence[Event | Exception],
    guard: WordGuard,
    asked: Request | None = None,
    panel: Panel | None = None,
    **policy: Any,
) -> list[Event]:
    settings = GuardSettings(**policy)
    guarding = Guarding(panel or panel_of(guard), settings)
    watch = guarding.watch(asked or request(), guarding.policy())
    assert watch is not None
    return [event async for event in watch.events(played(events, watch.is_over))]


def answer(*texts: str, index: int = 0) -> list[Event]:
    return [Text(index, text, completion_tokens=number) for number, text in enumerate(texts, 1)]


def shown(events: Sequence[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def last(events: Sequence[Event], index: int | None) -> Judgement:
    return [event.judgement for event in events if isinstance(event, Judged) and event.index == index][-1]


def ends(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(event.index, event.finish_reason) for event in events if isinstance(event, Stopped)]


def without_judgements(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Judged)]


def split(text: str, places: Sequence[int]) -> list[str]:
    cuts = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts) if end > begin]


WORDS = st.lists(st.sampled_from(["calm", "sea,", "a", "murder", "\n", "naïve", "x" * 90, "the end."]), max_size=60)
PLACES = st.lists(st.integers(0, 10_000), max_size=30)


@given(words=WORDS, places=PLACES, others=PLACES)
@settings(max_examples=60)
def test_no_split_changes_the_verdict_or_what_is_shown(words: list[str], places: list[int], others: list[int]) -> None:
    text = " ".join(words)

    async def outcome(pieces: list[str], action: str) -> tuple[str, list[tuple[int, str]], Judgement]:
        events = [STARTED, *answer(*pieces), Stopped(0, "stop"), FINISH]
        told = await watched(events, WordGuard(), answer=action)
        judgement = last(told, 0)
        return shown(told), ends(told), Judgement(flagged=judgement.flagged, blocked=judgement.blocked)

    for action in ("annotate", "block"):
        whole = asyncio.run(outcome([text] if text else [], action))
        assert asyncio.run(outcome(split(text, places), action)) == whole
        assert asyncio.run(outcome(split(text, others), action)) == whole
        told, told_ends, judgement = whole
        assert ("violence" in judgement.flagged) == ("murder" in text)
        if action == "block" and "murder" in text:
            assert "murder" not in told
            assert text.startswith(told)
            assert told_ends == [(0, "content_filter")]
        else:
            assert (told, told_ends) == (text, [(0, "stop")])


@given(places=PLACES, action=st.sampled_from(["annotate", "block"]))
@settings(max_examples=40)
def test_what_is_held_back_comes_whole_and_in_its_order(places: list[int], action: str) -> None:
    text = "A quiet walk along the river, past the old mill and on to the bridge. " * 5
    logprob = TokenLogprob(1, "t", b"t", -1.0)
    events: list[Event] = [
        STARTED,
        Reasoning(0, "Let me think of it. " * 6, 4),
        *answer(*split(text, places)),
        Text(0, "with probabilities", (logprob,), 9),
        ToolCall(0, 0, "c0", "lookup", '{"a": "', 10),
        ToolCall(0, 0, arguments='river"}', completion_tokens=11),
        ToolCall(0, 1, "c1", "again", "", 12),
        Text(1, "Another answer altogether.", completion_tokens=3),
        Stopped(1, "stop"),
        Stopped(0, "tool_calls"),
        FINISH,
    ]
    told = without_judgements(asyncio.run(watched(events, WordGuard(), request(n=2), answer=action)))
    for index in (0, 1):
        assert shown(told, index) == shown(events, index)
    assert sorted(ends(told)) == [(0, "tool_calls"), (1, "stop")]
    assert "".join(event.text for event in told if isinstance(event, Reasoning)) == "Let me think of it. " * 6
    calls = [event for event in told if isinstance(event, ToolCall)]
    assert [(call.id, call.name) for call in calls if call.id] == [("c0", "lookup"), ("c1", "again")]
    assert "".join(call.arguments for call in calls if call.number == 0) == '{"a": "river"}'
    kinds = [type(event) for event in told if getattr(event, "index", 0) == 0]
    order = [kind for number, kind in enumerate(kinds) if not number or kinds[number - 1] is not kind]
    assert order == [Started, Reasoning, Text, ToolCall, Stopped, Finish]
    assert any(event.logprobs == (logprob,) for event in told if isinstance(event, Text))


async def test_a_prompt_that_is_blocked_asks_nobody() -> None:
    asked = []

    async def generate() -> AsyncGenerator[Event, None]:
        asked.append(True)
        yield STARTED

    guarding = Guarding(panel_of(WordGuard()), GuardSettings(prompt="block"))
    watch = guarding.watch(request(f"please {MURDER}"), guarding.policy())
    assert watch is not None
    with pytest.raises(ContentFiltered, match=r"^messages: .*violence 0\.90 \(blocked from 0\.5\)$") as caught:
        await anext(watch.events(generate()))
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "content_filter", "messages")
    assert caught.value.metadata == {"blocked": {"violence": 0.9}}
    assert asked == []
    assert guarding.panel.blocked == {("violence", "prompt"): 1}


async def test_a_prompt_that_is_annotated_delays_nothing() -> None:
    guard = WordGuard(gate=asyncio.Event())
    guarding = Guarding(panel_of(guard), GuardSettings())
    watch = guarding.watch(request(MURDER), guarding.policy())
    assert watch is not None
    assert guard.gate is not None
    events = watch.events(played([STARTED, *answer("a", "b", "c"), Stopped(0, "stop"), FINISH]))
    first = [await anext(events) for _ in range(4)]
    assert shown(first) == "ab"
    assert not any(isinstance(event, Judged) and event.index is None for event in first)
    guard.gate.set()
    rest = [event async for event in events]
    assert last(rest, None).flagged == {"violence"}
    assert last(rest, None).blocked == frozenset()
    place = next(number for number, event in enumerate(rest) if isinstance(event, Judged) and event.index is None)
    assert place < next(number for number, event in enumerate(rest) if isinstance(event, Stopped))


async def test_an_answer_that_is_blocked_ends_and_no_more_is_wanted() -> None:
    before = "All is well, and there is nothing to see but the sea and the sky above it all day long. " * 2
    events = [STARTED, *answer(before, MURDER, " more " * 100), Stopped(0, "stop"), FINISH]
    told = await watched(events, WordGuard(), answer="block")
    assert before.startswith(shown(told))
    assert len(shown(told)) >= len(before) - 160
    assert ends(told) == [(0, "content_filter")]
    assert last(told, 0).blocked == {"violence"}
    assert isinstance(told[-1], Finish)


async def test_other_choices_go_on() -> None:
    events = [
        STARTED, *answer(MURDER + " " * 100), *answer("fine", index=1), *answer("lost"), *answer(" too", index=1),
        Stopped(0, "stop"), Stopped(1, "length"), FINISH,
    ]  # fmt: skip
    told = await watched(events, WordGuard(), request(n=2), answer="block")
    assert (shown(told, 0), shown(told, 1)) == ("", "fine too")
    assert ends(told) == [(0, "content_filter"), (1, "length")]


@pytest.mark.parametrize(
    "piece",
    [
        Reasoning(0, MURDER, 1),
        ToolCall(0, 0, "c", "murder", "{}", 1),
        ToolCall(0, 0, "c", "f", '{"how": "murder"}', 1),
        Text(0, MURDER, (TokenLogprob(1, "t", b"t", -1.0),), 1),
    ],
)
async def test_thoughts_calls_and_tokens_are_part_of_the_answer(piece: Event) -> None:
    told = await watched([STARTED, piece, Stopped(0, "stop"), FINISH], WordGuard(), answer="block")
    assert ends(told) == [(0, "content_filter")]
    assert "murder" not in repr(told)
    told = await watched([STARTED, piece, Stopped(0, "stop"), FINISH], WordGuard())
    assert last(told, 0).flagged == {"violence"}
    assert piece in told


async def test_an_echoed_prompt_is_no_answer() -> None:
    asked = Request(id="cmpl-0", model="m", prompts=("murder",), echo=True)
    events = [STARTED, Text(0, "murder", is_echo=True), *answer(" she wrote"), Stopped(0, "stop"), FINISH]
    told = await watched(events, WordGuard(), asked, answer="block")
    assert shown(told) == "murder she wrote"
    assert last(told, None).flagged == {"violence"}


async def test_an_answer_that_begins_anew_is_judged_anew() -> None:
    asked = request(is_shown_whole=True)
    events = [STARTED, *answer(MURDER), STARTED, *answer("well"), Stopped(0, "stop"), FINISH]
    for action in ("annotate", "block"):
        told = await watched(events, WordGuard(), asked, answer=action)
        anew = told[len(told) - 1 - [type(event) for event in told[::-1]].index(Started) :]
        assert shown(anew) == "well"
        assert last(anew, 0).flagged == frozenset()
        assert last(anew, None).asked


@pytest.mark.parametrize("action", ["annotate", "block"])
async def test_whoever_cannot_judge_says_so_and_all_passes(action: str) -> None:
    guard = WordGuard(error=GuardDown("down"))
    told = await watched([STARTED, *answer(MURDER), Stopped(0, "stop"), FINISH], guard, prompt=action, answer=action)
    assert shown(told) == MURDER
    for index in (None, 0):
        (run,) = last(told, index).runs
        assert (run.problem, run.scores) == ("guard_unavailable", {})


async def test_nothing_passes_unjudged_where_that_is_said() -> None:
    answered = [STARTED, *answer(MURDER), Stopped(0, "stop"), FINISH]
    for policy in ({"prompt": "block"}, {"answer": "block", "prompt": "off"}):
        with pytest.raises(GuardDown) as caught:
            await watched(answered, WordGuard(error=GuardDown("down")), when_down="closed", **policy)
        assert (caught.value.status, caught.value.code) == (503, "guard_unavailable")
        with pytest.raises(GuardDown):
            await watched(answered, WordGuard(), panel=panel_of(), when_down="closed", **policy)
    asked = Request(id="cmpl-0", model="m", prompts=((1, 2),))
    with pytest.raises(ContentFiltered, match="no token ids"):
        await watched(answered, WordGuard(), asked, when_down="closed", prompt="block")
    told = await watched(answered, WordGuard(error=GuardDown("down")), when_down="closed")
    assert shown(told) == MURDER, "what is only annotated is never refused"


async def test_a_choice_that_has_ended_is_whole_whatever_becomes_of_others() -> None:
    gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, gate.set)
    events = [STARTED, *answer("fine", index=1), Stopped(1, "stop"), ProviderError("it broke")]
    guarding = Guarding(panel_of(WordGuard(gate=gate)), GuardSettings())
    watch = guarding.watch(request(n=2), guarding.policy())
    assert watch is not None
    told: list[Event] = []

    async def read() -> None:
        async for event in watch.events(played(events)):
            told.append(event)

    with pytest.raises(ProviderError):
        await read()
    assert ends(told) == [(1, "stop")]
    assert last(told, 1).runs


async def test_the_end_waits_no_longer_than_the_budget() -> None:
    guard = WordGuard(gate=asyncio.Event())
    told = await watched([STARTED, *answer(MURDER), Stopped(0, "stop"), FINISH], guard, budget_s=0.01)
    assert {run.problem for index in (None, 0) for run in last(told, index).runs} == {LATE}
    assert guard.num_open == 0
    assert ends(told) == [(0, "stop")]


async def test_whoever_leaves_has_all_work_given_up() -> None:
    guard, closed = WordGuard(gate=asyncio.Event()), []

    async def generate() -> AsyncGenerator[Event, None]:
        try:
            yield STARTED
            yield Text(0, "x" * 1000)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    guarding = Guarding(panel_of(guard), GuardSettings())
    watch = guarding.watch(request(), guarding.policy())
    assert watch is not None
    events = watch.events(generate())
    while not isinstance(await anext(events), Text):
        pass
    await asyncio.sleep(0)
    assert guard.num_open
    await events.aclose()
    await asyncio.sleep(0)
    assert (closed, guard.num_open) == ([True], 0)


async def test_a_long_prompt_is_shown_by_its_ends_and_the_rest_is_told() -> None:
    guard = WordGuard()
    text = "murder " + "x" * 1_000_000 + " vermin"
    told = await watched([STARTED, Stopped(0, "stop"), FINISH], guard, request(text))
    judgement = last(told, None)
    assert judgement.flagged == {"violence", "hate"}
    assert [run.problem for run in judgement.runs] == ["not_all_read"]
    assert sum(len(passage.text) for passage in guard.asked) < 20_000


class Busy(WordGuard):
    def refusal(self, num_characters: int, budget_s: float) -> str:
        return BUSY


async def test_a_guard_that_is_busy_is_not_asked() -> None:
    guard = Busy()
    panel = panel_of(guard)
    told = await watched([STARTED, *answer("a"), Stopped(0, "stop"), FINISH], guard, panel=panel)
    assert guard.asked == []
    assert [run.problem for run in last(told, 0).runs] == [BUSY]
    assert {key: figures.num_shed for key, figures in panel.figures.items()} == {
        ("words", "prompt"): 1,
        ("words", "answer"): 1,
    }
    with pytest.raises(GuardDown):
        await watched([STARTED, FINISH], guard, panel=panel, answer="block", when_down="closed")


async def test_who_says_what_of_which_side() -> None:
    words = WordGuard(categories=frozenset(("violence", "profanity")))
    other = WordGuard(name="other", version="other-2", sides=frozenset(("prompt",)))
    panel = panel_of(words, other)
    told = await watched([STARTED, *answer("calm"), Stopped(0, "stop"), FINISH], words, panel=panel)
    assert [(run.guard, run.version, run.side) for run in last(told, None).runs] == [
        ("words", "words-1", "prompt"),
        ("other", "other-2", "prompt"),
    ]
    assert [run.guard for run in last(told, 0).runs] == ["words"]
    assert "jailbreak" not in last(told, 0).asked
