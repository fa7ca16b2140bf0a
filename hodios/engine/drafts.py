"""Guesses what comes next by what followed the same tokens before. Pure; knows neither model nor probabilities."""

from __future__ import annotations

from collections.abc import Sequence

_NUM_CANDIDATES = 8
_FIRST_DRAFTS = 3
_LONGEST_PAUSE = 64


class PromptLookup:
    """Prompt lookup: an answer that repeats its prompt or itself goes on as it went on before.

    Constant work per token: a table from each `min_ngram` tokens to the place after their last occurrence, and from
    each such place to the one before. Of the last few occurrences the one wins that agrees with most tokens up to
    `max_ngram`, of equals the latest. Since a guess costs a row of the next step, there are about twice as many after
    all were right, about half as many after all were wrong, and after repeated failures none for a while.
    """

    def __init__(self, tokens: Sequence[int], *, min_ngram: int = 2, max_ngram: int = 4, max_drafts: int = 7) -> None:
        """`tokens`: the prompt."""
        if not 1 <= min_ngram <= max_ngram or max_drafts < 1:
            raise ValueError(f"no guesses with n-grams of {min_ngram} to {max_ngram} tokens and {max_drafts} drafts")
        self._min_ngram = min_ngram
        self._max_ngram = max_ngram
        self._max_drafts = max_drafts
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._earlier: list[int] = []
        self._num_drafts = min(_FIRST_DRAFTS, max_drafts)
        self._pause = 0
        self._next_pause = 1
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """The sequence grew by `tokens`."""
        known, after, earlier, length = self._tokens, self._after, self._earlier, self._min_ngram
        for token in tokens:
            place = len(known)
            # Entered only now that something follows it, so that the end of the sequence never finds itself.
            ngram = tuple(known[-length:]) if place >= length else ()
            earlier.append(after.get(ngram, -1) if ngram else -1)
            if ngram:
                after[ngram] = place
            known.append(token)
        self._pause = max(0, self._pause - len(tokens))

    def propose(self, least_match: int = 0, ahead: Sequence[int] = ()) -> list[int]:
        """Up to `max_drafts` tokens that followed an earlier occurrence of the sequence's end; may be none.

        With `least_match`, only where at least so many tokens before them agree: the surer, the longer. `ahead` is
        taken for part of the sequence: what is guessed already.
        """
        if self._pause:
            return []
        end = [*self._tokens[-max(self._max_ngram, least_match) :], *ahead]
        place = self._find(end)
        if place < 0 or not self._agrees(place, end, least_match):
            return []
        beyond = [*ahead]
        # An occurrence close to the end repeats itself into its own guesses.
        for source in range(place, place + self._num_drafts):
            known = source < len(self._tokens)
            beyond.append(self._tokens[source] if known else beyond[source - len(self._tokens)])
        return beyond[len(ahead) :]

    def _find(self, end: list[int]) -> int:
        tokens = self._tokens
        best, best_length = -1, 0
        place = self._after.get(tuple(end[-self._min_ngram :]), -1)
        for _ in range(_NUM_CANDIDATES):
            if place < 0 or best_length == self._max_ngram:
                break
            length = self._min_ngram
            while length < min(self._max_ngram, place) and tokens[place - 1 - length] == end[-1 - length]:
                length += 1
            if length > best_length:
                best, best_length = place, length
            place = self._earlier[place]
        return best

    def _agrees(self, place: int, end: list[int], length: int) -> bool:
        return place >= length and self._tokens[place - length : place] == end[len(end) - length :]

    def report(self, num_proposed: int, num_accepted: int) -> None:
        """So many of the last proposal's tokens were right; say it before `extend`."""
        if num_proposed == 0:
            return
        if num_accepted == 0:
            self._num_drafts = max(1, self._num_drafts // 2)
            self._pause = self._next_pause
            self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
            return
        self._next_pause = 1
        wanted = 2 * num_accepted + 1 if num_accepted == num_proposed else num_accepted + 1
        self._num_drafts = min(wanted, self._max_drafts)
