"""Guesses what comes next in an answer that a grammar binds. Knows neither model nor probabilities."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._bitmask = np.empty((1, (vocab_size + 31) // 32), np.int32)
        self._place: int | None = None
        """Stands for the tokens that are allowed now, where these are few and known."""
        self._said: dict[int, tuple[int, bool]] = {}
        """By place: the token said there last, and whether it was the first or the same as before."""
        self._looked_up = range(0)
        """Which of the last proposal's tokens the lookup gave."""

    def fill_mask(self, bitmask: NDArray[np.int32], row: int) -> None:
        self._matcher.fill_mask(bitmask, row)
        if self._lookup is not None:
            self._place = _place(bitmask[row], MOST_CHOICES)

    def accept(self, token: int) -> None:
        self._matcher.accept(token)
        if self._place is not None:
            before = self._said.get(self._place)
            self._said[self._place] = token, before is None or before[0] == token
            self._place = None

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
        ahead = self._matcher.copy()
        drafts: list[int] = []
        while not ahead.is_finished:
            more = ahead.forced_tokens()
            if not more and len(drafts) < _MOST_DRAFTS:
                more = self._followed(lookup, ahead, drafts, least_match) or self._usual(ahead, most_choices)
            if not more:
                break
            for token in more:
                ahead.accept(token)
            drafts += more
        return drafts

    def _followed(self, lookup: PromptLookup, ahead: Matcher, drafts: list[int], least_match: int) -> list[int]:
        if self._looked_up:
            return []
        guesses = lookup.propose(least_match, drafts)[: _MOST_DRAFTS - len(drafts)]
        allowed = guesses[: ahead.num_allowed(guesses)]
        self._looked_up = range(len(drafts), len(drafts) + len(allowed))
        return allowed

    def _usual(self, ahead: Matcher, most_choices: int) -> list[int]:
        ahead.fill_mask(self._bitmask, 0)
        place = _place(self._bitmask[0], most_choices)
        token, is_usual = self._said.get(place, (0, False)) if place is not None else (0, False)
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


def _place(words: NDArray[np.int32], most_choices: int) -> int | None:
    """A number for the tokens that a mask allows, None where these are more than `most_choices`."""
    if np.bitwise_count(words).sum() > most_choices:
        return None
    return hash(words.tobytes())
