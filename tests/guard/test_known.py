"""What was judged once is said again without asking anybody, in few steps, and never of another text."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_watch import FINISH, MURDER, STARTED, answer, last, played, request, watched
from word_guard import WordGuard

import hodios.guard
from hodios.events import Event, Judged, Stopped
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard.passages import MOST_CHARACTERS, MOST_PASSAGES, usual_prompt
from hodios.guard.policy import Policy
from hodios.guard_settings import GuardSettings
from hodios.types import Judgement, Request

MOST_CALLS = 54
"""Of functions of the guards' own, steps of a generator among them, for a prompt and an answer that are known; 49 when
this was written."""
FOLDER = str(Path(hodios.guard.__file__).parent)


class SureGuard(WordGuard):
    """Always says the same of the same text."""

    is_constant: Literal[True] = True


def panel_of(*guards: Any) -> Panel:
    return Panel(guards, clock=time.monotonic)


def talk(text: str = "A quiet walk along the river.") -> list[Event]:
    return [STARTED, *answer(text), Stopped(0, "stop"), FINISH]


def whole(text: str = "hello") -> Request:
    return request(text, is_shown_whole=True)


def said(judgement: Judgement) -> Judgement:
    """Without the time that it took."""
    return replace(judgement, runs=tuple(replace(run, duration_s=0.0) for run in judgement.runs))


@pytest.mark.parametrize("policy", [{}, {"flag_at": {"violence": 0.0}}, {"flag_at": {"hate": "never"}}])
@pytest.mark.parametrize("text", ["A quiet walk.", MURDER, "calm " * 900, f"{'calm ' * 300}{MURDER} {'calm ' * 300}"])
@pytest.mark.parametrize("asked", [whole(), request(), whole(MURDER), request(n=2)])
async def test_what_is_known_is_judged_as_it_was_before(asked: Request, text: str, policy: dict[str, Any]) -> None:
    guard = SureGuard()
    panel = panel_of(guard)
    events: list[Event] = [STARTED, *answer(text), Stopped(0, "stop")]
    events += [Stopped(1, "stop"), FINISH] if asked.n == 2 else [FINISH]
    first = await watched(events, guard, asked, panel, **policy)
    num_asked = len(guard.asked)
    again = await watched(events, guard, asked, panel, **policy)
    assert len(guard.asked) == num_asked > 0
    for index in (None, *range(asked.n)):
        assert said(last(again, index)) == said(last(first, index))
    assert all(run.duration_s == 0 for run in last(again, None).runs)
    (figures,) = {figures.num_judged for (_, side), figures in panel.figures.items() if side == "prompt"}
    assert figures == 2


async def test_the_same_judgement_has_what_follows_from_each_policy() -> None:
    guard = SureGuard()
    panel = panel_of(guard)
    strict, lax = ({"flag_at": {"violence": bar}} for bar in (0.0, "never"))
    for _ in range(2):
        for policy, flagged in ((strict, {"violence"}), ({}, {"violence"}), (lax, set())):
            found = await watched(talk(MURDER), guard, whole(MURDER), panel, **policy)
            assert last(found, None).flagged == last(found, 0).flagged == flagged


async def test_another_version_judges_anew() -> None:
    guard = SureGuard()
    panel = panel_of(guard)
    for version in ("words-1", "words-2", "words-2"):
        guard.version = version
        found = await watched(talk(), guard, whole(), panel)
        assert {run.version for run in (*last(found, None).runs, *last(found, 0).runs)} == {version}
    assert len(guard.asked) == 4


@pytest.mark.parametrize("guards", [[SureGuard(), SureGuard("other")], [WordGuard()]])
async def test_several_guards_and_those_that_change_their_minds_are_asked_each_time(guards: list[WordGuard]) -> None:
    panel = panel_of(*guards)
    for _ in range(3):
        await watched(talk(), guards[0], whole(), panel)
    assert [len(guard.asked) for guard in guards] == [6] * len(guards)


async def test_what_could_not_be_judged_is_not_known() -> None:
    guard = SureGuard()
    panel = panel_of(guard)
    guard.gate = asyncio.Event()
    late = await watched(talk(), guard, whole(), panel, budget_s=0.01)
    assert [run.problem for run in last(late, 0).runs] == ["guard_late"]
    guard.gate = None
    found = await watched(talk(), guard, whole(), panel)
    assert [run.problem for run in (*last(found, None).runs, *last(found, 0).runs)] == ["", ""]


async def test_prompts_and_answers_are_not_taken_for_each_other() -> None:
    guard = SureGuard()
    panel = panel_of(guard)
    await watched(talk("the same"), guard, whole("the same"), panel)
    assert [passage.side for passage in guard.asked] == ["prompt", "answer"]
    found = await watched(talk("the same"), guard, whole("the same"), panel)
    assert "jailbreak" not in last(found, 0).runs[0].scores


TEXTS = st.lists(st.sampled_from(["", "a", "b", "\0", "a\0", "a\0b", "\ud800"]), max_size=4)


@given(TEXTS, TEXTS)
@settings(max_examples=200)
def test_no_two_prompts_are_one_text(one: list[str], other: list[str]) -> None:
    """But for empty messages, in which there is nothing to judge."""
    prompts = [
        Request(id="chat-0", model="m", messages=tuple({"role": "user", "content": text} for text in texts))
        for texts in (one, other)
    ]
    read = [usual_prompt(prompt)[0] for prompt in prompts]
    if read[0] and read[0] == read[1]:
        assert [text for text in one if text] == [text for text in other if text]


def test_what_guards_are_not_shown_whole_is_looked_at_closely() -> None:
    def prompt(*messages: dict[str, Any], **values: Any) -> str:
        return usual_prompt(Request(id="chat-0", model="m", messages=messages, **values))[0]

    user = {"role": "user", "content": "hello"}
    assert prompt({"role": "system", "content": "be kind"}, user, {"role": "assistant", "content": None}, user)
    assert not prompt(user, {"role": "tool", "content": "a result"})
    assert not prompt({"role": "user", "content": [{"type": "text", "text": "hello"}]})
    assert not prompt(user, documents=({"text": "a document"},))
    assert not prompt({"role": "user", "content": "x" * (MOST_CHARACTERS + 1)})
    assert not prompt(*[user] * (MOST_PASSAGES + 1))
    assert not usual_prompt(Request(id="cmpl-0", model="m", prompts=("hello",)))[0]


async def test_a_known_request_takes_few_steps_and_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    guarding = Guarding(panel_of(SureGuard()), GuardSettings())
    policy: Policy = guarding.policy()

    async def run() -> list[Event]:
        watch = guarding.watch(whole(), policy)
        assert watch is not None
        return [event async for event in watch.events(played(talk(), watch.is_over))]

    assert len([event for event in await run() if isinstance(event, Judged)]) == 2
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, kind: str, _: Any) -> None:
        if kind == "call" and frame.f_code.co_filename.startswith(FOLDER):
            calls[frame.f_code.co_qualname] += 1

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("what is known needs no task, no future and no timer")

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patches:
        for name in ("create_task", "create_future", "call_soon", "call_later", "call_at"):
            patches.setattr(loop, name, refuse, raising=True)
        sys.setprofile(profile)
        try:
            told = await run()
        finally:
            sys.setprofile(None)
    assert len([event for event in told if isinstance(event, Judged)]) == 2
    assert 0 < sum(calls.values()) <= MOST_CALLS, calls
