"""Prompt Guard 1 and 2: is a prompt an attempt to talk a model out of its rules, and does a document give it orders?

Works in a thread of its own, on files that the operator has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hodios.errors import GuardDown
from hodios.guard.base import Assessment, Category, Passage, Side
from hodios.guard.injection import INDIRECT_INJECTION
from hodios.guard.prompt_guard_model import PromptGuardModel


class PromptGuard:
    name = "prompt_guard"
    sides: frozenset[Side] = frozenset({"prompt", "document"})
    categories: frozenset[Category] = frozenset({"jailbreak"})

    def __init__(self, folder: Path) -> None:
        """As `PromptGuardModel`; loads it. Raises SetupError."""
        self._model = PromptGuardModel(folder)
        self._thread = ThreadPoolExecutor(1, "prompt-guard")
        self.version = self._model.version

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`."""
        texts = [passage.text for passage in passages]
        until_s = time.monotonic() + budget_s
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._model.judge, texts, until_s)
        try:
            async with asyncio.timeout(budget_s):
                found = await work
        except TimeoutError:
            raise GuardDown(f"prompt_guard: {len(texts)} texts took longer than {budget_s:g} s") from None
        return [_assessment(passage.side, labels) for passage, labels in zip(passages, found, strict=True)]

    async def aclose(self) -> None:
        """As `Guard.aclose`."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _assessment(side: Side, labels: Mapping[str, float]) -> Assessment:
    """What version 2 calls malicious is both; `injection` means nothing in what users write themselves."""
    jailbreak = labels.get("jailbreak", labels.get("malicious", 0.0))
    if side != "document":
        return Assessment(scores={"jailbreak": jailbreak})
    return Assessment(
        scores={"jailbreak": jailbreak}, further={INDIRECT_INJECTION: max(jailbreak, labels.get("injection", 0.0))}
    )
