"""All guards of a process, asked at once, each about what it looks at; and what became of it, for the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from hodios.errors import GuardDown
from hodios.guard.base import Assessment, Guard, Passage
from hodios.types import CATEGORIES, Category, GuardRun, Side

DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BUSY = "guard_busy"
"""The code of a GuardDown that was shed: the guard works, and has too much to do."""
LATE = "guard_late"
"""Of one that took longer than anybody waited."""
ASKED: Mapping[Side, frozenset[Category]] = {
    "prompt": frozenset(CATEGORIES),
    "answer": frozenset(CATEGORIES) - {"jailbreak"},
    "document": frozenset(CATEGORIES),
    "code": frozenset(),
}
"""Nobody's answer is an attempt to talk a model into something, whatever a guard says of it."""


@runtime_checkable
class Bounded(Protocol):
    """A guard that can say beforehand that it would not judge in time."""

    def refusal(self, num_characters: int, budget_s: float) -> str:
        """The code of the GuardDown that it would raise; "" where it would try."""
        ...


class GuardState(Struct, frozen=True, kw_only=True):
    """How a guard is doing."""

    problem: str = ""
    """Why it cannot judge now; "" where it can."""
    num_restarts: int = 0
    num_waiting: int = 0
    """Characters."""


@runtime_checkable
class Stateful(Protocol):
    """A guard of which something can be told without asking it to judge."""

    def state(self) -> GuardState: ...


@runtime_checkable
class Startable(Protocol):
    """A guard that has something to start. Returns soon, whether or not it can judge by then."""

    async def start(self) -> None: ...


class Figures(Struct):
    """Of one guard and one side, since the start."""

    slots: list[int]
    """Judgements by how long they took: within each of DURATIONS_S, and beyond."""
    num_judged: int = 0
    num_down: int = 0
    num_shed: int = 0
    total_s: float = 0.0


