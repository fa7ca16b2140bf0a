"""From logits to tokens, all rows of a step at once. Knows no text, no sequences and no model.

The order, and why. A row's log-probabilities are taken first, from the distribution that the model gave.

1. Penalties, on the tokens seen: repetition (logits above 0 divided, others multiplied; prompt and output; as CTRL
   defines it, which makes it depend on the logits' zero, so it comes before anything is added), then frequency and
   presence (output only), then `logit_bias`: all in the model's own scale, before temperature stretches it.
2. Masks: the grammar, tokens selected by a bias of 100, bans by a bias of −100, end tokens until `min_tokens`. They
   set −infinity, which no penalty changes, so they might as well come first. In this order each is ignored where it
   would leave no token: an answer that breaks the grammar is worth less than one with a banned token.
3. Temperature. 0 takes the largest logit, of equals the lowest id.
4. top_k, then top_p on what that leaves, renormalised, then min_p relative to the most likely token: from the crudest
   cut to the finest, each at least leaving the most likely token.
5. One number u in [0, 1): the first token, in the order of ids, at which the cumulative probability exceeds u.

Nothing that a row gets depends on its neighbours, down to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hodios.engine.candidates import LOWEST, Cuts, Rows, Values, survivors, take
from hodios.engine.draw import Draw
from hodios.engine.logprobs import BadLogits, Logprobs, checked_peaks, prompt_alternatives
from hodios.engine.messages import TokenAlternatives

__all__ = ["BadLogits", "Draw", "Drawn", "Sampler", "prompt_alternatives"]

_BLOCK = 512
_BOUND_OF_BIT = np.where(np.arange(2), np.float32(np.inf), np.float32(-np.inf))
_BOUNDS = _BOUND_OF_BIT[np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")]
"""[256, 8] for each byte of a mask the most that eight logits may be: anything, or −infinity."""
_BOUNDS.flags.writeable = False
_TEMPERATURES = (1e-30, 1e30)
"""Beyond these float32 has no room for quotients, and the answer is the maximum, or chance, in any case."""


class Drawn(NamedTuple):
    """The token of one row, and its log-probabilities where they were asked for."""

    token: int
    logprobs: TokenAlternatives | None


class Sampler:
    """Draws one token for each row of logits; holds only scratch memory, the state is in the draws."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._bitmask = np.empty((1, (vocab_size + 31) // 32), np.int32)
        self._bounds = np.empty((self._bitmask.nbytes, 8), np.float32)
        self._masked = np.empty(vocab_size, np.float32)
        self._scratch = np.empty((0, vocab_size), np.float32)

    def sample(
        self, logits: NDArray[np.float32], draws: Sequence[Draw], rows: Sequence[int] | None = None
    ) -> list[Drawn]:
        """One token for each of `draws` [R], which all differ: from the logits [N, V] of the row of its own, and these
        are overwritten, or of row `rows[i]`, where some may be left out and some shared.

        Accepts nothing: tell each draw the token that was used. Raises BadLogits, naming draws by their place, and
        GrammarFailure, both before anything was drawn or overwritten.
        """
        rows = range(len(draws)) if rows is None else rows
        if logits.shape[1:] != (self._vocab_size,) or len(rows) != len(draws):
            raise ValueError(f"logits are {logits.shape}, not {(len(draws), self._vocab_size)}")
        peaks = checked_peaks(logits, rows)
        bound = [place for place, draw in enumerate(draws) if draw.matcher is not None]
        masks = dict(zip(bound, self._masks([draws[place] for place in bound]), strict=True))
        drawn: dict[int, Drawn] = {}
        others: list[int] = []
        for place, draw in enumerate(draws):
            if draw.takes_peak:
                drawn[place] = Drawn(self._peak(logits[rows[place]], peaks[place], masks.get(place)), None)
            else:
                others.append(place)
        if others:
            found = self._sample(
                _taken(logits, [rows[place] for place in others]),
                np.array([logits[rows[place], peaks[place]] for place in others]),
                [draws[place] for place in others],
                [masks.get(place) for place in others],
            )
            drawn.update(zip(others, found, strict=True))
        return [drawn[place] for place in range(len(draws))]

    def _peak(self, logits: Values, peak: int, mask: NDArray[np.uint8] | None) -> int:
        """The largest of `logits` [V] that `mask` allows, `peak` being the largest of all: usually it is allowed."""
        if mask is None or mask[peak >> 3] >> (peak & 7) & 1:
            return peak
        self._mask(logits, mask, out=self._masked)
        return int(self._masked.argmax())

    def _sample(
        self, logits: Values, maxima: Values, draws: Sequence[Draw], masks: Sequence[NDArray[np.uint8] | None]
    ) -> list[Drawn]:
        """Those that take more than a look at the largest logit, which `maxima` [R] has."""
        told = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
        nums_top = [draws[row].sampling.logprobs or 0 for row in told]
        logprobs = Logprobs(take(logits, told), maxima[told], nums_top) if told else None
        with np.errstate(over="ignore"):
            is_changed = _penalise(logits, draws) | _forbid(logits, draws)
            for row, mask in enumerate(masks):
                if mask is not None:
                    self._mask(logits[row], mask, out=logits[row])
                    is_changed = True
            tokens = self._choose(logits, None if is_changed else maxima, draws)
        drawn = [Drawn(token, None) for token in tokens]
        if logprobs is not None:
            for row, found in zip(told, logprobs.alternatives([tokens[row] for row in told]), strict=True):
                drawn[row] = Drawn(tokens[row], found)
        return drawn

    def _masks(self, draws: Sequence[Draw]) -> NDArray[np.uint8]:
        """[R, bytes] as bits, the tokens allowed to each of `draws`, all of them bound; until the next call."""
        if len(self._bitmask) < len(draws):
            self._bitmask = np.empty((len(draws), self._bitmask.shape[1]), np.int32)
        for row, draw in enumerate(draws):
            assert draw.matcher is not None
            draw.matcher.fill_mask(self._bitmask, row)
        masks = self._bitmask.view(np.uint8)
        for mask, draw in zip(masks, draws, strict=False):
            if draw.is_narrowing:
                allowed = np.unpackbits(mask, count=self._vocab_size, bitorder="little").view(np.bool_)
                draw.narrow(allowed)
                packed = np.packbits(allowed, bitorder="little")
                mask[: len(packed)] = packed
        return masks[: len(draws)]

    def _mask(self, logits: Values, mask: NDArray[np.uint8], *, out: Values) -> None:
        """`logits` [V] with the refused set to −infinity. By a table, which takes a third of the time of selecting."""
        _BOUNDS.take(mask, axis=0, out=self._bounds, mode="clip")
        np.minimum(logits, self._bounds.reshape(-1)[: self._vocab_size], out=out)

    def _choose(self, logits: Values, maxima: Values | None, draws: Sequence[Draw]) -> list[int]:
        """`maxima` [R] where they are known."""
        greedy: list[int] = []
        plain: list[int] = []
        cut: list[int] = []
        for row, draw in enumerate(draws):
            (greedy if draw.greedy else cut if _is_cut(draw, self._vocab_size) else plain).append(row)
        tokens = np.empty(len(draws), np.intp)
        if greedy:
            tokens[greedy] = take(logits, greedy).argmax(axis=1)
        for rows, choose in ((plain, self._choose_plain), (cut, self._choose_cut)):
            if rows:
                taken = take(logits, rows)
                largest = taken.max(axis=1) if maxima is None else maxima[rows]
                tokens[rows] = choose(taken, largest, [draws[row] for row in rows])
        chosen: list[int] = tokens.tolist()
        return chosen

    def _weights(self, logits: Values, maxima: Values, temperatures: Values) -> Values:
        """[R, V] probabilities times a constant of each row, 1 for the largest; valid until the next call."""
        if len(self._scratch) < len(logits):
            self._scratch = np.empty(logits.shape, np.float32)
        weights = self._scratch[: len(logits)]
        np.subtract(logits, maxima[:, None], out=weights)
        if (temperatures != 1.0).any():
            weights /= temperatures[:, None]
        return np.exp(weights, out=weights)

    def _choose_plain(self, logits: Values, maxima: Values, draws: Sequence[Draw]) -> Rows:
        """Tokens [R] of rows without a cut: the right block by the sums of blocks, then the right token in it."""
        num_rows, size = logits.shape
        weights = self._weights(logits, maxima, _temperatures(draws))
        whole = size - size % _BLOCK
        sums = weights[:, :whole].reshape(num_rows, -1, _BLOCK).sum(axis=2)
        sums = np.concatenate([sums, weights[:, whole:].sum(axis=1, keepdims=True)], axis=1, dtype=np.float64)
        every_row = np.arange(num_rows)
        reached = sums.cumsum(axis=1)
        targets = _below(np.array([draw.uniform() for draw in draws]) * reached[:, -1], reached[:, -1])
        blocks = (reached <= targets[:, None]).sum(axis=1)
        rest = targets - np.where(blocks > 0, reached[every_row, blocks - 1], 0.0)
        ids = blocks[:, None] * _BLOCK + np.arange(_BLOCK)
        near = np.where(ids < size, weights[every_row[:, None], np.minimum(ids, size - 1)], 0.0)
        reached = near.cumsum(axis=1, dtype=np.float64)
        chosen: Rows = blocks * _BLOCK + (reached <= _below(rest, reached[:, -1])[:, None]).sum(axis=1)
        return chosen

    def _choose_cut(self, logits: Values, maxima: Values, draws: Sequence[Draw]) -> Rows:
        """Tokens [R] of rows that top_k, top_p or min_p cut."""
        cuts = Cuts(
            temperatures=_temperatures(draws),
            ranks=np.array([_rank(draw, self._vocab_size) for draw in draws]),
            shares=np.array([draw.sampling.top_p for draw in draws]),
            floors=np.array([draw.sampling.min_p for draw in draws], np.float32),
        )
        ends, ids, weights = survivors(logits, maxima, cuts, self._weights)
        chosen = np.empty(len(draws), np.intp)
        start = 0
        for row, (draw, end) in enumerate(zip(draws, ends.tolist(), strict=True)):
            reached = weights[start:end].cumsum(dtype=np.float64)
            target = _below(draw.uniform() * reached[-1], reached[-1])
            chosen[row] = ids[start + reached.searchsorted(target, side="right")]
            start = end
        return chosen


