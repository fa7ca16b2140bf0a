"""What every guard looks like from above: texts in, a score per category out. Guards judge; what follows from a
judgement is the policy's business, and no guard keeps what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from hodios.errors import GuardDown
from hodios.types import CATEGORIES
from hodios.types import Category as Category
from hodios.types import Side as Side

ASKED: Mapping[Side, frozenset[Category]] = {
    "prompt": frozenset(CATEGORIES),
    "answer": frozenset(CATEGORIES) - {"jailbreak"},
    "document": frozenset(CATEGORIES),
    "code": frozenset(),
}
"""What guards are asked about, by who wrote the text. Nobody's answer is an attempt to talk a model into something,
whatever a guard says of it."""


class Turn(Struct, frozen=True):
    """One message of the conversation that a text stands in."""

    role: Literal["user", "assistant"]
    text: str


class Passage(Struct, frozen=True, kw_only=True):
    """One text to be judged."""

    text: str
    side: Side
    before: tuple[Turn, ...] = ()
    """The conversation up to the text, for guards that look at it; others leave it alone."""


class Assessment(Struct, frozen=True, kw_only=True):
    """What one guard says of one passage."""

    scores: Mapping[str, float]
    """Category → 0…1, to four digits: how sure the guard is, for each `Category` that it looked at; one that is missing
    was not looked at."""
    further: Mapping[str, float] = {}
    """Categories without a slot of their own, under the guard's names: `S6`, `indirect_injection`, `CWE-78`."""


Assessed = Sequence[Assessment] | GuardDown
"""What a guard says, or why it says nothing."""


def higher(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    """The highest score of each category."""
    highest = dict(one)
    for name, score in other.items():
        if score >= highest.get(name, 0.0):
            highest[name] = score
    return highest


class Guard(Protocol):
    """One who judges texts. One object for all requests of an event loop."""

    @property
    def name(self) -> str:
        """As settings, metrics and answers name it: `embedded`, `llama_guard`, `code_shield`."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same text may get other scores."""
        ...

    @property
    def sides(self) -> frozenset[Side]:
        """What it is asked about."""
        ...

    @property
    def categories(self) -> frozenset[Category]:
        """What it gives scores for, as long as it works."""
        ...

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """One assessment per passage, in their order, within `budget_s` seconds. Never holds the event loop for
        longer than a fraction of a millisecond. Raises errors.GuardDown; closing the coroutine gives up the work."""
        ...

    async def aclose(self) -> None:
        """May be called twice."""
        ...
