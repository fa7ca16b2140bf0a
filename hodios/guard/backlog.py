"""What the guard process has to do, the most urgent first, and what it refuses because it would come too late. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection
from typing import Generic, TypeVar

from hodios.guard.messages import Assess

Owner = TypeVar("Owner")
FIRST_COST_S = 25e-6
"""Of a character, until it is known better."""
PER_TEXT = 100
"""A text costs as much as so many characters more than it has."""
_SMOOTHING = 0.1


def size_of(texts: Collection[str]) -> int:
    return sum(map(len, texts)) + PER_TEXT * len(texts)


class Backlog(Generic[Owner]):
    """Times are in seconds from anywhere."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner, Assess]] = []
        self._order = itertools.count()
        self.num_waiting = 0
        """Characters."""
        self.cost_s = FIRST_COST_S

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, owner: Owner, asked: Assess, now_s: float) -> bool:
        """Whether it is taken: all that is more urgent comes before it."""
        until_s = now_s + asked.within_s
        ahead = sum(size_of(other.texts) for end_s, _, _, other in self._heap if end_s <= until_s)
        if (ahead + size_of(asked.texts)) * self.cost_s > asked.within_s:
            return False
        heapq.heappush(self._heap, (until_s, next(self._order), owner, asked))
        self.num_waiting += size_of(asked.texts)
        return True

    def take(self) -> tuple[Owner, Assess, float]:
        """The most urgent, with its end; not to be asked of an empty one."""
        until_s, _, owner, asked = heapq.heappop(self._heap)
        self.num_waiting -= size_of(asked.texts)
        return owner, asked, until_s

    def give_up(self, owner: Owner, id: int | None = None) -> None:
        """One of an owner's, or all."""
        kept = [entry for entry in self._heap if entry[2] is not owner or (id is not None and entry[3].id != id)]
        if len(kept) < len(self._heap):
            heapq.heapify(kept)
            self._heap = kept
            self.num_waiting = sum(size_of(entry[3].texts) for entry in kept)

    def learn(self, texts: list[str], took_s: float) -> None:
        """How long it takes to judge."""
        self.cost_s += _SMOOTHING * (took_s / size_of(texts) - self.cost_s)
