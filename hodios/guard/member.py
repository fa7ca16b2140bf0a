"""A guard as a panel knows it: what else it can do, what became of it on one side, and one question to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from hodios.errors import GuardDown
from hodios.guard.base import Assessed, Assessment, Guard, Passage
from hodios.types import Side

DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@runtime_checkable
class Bounded(Protocol):
    """A guard that can say beforehand that it would not judge in time."""

    def refusal(self, num_characters: int, budget_s: float) -> str:
        """The code of the GuardDown that it would raise; "" where it would try."""
        ...


@runtime_checkable
class Direct(Protocol):
    """A guard that can be asked without a task of the event loop."""

    def ask(
        self,
        passages: Sequence[Passage],
        budget_s: float,
        told: Callable[[Assessed], None],
        *,
        may_linger: bool = False,
    ) -> Assessed | Callable[[], None]:
        """What `Guard.assess` would return or raise, where that is known at once; else `told` is called with it, once,
        and what comes back gives up. `may_linger`: nobody waits for it yet."""
        ...


class Figures(Struct):
    """Of one guard and one side, since the start."""

    slots: list[int]
    """Judgements by how long they took: within each of DURATIONS_S, and beyond."""
    num_judged: int = 0
    num_down: int = 0
    num_shed: int = 0
    total_s: float = 0.0


class Member:
    """A guard, and what else it can do, as far as it is asked about one side."""

    __slots__ = ("bounded", "direct", "figures", "guard", "side")

    def __init__(self, guard: Guard, side: Side) -> None:
        self.guard = guard
        self.side: Side = side
        self.bounded = guard if isinstance(guard, Bounded) else None
        self.direct = guard if isinstance(guard, Direct) else None
        self.figures = Figures(slots=[0] * (len(DURATIONS_S) + 1))

    @property
    def is_used(self) -> bool:
        return bool(self.figures.num_judged or self.figures.num_down or self.figures.num_shed)


class Question:
    """A guard was asked, and is not waited for. `told` is called with what it says, once, unless that was given up."""

    __slots__ = ("_give_up", "_told", "began_s", "digest", "is_over", "member")

    def __init__(self, member: Member, began_s: float, told: Told, digest: bytes = b"") -> None:
        """`digest`: under which the answer will be known."""
        self.member = member
        self.digest = digest
        self.began_s = began_s
        self.is_over = False
        self._told = told
        self._give_up: Callable[[], Any] | None = None

    def answer(self, found: Assessed) -> None:
        if not self.is_over:
            self.is_over = True
            self._told(self, found)

    def lies_with(self, give_up: Callable[[], None]) -> None:
        """How to say that nobody wants to know it any more."""
        self._give_up = give_up

    def ask(self, assessing: Coroutine[Any, Any, Sequence[Assessment]]) -> None:
        """In a task of its own."""
        task = asyncio.get_running_loop().create_task(assessing)
        task.add_done_callback(self._done)
        self._give_up = task.cancel

    def give_up(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._give_up is not None:
                self._give_up()

    def _done(self, task: asyncio.Task[Sequence[Assessment]]) -> None:
        if not task.cancelled():
            error = task.exception()
            self.answer(error if isinstance(error, GuardDown) else task.result())


Told = Callable[[Question, Assessed], None]
