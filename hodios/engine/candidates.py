"""Which tokens stay: the exact cuts of top_k, top_p and min_p over many rows at once, without a full sort.

A cut first finds a bound below which no kept token can lie, gathers the few candidates above it, and decides exactly
among those. Ties go to the lower token id. Every number of a row comes from that row alone, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOWEST = np.finfo(np.float32).min
_MASS_SLACK = 1e-7
"""What rounding may take from a sum of float32 probabilities; a share that close to top_p counts as reached."""
_BOUND_SLACK = 1e-3
"""In nats: what rounding may do to a bound that is computed from a probability."""
_BOLDNESS = 8.0
_FOLD_WIDTH = 768
_BINS_PER_NAT = 16.0
_NUM_BINS = 2048

Values = NDArray[np.float32]
Rows = NDArray[np.intp]


class Cuts(NamedTuple):
    """What is asked of each row [R]."""

    temperatures: Values
    """Above 0."""
    ranks: Rows
    """top_k; the size of the vocabulary where it is off."""
    shares: NDArray[np.float64]
    """top_p; 1 where it is off."""
    floors: Values
    """min_p; 0 where it is off."""


def survivors(
    logits: Values, maxima: Values, cuts: Cuts, weigh: Callable[[Values, Values, Values], Values]
) -> tuple[Rows, Rows, Values]:
    """Apply top_k, top_p and min_p, in this order, to `logits` [R, V] with `maxima` [R].

    Returns where each row's survivors end [R], and all survivors' ids and weights, by row, then id; a weight is the
    probability relative to the row's largest. `weigh` (logits, maxima, temperatures) gives such weights [R, V], to be
    overwritten.
    """
    size = logits.shape[1]
    bounds, totals = _bounds(logits, maxima, cuts, weigh)
    rows, ids, values = above(logits, bounds)
    gaps = maxima[rows] - values
    if (cuts.temperatures != 1.0).any():
        gaps /= cuts.temperatures[rows]
    if (cuts.ranks < size).any():
        rows, ids, values, gaps = _kept(largest(rows, values, gaps, None, cuts.ranks), rows, ids, values, gaps)
    weights: Values = np.exp(-gaps)
    if (cuts.shares < 1.0).any():
        totals = np.where(cuts.ranks < size, np.bincount(rows, weights), totals)
        targets = np.maximum(totals * (cuts.shares - _MASS_SLACK), np.finfo(np.float64).tiny)
        targets = np.where(cuts.shares < 1.0, targets, np.inf)
        rows, ids, weights = _kept(largest(rows, values, gaps, weights, targets), rows, ids, weights)
    if (cuts.floors > 0.0).any():
        rows, ids, weights = _kept(weights >= np.minimum(cuts.floors, 1.0)[rows], rows, ids, weights)
    return np.bincount(rows).cumsum(), ids, weights


def _kept(keep: NDArray[np.bool_], *columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    # Boolean indexing takes five times as long.
    places = np.flatnonzero(keep)
    return tuple(column.take(places) for column in columns)


def _bounds(
    logits: Values, maxima: Values, cuts: Cuts, weigh: Callable[[Values, Values, Values], Values]
) -> tuple[Values, NDArray[np.float64]]:
    """[R] a logit below which nothing can survive; [R] the sum of weights, where only top_p needs it.

    1. top_k: the bound on that rank.
    2. top_p alone: a weight at which enough mass is gathered.
    3. min_p alone: the floor itself.
    """
    size = logits.shape[1]
    bounds = np.full(len(logits), LOWEST)
    totals = np.zeros(len(logits))
    least = cuts.floors.astype(np.float64)
    by_rank = np.flatnonzero(cuts.ranks < size)
    if by_rank.size:
        bounds[by_rank] = rank_bound(take(logits, by_rank), int(cuts.ranks[by_rank].max()))
    by_mass = np.flatnonzero((cuts.ranks == size) & (cuts.shares < 1.0))
    if by_mass.size:
        weights = weigh(take(logits, by_mass), maxima[by_mass], cuts.temperatures[by_mass])
        totals[by_mass] = folded_sum(weights)
        least[by_mass] = _least_weights(weights, totals[by_mass], cuts.shares[by_mass])
    by_weight = np.flatnonzero((cuts.ranks == size) & (least > 0.0))
    nats = np.minimum(np.log(least[by_weight]), 0.0) - _BOUND_SLACK
    lowest = maxima[by_weight] + nats * cuts.temperatures[by_weight]
    bounds[by_weight] = np.maximum(np.nextafter(lowest.astype(np.float32), -np.float32(np.inf)), LOWEST)
    return bounds, totals


def _least_weights(weights: Values, totals: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] a weight such that the tokens of `weights` [R, V] that reach it hold the share [R] of their total [R].

    Safe is what V tokens can have at most if they hold the rest together; a few times that leaves far fewer tokens to
    look at, and nearly always enough of them. Overwrites `weights`: fresh pages would cost more than the arithmetic.
    """
    safe = (1.0 - shares) * totals / weights.shape[1]
    bold = safe * _BOLDNESS
    np.multiply(weights, weights >= bold[:, None].astype(np.float32), out=weights)
    held = folded_sum(weights)
    least: NDArray[np.float64] = np.where(held >= totals * np.minimum(shares + _MASS_SLACK, 1.0), bold, safe)
    return least


