"""A guard for tests: it knows one word per category, and is slow, busy or out of order as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from hodios.errors import GuardDown
from hodios.guard.base import Assessment, Passage, Side
from hodios.types import CATEGORIES, Category

WORDS: dict[Category, str] = {
    "violence": "murder", "hate": "vermin", "sexual": "naked", "self_harm": "cutting", "jailbreak": "dan mode",
    "profanity": "damn",
}  # fmt: skip
HARMLESS, FOUND = 0.01, 0.9


@dataclass
class WordGuard:
    name: str = "words"
    version: str = "words-1"
    sides: frozenset[Side] = frozenset(("prompt", "answer"))
    categories: frozenset[Category] = frozenset(CATEGORIES)
    asked: list[Passage] = field(default_factory=list)
    error: GuardDown | None = None
    gate: asyncio.Event | None = None
    """Nothing is said before it is set."""
    num_open: int = 0

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        self.asked += passages
        self.num_open += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            return [Assessment(scores=self._scores(passage.text)) for passage in passages]
        finally:
            self.num_open -= 1

    def _scores(self, text: str) -> dict[str, float]:
        lower = text.lower()
        return {name: FOUND if WORDS[name] in lower else HARMLESS for name in CATEGORIES if name in self.categories}

    async def aclose(self) -> None:
        pass
