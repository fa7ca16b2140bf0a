"""Guesses what comes next in an answer that a grammar binds. Knows neither model nor probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hodios.engine.drafts import PromptLookup
from hodios.engine.grammar import GrammarFailure, Matcher

MOST_CHOICES = 200
"""Where a grammar leaves more tokens than this, it is the model's turn: what was said there last time says little."""
_MOST_DRAFTS = 7
"""Tokens that are forced do not count."""


class GuessingMatcher:
    """A `Constraint` that guesses, and learns from what it accepts.

    It walks on from where the answer stands, by the first of these that has something, until none has:

    1. What the grammar forces: certain.
    2. What followed the same tokens before, as far as the grammar allows it; once, for a second look would be a guess
       after a guess.
    3. Where the grammar leaves few tokens, the one that was said last where it left the same: how an answer puts
       brackets, commas and spaces is seen from their first occurrences on.
    """

    def __init__(self, matcher: Matcher, lookup: PromptLookup | None, vocab_size: int) -> None:
        """Without `lookup` it only tells what is forced."""
        self._matcher = matcher
        self._lookup = lookup
        self._here, self._beyond = np.empty((2, 1, (vocab_size + 31) // 32), np.int32)
        self._is_seen = False
        """Whether `_here` and `_place` are of where the answer stands."""
        self._place: _Place | None = None
        self._said: dict[_Place, tuple[int, bool]] = {}
        """By place: the token said there last, and whether it was the first or the same as before."""
        self._looked_up = range(0)
        """Which of the last proposal's tokens the lookup gave."""

    def fill_mask(self, bitmask: NDArray[np.int32], row: int) -> None:
        if self._is_seen:
            bitmask[row] = self._here[0]
            return
        self._matcher.fill_mask(bitmask, row)
        if self._lookup is not None:
            self._place = _place(bitmask[row])

    def accept(self, token: int) -> None:
        self._matcher.accept(token)
        if self._place is not None:
            before = self._said.get(self._place)
            self._said[self._place] = token, before is None or before[0] == token
        self._place, self._is_seen = None, False

    @property
    def is_finished(self) -> bool:
        return self._matcher.is_finished

    def propose(self, least_match: int, most_choices: int) -> list[int]:
        """`least_match` as in `PromptLookup.propose`; `most_choices`, up to `MOST_CHOICES`: what counts as few."""
        self._looked_up = range(0)
        try:
            if self._lookup is None:
                return self._matcher.forced_tokens()
            return self._walk(self._lookup, least_match, most_choices)
        except GrammarFailure:
            # Where the answer itself gets there, drawing says so.
            return []

    def _walk(self, lookup: PromptLookup, least_match: int, most_choices: int) -> list[int]:
        ahead = self._matcher
        drafts: list[int] = []
        while not ahead.is_finished:
            more = ahead.forced_tokens()
            if not more and len(drafts) < _MOST_DRAFTS:
                more = self._followed(lookup, ahead, drafts, least_match) or self._usual(ahead, most_choices)
            if not more:
                break
            # Where nothing is guessed, which is often, a copy would cost more than everything else.
            ahead = ahead.copy() if ahead is self._matcher else ahead
            for token in more:
                ahead.accept(token)
            drafts += more
        return drafts

    def _followed(self, lookup: PromptLookup, ahead: Matcher, drafts: list[int], least_match: int) -> list[int]:
        if self._looked_up:
            return []
        guesses = lookup.propose(least_match, drafts)[: _MOST_DRAFTS - len(drafts)]
        if guesses and ahead is self._matcher:
            # What may become too complex further on must not end the answer here.
            ahead = ahead.copy()
        allowed = guesses[: ahead.num_allowed(guesses)] if guesses else []
        self._looked_up = range(len(drafts), len(drafts) + len(allowed))
        return allowed

    def _usual(self, ahead: Matcher, most_choices: int) -> list[int]:
        is_here = ahead is self._matcher
        bitmask = self._here if is_here else self._beyond
        ahead.fill_mask(bitmask, 0)
        place = _place(bitmask[0])
        if is_here:
            self._place, self._is_seen = place, True
        if place is None or place.num_choices > most_choices:
            return []
        token, is_usual = self._said.get(place, (0, False))
        return [token] if is_usual else []

    def report(self, num_proposed: int, num_accepted: int) -> None:
        """As `PromptLookup.report`; of what it gave alone, and only if all before that was right."""
        looked_up = self._looked_up
        num_tried = min(num_proposed, looked_up.stop) - looked_up.start
        if self._lookup is not None and num_tried > 0 and num_accepted >= looked_up.start:
            self._lookup.report(num_tried, min(num_accepted - looked_up.start, num_tried))

    def extend(self, tokens: Sequence[int]) -> None:
        """The answer grew by `tokens`."""
        if self._lookup is not None:
            self._lookup.extend(tokens)


class _Place(NamedTuple):
    """Stands for the tokens that are allowed somewhere."""

    num_choices: int
    digest: int


def _place(words: NDArray[np.int32]) -> _Place | None:
    """Of the tokens that a mask allows; None where these are too many."""
    num_choices = int(np.bitwise_count(words).sum())
    return _Place(num_choices, hash(words.tobytes())) if num_choices <= MOST_CHOICES else None
