"""All guards of a process, asked at once, each about what it looks at; and what became of it, for the operator."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from hodios.errors import GuardDown
from hodios.guard.base import ASKED, Assessed, Guard, Passage, higher
from hodios.guard.budgets import Budgets
from hodios.guard.known import REMEMBERED, Constant, Known, KnownTexts
from hodios.guard.member import DURATIONS_S, Figures, Member, Question, Told
from hodios.types import GuardRun, Side

BUSY = "guard_busy"
"""The code of a GuardDown that was shed: the guard works, and has too much to do."""
LATE = "guard_late"
"""Of one that took longer than anybody waited."""


_NO_DIGEST = b"", None


@runtime_checkable
class ReadsTurns(Protocol):
    """A guard that looks at `Passage.before`."""

    reads_turns: Literal[True]


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


class Panel:
    """Of one event loop. `clock` gives seconds from anywhere."""

    def __init__(self, guards: Sequence[Guard], *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guards: list[Guard] = []
        self._members: dict[Side, list[Member]] = {side: [] for side in ASKED}
        """By the side that they are asked about."""
        self._sole: dict[Side, tuple[Member, KnownTexts]] = {}
        """Of sides about which one guard alone is asked, if that always says the same."""
        self._refused: dict[tuple[str, Side, str], GuardRun] = {}
        self.reads_turns = False
        """Whether some guard looks at the conversation before a text."""
        self.flagged: dict[tuple[str, Side], int] = {}
        """(category, side) → how often."""
        self.blocked: dict[tuple[str, Side], int] = {}
        for guard in guards:
            self.add(guard)

    def add(self, guard: Guard) -> None:
        self._guards.append(guard)
        for side in guard.sides:
            members = self._members[side]
            members.append(Member(guard, side))
            if len(members) > 1:
                self._sole.pop(side, None)
            elif side in REMEMBERED and isinstance(guard, Constant):
                self._sole[side] = members[0], KnownTexts(side)
        self.reads_turns = self.reads_turns or isinstance(guard, ReadsTurns)

    @property
    def guards(self) -> Sequence[Guard]:
        return self._guards

    @property
    def figures(self) -> Mapping[tuple[str, Side], Figures]:
        """Of those that were asked."""
        members = [member for side in self._members.values() for member in side if member.is_used]
        return {(member.guard.name, member.side): member.figures for member in members}

    def has_guards(self, side: Side) -> bool:
        return bool(self._members[side])

    def states(self) -> list[tuple[Guard, GuardState]]:
        return [(guard, guard.state() if isinstance(guard, Stateful) else GuardState()) for guard in self._guards]

    def refusals(self, side: Side, budgets: Budgets) -> tuple[GuardRun, ...]:
        """What `judge` would say where all that it could ask say beforehand that they would not judge anything; else
        nothing."""
        runs = []
        for member in self._members[side]:
            bounded = member.bounded
            code = bounded.refusal(0, budgets.of(member.guard.name)) if bounded is not None else ""
            if not code:
                return ()
            runs.append(self._refusal(member, code))
        return tuple(runs)

    async def judge(self, passages: Sequence[Passage], budgets: Budgets) -> tuple[GuardRun, ...]:
        """One run for each guard and side. Raises nothing: who cannot judge says so in its run."""
        asked = [(member, own, budgets.of(member.guard.name)) for member, own in self._asked(passages)]
        if len(asked) == 1:
            return (await self._run(*asked[0]),)
        return tuple(await asyncio.gather(*(self._run(*each) for each in asked)))

    def recall(self, side: Side, text: str) -> tuple[bytes, Known | None]:
        """What was said before of all that there is of one side. Where that is not known, `ask` is to be given the
        digest, so that it will be."""
        sole = self._sole.get(side)
        if sole is None:
            return _NO_DIGEST
        member, texts = sole
        digest, known = texts.look_up(text, member.guard.version)
        if known is not None:
            member.figures.num_judged += 1
            member.figures.slots[0] += 1
        return digest, known

    def ask(
        self,
        passages: Sequence[Passage],
        budgets: Budgets,
        told: Told,
        *,
        may_linger: bool = False,
        digest: bytes = b"",
    ) -> tuple[list[GuardRun], list[Question]]:
        """As `judge`, without waiting: what is known at once, and what `told` has the run of when it comes. `digest`:
        as `recall` said."""
        runs: list[GuardRun] = []
        questions: list[Question] = []
        for member, own in self._asked(passages):
            guard, direct, bounded = member.guard, member.direct, member.bounded
            budget_s = budgets.of(guard.name)
            if direct is None and bounded is not None and (code := bounded.refusal(0, budget_s)):
                runs.append(self._refusal(member, code))
                continue
            question = Question(member, self._clock(), told, digest)
            if direct is None:
                question.ask(guard.assess(own, budget_s))
            else:
                found = direct.ask(own, budget_s, question.answer, may_linger=may_linger)
                if not callable(found):
                    runs.append(self._run_of(member, found, 0.0, digest))
                    continue
                question.lies_with(found)
            questions.append(question)
        return runs, questions

    def run_of(self, question: Question, found: Assessed) -> GuardRun:
        """What is made of a question's answer, once."""
        return self._run_of(question.member, found, self._clock() - question.began_s, question.digest)

    def late(self, question: Question) -> GuardRun:
        """What is said where nobody waits for a question's answer any longer."""
        return self._failed(question.member, GuardDown("took too long", code=LATE), 0.0)

    def note(self, side: Side, flagged: frozenset[str], blocked: frozenset[str]) -> None:
        """What came of it, once for each prompt and each choice."""
        for counts, categories in ((self.flagged, flagged), (self.blocked, blocked)):
            for category in categories:
                counts[category, side] = counts.get((category, side), 0) + 1

    def _asked(self, passages: Sequence[Passage]) -> list[tuple[Member, Sequence[Passage]]]:
        if not passages:
            return []
        side = passages[0].side
        for passage in passages:
            if passage.side != side:
                break
        else:
            return [(member, passages) for member in self._members[side]]
        by_side: dict[Side, list[Passage]] = {}
        for passage in passages:
            by_side.setdefault(passage.side, []).append(passage)
        return [(member, own) for side, own in by_side.items() for member in self._members[side]]

    async def _run(self, member: Member, passages: Sequence[Passage], budget_s: float) -> GuardRun:
        began_s = self._clock()
        found: Assessed
        try:
            found = await member.guard.assess(passages, budget_s)
        except GuardDown as error:
            found = error
        return self._run_of(member, found, self._clock() - began_s)

    def _run_of(self, member: Member, found: Assessed, took_s: float, digest: bytes = b"") -> GuardRun:
        if isinstance(found, GuardDown):
            return self._failed(member, found, took_s)
        guard, figures = member.guard, member.figures
        figures.num_judged += 1
        figures.total_s += took_s
        figures.slots[bisect_left(DURATIONS_S, took_s) if took_s else 0] += 1
        scores, further = found[0].scores, found[0].further
        for assessment in found[1:]:
            scores = higher(scores, assessment.scores)
            if assessment.further:
                further = higher(further, assessment.further)
        asked = ASKED[member.side]
        if not asked.issuperset(scores):
            scores = {name: score for name, score in scores.items() if name in asked}
        run = GuardRun(
            guard=guard.name,
            version=guard.version,
            side=member.side,
            scores=scores,
            further=further,
            duration_s=took_s,
        )
        if digest and (sole := self._sole.get(member.side)):
            sole[1].put(digest, run)
        return run

    def _failed(self, member: Member, error: GuardDown, took_s: float) -> GuardRun:
        run = self._refusal(member, error.code or "failed")
        return replace(run, duration_s=took_s) if took_s else run

    def _refusal(self, member: Member, code: str) -> GuardRun:
        guard, side = member.guard, member.side
        if code == BUSY:
            member.figures.num_shed += 1
        else:
            member.figures.num_down += 1
        run = self._refused.get((guard.name, side, code))
        if run is None or run.version != guard.version:
            run = GuardRun(guard=guard.name, version=guard.version, side=side, problem=code)
            self._refused[guard.name, side, code] = run
        return run

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
        scores=higher(one.scores, other.scores),
        further=higher(one.further, other.further),
        duration_s=one.duration_s + other.duration_s,
        problem=one.problem or other.problem,
    )
