"""Code in answers is shown to those who read it once, whole, and never holds an answer back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_guard import WordGuard

from hodios.errors import GuardDown
from hodios.events import Event, Finish, Judged, Reasoning, Started, Stopped, Text, Usage
from hodios.guard.base import Assessment, Category, Passage
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardSettings
from hodios.types import GuardRun, Request, Side

ANSWER = "Take this:\n```python\neval(input())\n```\nand be careful. " + "More words. " * 60
FINISH = Finish(Usage(prompt_tokens=3, completion_tokens=5))


class CodeReader:
    """Finds `eval`."""

    name = "code"
    version = "1"
    sides: frozenset[Side] = frozenset({"code"})
    categories: frozenset[Category] = frozenset()

    def __init__(self, error: Exception | None = None) -> None:
        self.read: list[str] = []
        self._error = error

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        self.read += [passage.text for passage in passages]
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        return [Assessment(scores={}, further={"CWE-94": 0.7} if "eval(" in each.text else {}) for each in passages]

    async def aclose(self) -> None:
        pass


async def watched(events: Sequence[Event], *guards: Any, **policy: Any) -> list[Event]:
    chosen = GuardSettings(budget_s=30, **policy)
    guarding = Guarding(Panel(guards, clock=time.monotonic), chosen)
    request = Request(id="chat-0", model="m", messages=({"role": "user", "content": "x"},))
    watch = guarding.watch(request, guarding.policy())
    assert watch is not None

    async def played() -> AsyncGenerator[Event, None]:
        for event in (Started("one", "m", "fp", 3), *events, Stopped(0, "stop"), FINISH):
            if not watch.is_over() or isinstance(event, Finish):
                yield event

    return [event async for event in watch.events(played())]


def runs(events: Sequence[Event]) -> dict[tuple[str, str], GuardRun]:
    judged = [event.judgement for event in events if isinstance(event, Judged) and event.index == 0]
    return {(run.guard, run.side): run for run in judged[-1].runs}


def pieces(text: str, size: int) -> list[Event]:
    return [Text(0, text[start : start + size]) for start in range(0, len(text), size)]


@settings(max_examples=15)
@given(st.integers(1, 200), st.sampled_from(["annotate", "block"]))
def test_the_whole_answer_is_read_once_however_it_comes(size: int, action: str) -> None:
    reader = CodeReader()
    events = asyncio.run(watched(pieces(ANSWER, size), WordGuard(), reader, answer=action))
    assert reader.read == [ANSWER]
    assert runs(events)["code", "code"].further == {"CWE-94": 0.7}
    assert "".join(event.text for event in events if isinstance(event, Text)) == ANSWER
    ends = [event for event in events if isinstance(event, Stopped)]
    assert ends == [Stopped(0, "stop")]


@pytest.mark.parametrize("action", ["annotate", "block"])
async def test_an_answer_without_code_is_not_read(action: str) -> None:
    reader = CodeReader()
    events = await watched(pieces("No code, eval(x) or not.", 5), WordGuard(), reader, answer=action)
    assert (reader.read, ("code", "code") in runs(events)) == ([], False)


async def test_thoughts_are_no_code() -> None:
    reader = CodeReader()
    await watched([Reasoning(0, "```python\neval(x)\n```"), Text(0, "Done.")], WordGuard(), reader)
    assert reader.read == []


async def test_a_reader_that_is_down_stops_nothing() -> None:
    reader = CodeReader(GuardDown("broken"))
    events = await watched(pieces(ANSWER, 50), WordGuard(), reader, answer="block", when_down="closed")
    assert runs(events)["code", "code"].problem == "guard_unavailable"
    assert "".join(event.text for event in events if isinstance(event, Text)) == ANSWER


async def test_a_blocked_answer_is_not_read() -> None:
    reader = CodeReader()
    events = await watched(pieces(f"{ANSWER} murder", 50), WordGuard(), reader, answer="block")
    assert Stopped(0, "content_filter") in events
    assert reader.read == []


async def test_nobody_reads_where_answers_are_not_looked_at() -> None:
    reader = CodeReader()
    await watched(pieces(ANSWER, 50), WordGuard(), reader, answer="off")
    assert reader.read == []
