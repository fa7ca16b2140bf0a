from __future__ import annotations

import math

import numpy as np
import pytest
from sampling_oracle import CloseCall, distribution

from hodios.engine.candidates import LOWEST, Cuts, above, rank_bound, survivors
from hodios.types import Sampling


def weigh(logits, maxima, temperatures):
    return np.exp((logits - maxima[:, None]) / temperatures[:, None])


def cut(logits, asked):
    cuts = Cuts(
        np.array([sampling.temperature for sampling in asked], np.float32),
        np.array([sampling.top_k or logits.shape[1] for sampling in asked]),
        np.array([sampling.top_p for sampling in asked]),
        np.array([sampling.min_p for sampling in asked], np.float32),
    )
    with np.errstate(over="ignore"):
        ends, ids, weights = survivors(logits, logits.max(axis=1), cuts, weigh)
    return np.split(ids, ends[:-1]), np.split(weights, ends[:-1])


def shapes(rng, size):
    """Rows as models make them and worse: flat, peaked, coarse with many ties, mostly masked."""
    ranks = rng.permutation(size)
    yield rng.normal(0, 3, size)
    yield 12 - 2.2 * np.log1p(ranks) + rng.normal(0, 0.5, size)
    yield np.round(rng.normal(0, 2, size))
    yield np.zeros(size)
    yield np.where(ranks < 20, rng.normal(0, 2, size), -np.inf)
    yield np.where(ranks == 3, 40.0, rng.normal(0, 1, size))


@pytest.mark.parametrize("size", [7, 1536, 1541, 6000])
def test_the_kept_sets_and_weights_are_exact_on_large_vocabularies(size):
    rng = np.random.default_rng(size)
    num_compared = 0
    for sampling in (
        Sampling(top_k=1),
        Sampling(top_k=40),
        Sampling(top_k=700),
        Sampling(top_k=3000),
        Sampling(top_p=0.01),
        Sampling(top_p=0.5, temperature=1.4),
        Sampling(top_p=0.95),
        Sampling(top_p=0.9999, temperature=0.7),
        Sampling(min_p=0.05),
        Sampling(min_p=1.0),
        Sampling(temperature=1.6, top_k=100, top_p=0.9, min_p=0.01),
    ):
        rows = np.array(list(shapes(rng, size)), np.float32)
        fitting = Sampling(sampling.temperature, sampling.top_p, sampling.min_p, min(sampling.top_k, size))
        found_ids, found_weights = cut(rows, [fitting] * len(rows))
        for row, ids, weights in zip(rows, found_ids, found_weights, strict=True):
            try:
                wanted = distribution(row, fitting, grammar=np.flatnonzero(row > -np.inf).tolist())
            except CloseCall:
                continue
            num_compared += 1
            assert ids.tolist() == np.flatnonzero(wanted).tolist()
            assert weights / weights.sum(dtype=np.float64) == pytest.approx(wanted[ids], abs=1e-6, rel=1e-4)
    assert num_compared > 50


def test_rows_with_different_cuts_do_not_mix():
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 2, (4, 3000)).astype(np.float32)
    asked = [Sampling(top_k=5), Sampling(top_p=0.6), Sampling(min_p=0.3), Sampling(top_k=50, top_p=0.4, min_p=0.1)]
    together = cut(rows, asked)[0]
    assert [ids.tolist() for ids in together] == [
        cut(rows[i : i + 1], asked[i : i + 1])[0][0].tolist() for i in range(4)
    ]


def test_neighbouring_floats_are_told_apart_where_their_probabilities_are_not():
    row = np.full((1, 10), 20, np.float32)
    row[0, 7] = np.nextafter(np.float32(20), np.float32(21))
    assert cut(row, [Sampling(top_k=1)])[0][0].tolist() == [7]
    row = np.full((1, 10), 0, np.float32)
    row[0, 3:5], row[0, 9] = (1e-30, 2e-30), 30
    assert cut(row, [Sampling(top_k=2)])[0][0].tolist() == [4, 9]


@pytest.mark.parametrize("rank", [1, 20, 384, 2000, 6000])
def test_a_rank_bound_lets_as_many_through_and_not_many_more(rank):
    values = np.random.default_rng(rank).normal(size=(3, 6000)).astype(np.float32)
    bounds = rank_bound(values, rank)
    rows, _, _ = above(values, bounds)
    counts = np.bincount(rows, minlength=3)
    assert (counts >= rank).all()
    if rank <= 384:
        assert (counts < 2 * rank + 20).all()


def test_a_rank_beyond_what_is_allowed_lets_no_masked_token_through():
    values = np.full((1, 6000), -math.inf, np.float32)
    values[0, 17] = 1
    assert rank_bound(values, 40)[0] == LOWEST
    assert above(values, rank_bound(values, 40))[1].tolist() == [17]