class Panel:
    """Of one event loop. `clock` gives seconds from anywhere."""

    def __init__(self, guards: Sequence[Guard], *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guards: list[Guard] = []
        self._refusers: dict[Side, list[tuple[Guard, Bounded | None]]] = {side: [] for side in ASKED}
        """By the side that they are asked about, with what can refuse."""
        self._refused: dict[tuple[str, Side, str], GuardRun] = {}
        self._figures: dict[tuple[str, Side], Figures] = {}
        self.flagged: dict[tuple[str, Side], int] = {}
        """(category, side) → how often."""
        self.blocked: dict[tuple[str, Side], int] = {}
        for guard in guards:
            self.add(guard)

    def add(self, guard: Guard) -> None:
        self._guards.append(guard)
        for side in guard.sides:
            self._refusers[side].append((guard, guard if isinstance(guard, Bounded) else None))

    @property
    def guards(self) -> Sequence[Guard]:
        return self._guards

    @property
    def figures(self) -> Mapping[tuple[str, Side], Figures]:
        return self._figures

    def has_guards(self, side: Side) -> bool:
        return bool(self._refusers[side])

    def states(self) -> list[tuple[Guard, GuardState]]:
        return [(guard, guard.state() if isinstance(guard, Stateful) else GuardState()) for guard in self._guards]

    def refusals(self, side: Side, budget_s: float) -> tuple[GuardRun, ...]:
        """What `judge` would say where all that it could ask say beforehand that they would not judge anything; else
        nothing. Costs next to nothing, for those who have far more to do than guards can."""
        runs = []
        for guard, refuser in self._refusers[side]:
            code = refuser.refusal(0, budget_s) if refuser is not None else ""
            if not code:
                return ()
            runs.append(self._refusal(guard, side, code))
        return tuple(runs)

    async def judge(self, passages: Sequence[Passage], budget_s: float) -> tuple[GuardRun, ...]:
        """One run for each guard and side. Raises nothing: who cannot judge says so in its run."""
        asked = self._asked(passages)
        if len(asked) == 1:
            return (await self._run(*asked[0], budget_s),)
        return tuple(await asyncio.gather(*(self._run(*each, budget_s) for each in asked)))

    def late(self, passages: Sequence[Passage]) -> tuple[GuardRun, ...]:
        """What is said where nobody waits for `judge` any longer."""
        return tuple(
            self._failed(guard, side, GuardDown("took too long", code=LATE), 0.0)
            for guard, side, _ in self._asked(passages)
        )

    def note(self, side: Side, flagged: frozenset[str], blocked: frozenset[str]) -> None:
        """What came of it, once for each prompt and each choice."""
        for counts, categories in ((self.flagged, flagged), (self.blocked, blocked)):
            for category in categories:
                counts[category, side] = counts.get((category, side), 0) + 1

    def _asked(self, passages: Sequence[Passage]) -> list[tuple[Guard, Side, list[Passage]]]:
        by_side: dict[Side, list[Passage]] = {}
        for passage in passages:
            by_side.setdefault(passage.side, []).append(passage)
        return [(guard, side, own) for side, own in by_side.items() for guard, _ in self._refusers[side]]

    async def _run(self, guard: Guard, side: Side, passages: Sequence[Passage], budget_s: float) -> GuardRun:
        began_s = self._clock()
        try:
            assessments = await guard.assess(passages, budget_s)
        except GuardDown as error:
            return self._failed(guard, side, error, self._clock() - began_s)
        took_s = self._clock() - began_s
        figures = self._of(guard, side)
        figures.num_judged += 1
        figures.total_s += took_s
        figures.slots[sum(took_s > bound for bound in DURATIONS_S)] += 1
        return GuardRun(
            guard=guard.name,
            version=guard.version,
            side=side,
            scores=_of_side(side, _highest(assessments, lambda assessment: assessment.scores)),
            further=_highest(assessments, lambda assessment: assessment.further),
            duration_s=took_s,
        )

    def _failed(self, guard: Guard, side: Side, error: GuardDown, took_s: float) -> GuardRun:
        return replace(self._refusal(guard, side, error.code or "failed"), duration_s=took_s)

    def _refusal(self, guard: Guard, side: Side, code: str) -> GuardRun:
        figures = self._of(guard, side)
        if code == BUSY:
            figures.num_shed += 1
        else:
            figures.num_down += 1
        run = self._refused.get((guard.name, side, code))
        if run is None or run.version != guard.version:
            run = GuardRun(guard=guard.name, version=guard.version, side=side, problem=code)
            self._refused[guard.name, side, code] = run
        return run

    def _of(self, guard: Guard, side: Side) -> Figures:
        figures = self._figures.get((guard.name, side))
        if figures is None:
            figures = self._figures[guard.name, side] = Figures(slots=[0] * (len(DURATIONS_S) + 1))
        return figures

    async def aclose(self) -> None:
        """May be called twice."""
        for guard in self._guards:
            await guard.aclose()


def merged(runs: Sequence[GuardRun]) -> tuple[GuardRun, ...]:
    """Several runs of the same guards on parts of one text, as one each: the highest scores, all the time they took."""
    if len(runs) == 1:
        return (runs[0],)
    by_guard: dict[tuple[str, Side], GuardRun] = {}
    for run in runs:
        before = by_guard.get((run.guard, run.side))
        by_guard[run.guard, run.side] = run if before is None else _joined(before, run)
    return tuple(by_guard.values())


def _joined(one: GuardRun, other: GuardRun) -> GuardRun:
    return GuardRun(
        guard=one.guard,
        version=other.version or one.version,
        side=one.side,
        scores=_higher(one.scores, other.scores),
        further=_higher(one.further, other.further),
        duration_s=one.duration_s + other.duration_s,
        problem=one.problem or other.problem,
    )


def _highest(
    assessments: Sequence[Assessment], scores_of: Callable[[Assessment], Mapping[str, float]]
) -> Mapping[str, float]:
    highest: Mapping[str, float] = {}
    for assessment in assessments:
        highest = _higher(highest, scores_of(assessment)) if highest else scores_of(assessment)
    return highest


def _of_side(side: Side, scores: Mapping[str, float]) -> Mapping[str, float]:
    return {category: score for category, score in scores.items() if category in ASKED[side]}


def _higher(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}