def take(values: Values, rows: Sequence[int] | Rows) -> Values:
    """The named rows of `values`, which are distinct and ascend; no copy where they are all."""
    if len(rows) == len(values):
        return values
    taken: Values = values[rows]
    return taken


def rank_bound(values: Values, rank: int) -> Values:
    """[R] a lower bound for the `rank`-th largest of each row of `values` [R, V]; above it lie hardly more than `rank`.

    Each of W interleaved classes has a largest member, so the rank-th largest of these W maxima is such a bound.
    """
    num_rows, size = values.shape
    width = max(_FOLD_WIDTH, 2 * rank)
    folds = size // width
    if folds < 2:
        return np.full(num_rows, LOWEST)
    maxima = values[:, : folds * width].reshape(num_rows, folds, width).max(axis=1)
    maxima.partition(width - rank, axis=1)
    bounds: Values = np.maximum(maxima[:, width - rank], LOWEST)
    return bounds


def folded_sum(values: Values) -> NDArray[np.float64]:
    """[R] sums of the rows of `values` [R, V]; partial sums in float32, as fast as memory, their total in float64."""
    num_rows, size = values.shape
    folds = size // _FOLD_WIDTH
    folded = folds * _FOLD_WIDTH
    parts = values[:, :folded].reshape(num_rows, folds, _FOLD_WIDTH).sum(axis=1)
    total: NDArray[np.float64] = parts.sum(axis=1, dtype=np.float64) + values[:, folded:].sum(axis=1, dtype=np.float64)
    return total


def above(values: Values, bounds: Values) -> tuple[Rows, Rows, Values]:
    """Row, column and value of every entry of `values` [R, V] that reaches its row's bound [R], by row, then column."""
    num_rows, size = values.shape
    places = np.flatnonzero(values >= bounds[:, None])
    rows = np.repeat(np.arange(num_rows), np.diff(np.searchsorted(places, np.arange(num_rows + 1) * size)))
    return rows, places - rows * size, values.ravel().take(places)


def largest(
    rows: Rows, values: Values, gaps: Values, weights: Values | None, targets: NDArray[Any]
) -> NDArray[np.bool_]:
    """[C] which candidates belong to the smallest set of largest `values` whose weights reach their row's target [R].

    `rows` [C] ascends and names every row; `gaps` [C] ≥ 0 never grow with the values; `weights` None counts each
    candidate as one. At least one of each row stays; of equal values the earlier goes first. A histogram over the gaps
    finds the bin in which the target is met, and only that bin is sorted.
    """
    num_rows = len(targets)
    bins = np.minimum(gaps * _BINS_PER_NAT, _NUM_BINS - 1).astype(np.intp)
    span = int(bins.max()) + 1
    sums = np.bincount(rows * span + bins, weights, num_rows * span).reshape(num_rows, span).cumsum(axis=1)
    reached = sums >= targets[:, None]
    reached[:, -1] = True
    crossing = reached.argmax(axis=1)
    crossing_of_row = crossing[rows]
    keep: NDArray[np.bool_] = bins < crossing_of_row
    within = np.flatnonzero(bins == crossing_of_row)
    order = within[np.lexsort((-values[within], rows[within]))]
    before = np.where(crossing > 0, sums[np.arange(num_rows), crossing - 1], 0.0)
    keep[order[_until(rows[order], None if weights is None else weights[order], targets - before)]] = True
    return keep


def _until(rows: Rows, weights: Values | None, needs: NDArray[np.float64]) -> NDArray[np.bool_]:
    starts = np.searchsorted(rows, np.arange(len(needs)))
    places = np.arange(len(rows)) - starts[rows]
    if weights is None:
        return places < needs[rows]
    table = np.zeros((len(needs), int(places.max()) + 2))
    table[rows, places + 1] = weights
    before: NDArray[np.float64] = table.cumsum(axis=1)[rows, places]
    return before < needs[rows]
