"""What came of texts that were judged before, so that saying it again takes hardly a step."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from hodios.guard.base import ASKED
from hodios.guard.memory import Memory
from hodios.types import GuardRun, Judgement, Side

MOST_KNOWN = 2048
"""Texts of each side; less than a kilobyte each."""
REMEMBERED: tuple[Side, ...] = ("prompt", "answer")


@runtime_checkable
class Constant(Protocol):
    """A guard that says the same of the same text for as long as its version is the same."""

    is_constant: Literal[True]


class Known(Struct, frozen=True):
    """What the only guard of a side says of a text, as often as it is asked."""

    run: GuardRun
    highest: float
    """Of its scores."""
    judgement: Judgement
    """Where nothing follows from it."""


class KnownTexts:
    """Of one side."""

    def __init__(self, side: Side) -> None:
        self._side: Side = side
        self._memory = Memory[GuardRun | Known](MOST_KNOWN)

    def look_up(self, text: str, version: str) -> tuple[bytes, Known | None]:
        """What is to be told to `put` where nothing is known, and what is known from a guard of this version."""
        digest, found = self._memory.look_up(text)
        if found is None:
            return digest, None
        if type(found) is GuardRun:
            # Most texts are never seen again: what is made of a run is made for those that are.
            found = self._known(found)
            self._memory.put(digest, found)
        assert type(found) is Known
        return digest, found if found.run.version == version else None

    def put(self, digest: bytes, run: GuardRun) -> None:
        self._memory.put(digest, run)

    def _known(self, run: GuardRun) -> Known:
        run = replace(run, duration_s=0.0)
        highest = max(run.scores.values(), default=0.0)
        return Known(run, highest, Judgement(runs=(run,), asked=ASKED[self._side]))
