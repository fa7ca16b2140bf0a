"""Log-probabilities of the untouched distribution: of chosen tokens and of the most likely ones. Knows no sampling."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from hodios.engine.candidates import LOWEST, Values, above, folded_sum, rank_bound
from hodios.engine.messages import TokenAlternatives

_ROWS_AT_ONCE = 16
"""Bounds the memory beside the logits, however many prompt tokens are asked about."""


class BadLogits(ArithmeticError):
    """The model gave NaN or infinity in these `rows`; the others are sound and nothing was drawn for any of them."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"the model gave logits that are not finite (rows {list(rows)})")
        self.rows = tuple(rows)


def checked_maxima(logits: Values) -> Values:
    """[R] the largest logit of each row of `logits` [R, V]. Raises BadLogits."""
    maxima: Values = logits.max(axis=1)
    # A NaN shows in both extremes, an infinity in one of them.
    bad = ~(np.isfinite(maxima) & np.isfinite(logits.min(axis=1)))
    if bad.any():
        raise BadLogits(np.flatnonzero(bad).tolist())
    return maxima


def checked_peaks(logits: Values, rows: Sequence[int]) -> list[int]:
    """[R] the column of the largest logit of each of the named rows of `logits` [N, V], of equals the first. Raises
    BadLogits, with places within `rows`. Copies nothing."""
    peaks: list[int] = []
    bad: list[int] = []
    for place, number in enumerate(rows):
        row = logits[number]
        peak = int(row.argmax())
        # The first NaN counts as the largest; an infinity is the largest or the least.
        if not (isfinite(row[peak]) and isfinite(row.min())):
            bad.append(place)
        peaks.append(peak)
    if bad:
        raise BadLogits(bad)
    return peaks


class Logprobs:
    """Log-softmax (temperature 1, no penalties, no masks) of some rows; keeps what later questions need."""

    def __init__(self, logits: Values, maxima: Values, nums_top: Sequence[int]) -> None:
        """`logits` [R, V] with `maxima` [R]; row i tells its `nums_top[i]` most likely tokens."""
        with np.errstate(over="ignore"):
            self._shifted = logits - maxima[:, None]
        self._log_total = np.log(folded_sum(np.exp(self._shifted))).astype(np.float32)
        self._tops = self._find_tops(nums_top)

    def _find_tops(self, nums_top: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        num_rows, size = self._shifted.shape
        most = min(max(nums_top, default=0), size)
        if most == 0:
            return [([], [])] * num_rows
        rows, columns, values = above(self._shifted, rank_bound(self._shifted, most))
        order = np.lexsort((-values, rows))
        starts = np.searchsorted(rows, np.arange(num_rows))
        tops = []
        for row, (start, num_top) in enumerate(zip(starts.tolist(), nums_top, strict=True)):
            chosen = order[start : start + min(num_top, size)]
            tops.append((columns[chosen].tolist(), self._finite(values[chosen] - self._log_total[row])))
        return tops

    @staticmethod
    def _finite(logprobs: Values) -> list[float]:
        # JSON has no infinity, and logits that far apart are the only way to one.
        finite: list[float] = np.maximum(logprobs, LOWEST).tolist()
        return finite

    def alternatives(self, tokens: Sequence[int]) -> list[TokenAlternatives]:
        """For `tokens[i]` at row i, with the row's top list, and one entry more where the token is not among them.

        None gives way to it: whoever asks for one alternative asks whether the token is the likeliest.
        """
        shifted = self._shifted[np.arange(len(tokens)), np.asarray(tokens, np.intp)]
        own = self._finite(shifted - self._log_total)
        answer = []
        for token, logprob, (top_ids, top_logprobs) in zip(tokens, own, self._tops, strict=True):
            if top_ids and token not in top_ids:
                top_ids, top_logprobs = [*top_ids, token], [*top_logprobs, logprob]
            answer.append(TokenAlternatives(token, logprob, top_ids, top_logprobs))
        return answer


def prompt_alternatives(logits: NDArray[np.float32], tokens: Sequence[int], num_top: int) -> list[TokenAlternatives]:
    """The log-probability of `tokens[i]` in row i of `logits` [R, V] and its `num_top` most likely tokens.

    Leaves `logits` as they are. Raises BadLogits.
    """
    answer: list[TokenAlternatives] = []
    maxima = checked_maxima(logits) if len(tokens) else np.empty(0, np.float32)
    for start in range(0, len(tokens), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(tokens)))
        asked = tokens[part]
        answer += Logprobs(logits[part], maxima[part], [num_top] * len(asked)).alternatives(asked)
    return answer