def _taken(logits: Values, rows: list[int]) -> Values:
    """The named rows of `logits`, which may repeat; no copy where they are all of them in their order."""
    # Taking rows copies them, at 200 kB each; usually they are all there are.
    if rows == list(range(len(logits))):
        return logits
    taken: Values = logits[rows]
    return taken


def _below(target: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """`target`, short of `total` even where rounding took it there, so that some token's share always exceeds it."""
    below: NDArray[np.float64] = np.minimum(target, np.nextafter(total, 0.0))
    return below


def _temperatures(draws: Sequence[Draw]) -> Values:
    least, most = _TEMPERATURES
    return np.array([min(max(draw.sampling.temperature, least), most) for draw in draws], np.float32)


def _rank(draw: Draw, vocab_size: int) -> int:
    top_k = draw.sampling.top_k
    return top_k if 0 < top_k < vocab_size else vocab_size


def _is_cut(draw: Draw, vocab_size: int) -> bool:
    sampling = draw.sampling
    return sampling.top_p < 1.0 or sampling.min_p > 0.0 or _rank(draw, vocab_size) < vocab_size


def _forbid(logits: Values, draws: Sequence[Draw]) -> bool:
    """Set what bias and `min_tokens` refuse to those without a grammar to −infinity. False if there is nothing."""
    refused = [(row, draw.forbidden) for row, draw in enumerate(draws) if draw.matcher is None and draw.forbidden.size]
    if refused:
        rows, ids = _entries(refused)
        logits[rows, ids] = -np.inf
    return bool(refused)


def _penalise(logits: Values, draws: Sequence[Draw]) -> bool:
    """Apply penalties and biases to the tokens they concern; False if they concern none."""
    repeated, moved, biased = [], [], []
    for row, draw in enumerate(draws):
        sampling = draw.sampling
        if draw.seen is not None:
            repeated.append((row, draw.seen.ids, np.full(len(draw.seen.ids), sampling.repetition_penalty)))
        if draw.output is not None:
            penalties = sampling.frequency_penalty * draw.output.counts + sampling.presence_penalty
            moved.append((row, draw.output.ids, -penalties))
        if draw.biased_ids.size:
            biased.append((row, draw.biased_ids, draw.biases))
    _update(logits, repeated, lambda values, factors: np.where(values > 0, values / factors, values * factors))
    _update(logits, moved, np.add)
    _update(logits, biased, np.add)
    return bool(repeated or moved or biased)


def _update(
    logits: Values,
    entries: list[tuple[int, NDArray[np.int64], NDArray[np.floating]]],
    change: Callable[[Values, Values], Values],
) -> None:
    if not entries:
        return
    rows, ids = _entries([(row, ids) for row, ids, _ in entries])
    amounts = np.concatenate([amounts for _, _, amounts in entries]).astype(np.float32)
    logits[rows, ids] = np.clip(change(logits[rows, ids], amounts), LOWEST, -LOWEST)


def _entries(ids_of_rows: list[tuple[int, NDArray[np.int64]]]) -> tuple[Rows, Rows]:
    rows = np.repeat([row for row, _ in ids_of_rows], [len(ids) for _, ids in ids_of_rows])
    return rows, np.concatenate([ids for _, ids in ids_of_rows])
