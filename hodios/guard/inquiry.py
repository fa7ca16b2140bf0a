"""One question to the embedded guard: passages cut into pieces, pieces that are known already, and what is made of all
their scores. Sends nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hodios.errors import GuardDown
from hodios.guard.backlog import size_of
from hodios.guard.base import Assessment, Passage, higher
from hodios.guard.injection import INDIRECT_INJECTION
from hodios.guard.memory import Memory, Scores
from hodios.types import Side

SLICE, OVERLAP = 2000, 200
"""Characters that are judged in one piece, so that what is urgent soon has its turn; and how many of them the next one
reads again."""
Told = Callable[[Sequence[Assessment] | GuardDown], None]


class Frame:
    """Pieces that are judged together; the guard process does nothing else meanwhile."""

    __slots__ = ("ahead", "began_s", "digests", "inquiry", "size", "texts", "until_s")

    def __init__(self, inquiry: Inquiry, texts: list[str], digests: list[bytes], size: int) -> None:
        self.inquiry = inquiry
        self.texts = texts
        self.digests = digests
        self.size = size
        self.began_s = self.until_s = 0.0
        self.ahead = 0
        """Characters that were to be judged first, with its own."""


class Inquiry:
    """`told` is called once, with the assessments or with why there are none; never after it was given up."""

    __slots__ = ("_found", "_passages", "_pieces", "_told", "missing", "num_open")

    def __init__(self, passages: Sequence[Passage], memory: Memory[Scores], told: Told) -> None:
        self._passages = passages
        self._told: Told | None = told
        self._found: dict[bytes, Scores] = {}
        self._pieces: list[tuple[bytes, ...]] = []
        """Of each passage."""
        self.missing: dict[bytes, str] = {}
        """Pieces that have to be judged."""
        self.num_open = 0
        """Frames that are on their way."""
        for passage in passages:
            text = passage.text
            if len(text) > SLICE:
                self._pieces.append(tuple([self._look_up(piece, memory) for piece in slices(text)]))
                continue
            digest, known = memory.look_up(text)
            self._pieces.append((digest,))
            if known is None:
                self.missing[digest] = text
            else:
                self._found[digest] = known

    def _look_up(self, piece: str, memory: Memory[Scores]) -> bytes:
        digest, known = memory.look_up(piece)
        if known is None:
            self.missing[digest] = piece
        else:
            self._found[digest] = known
        return digest

    @property
    def is_over(self) -> bool:
        return self._told is None

    def frames(self, size: int) -> Iterable[Frame]:
        """What is missing, short pieces together. `size`: of all of it."""
        if size <= SLICE:
            return (Frame(self, list(self.missing.values()), list(self.missing), size),)
        return self._frames()

    def _frames(self) -> Iterator[Frame]:
        texts: list[str] = []
        digests: list[bytes] = []
        size = 0
        for digest, text in self.missing.items():
            if texts and size + len(text) > SLICE:
                yield Frame(self, texts, digests, size_of(texts))
                texts, digests, size = [], [], 0
            texts.append(text)
            digests.append(digest)
            size += len(text)
        yield Frame(self, texts, digests, size_of(texts))

    def answered(self, frame: Frame, scores: Sequence[Scores]) -> None:
        self._found.update(zip(frame.digests, scores, strict=True))
        self.num_open -= 1
        if not self.num_open:
            told, self._told = self._told, None
            if told is not None:
                told(self.assessments())

    def fail(self, error: GuardDown) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(error)

    def give_up(self) -> None:
        """Nobody wants to be told any more."""
        self._told = None

    def assessments(self) -> list[Assessment]:
        """Of the passages; all pieces have to be known."""
        assessments = []
        for passage, pieces in zip(self._passages, self._pieces, strict=True):
            scores = self._found[pieces[0]]
            for digest in pieces[1:]:
                scores = higher(scores, self._found[digest])
            assessments.append(
                Assessment(scores=scores) if passage.side != "document" else assessment(passage.side, scores)
            )
        return assessments


def assessment(side: Side, scores: Mapping[Any, float]) -> Assessment:
    """What the classifier's scores mean of a text. Of what somebody else wrote it only matters whether it gives the
    model orders, which is what jailbreaks are like."""
    if side != "document":
        return Assessment(scores=scores)
    score = scores.get("jailbreak")
    return (
        Assessment(scores={})
        if score is None
        else Assessment(scores={"jailbreak": score}, further={INDIRECT_INJECTION: score})
    )


def slices(text: str) -> Iterator[str]:
    """Of a long text."""
    for begin in range(0, max(len(text) - OVERLAP, 1), SLICE - OVERLAP):
        yield text[begin : begin + SLICE]
