from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.router.histogram import MOST_ERROR, NUM_BINS, SECONDS, TOKENS_PER_SECOND, Scale, quantile_bins
from hodios.router.past import SHARES

ROUNDING = 1e-9


def exact(samples: list[float], share: float) -> float:
    """The smallest sample that so many do not exceed."""
    return sorted(samples)[math.ceil(Fraction(str(share)) * len(samples)) - 1]


@given(
    scale=st.sampled_from([SECONDS, TOKENS_PER_SECOND]),
    logs=st.lists(st.floats(0, 1), min_size=1, max_size=300),
    share=st.sampled_from(SHARES),
)
def test_a_percentile_is_as_exact_as_promised(scale: Scale, logs: list[float], share: float) -> None:
    samples = [scale.lowest * (scale.highest / scale.lowest) ** log for log in logs]
    (found,) = quantile_bins(Counter(map(scale.bin, samples)), [share])
    assert abs(scale.value(found) / exact(samples, share) - 1) <= MOST_ERROR + ROUNDING


def test_the_documentation_says_how_exact() -> None:
    assert 0.0485 < MOST_ERROR < 0.049
    assert SECONDS.highest > 3600
    assert TOKENS_PER_SECOND.highest > 40_000


@given(st.lists(st.integers(0, NUM_BINS - 1), min_size=1), st.lists(st.floats(0.001, 1), min_size=1).map(sorted))
def test_all_shares_at_once_are_as_each_alone(bins: list[int], shares: list[float]) -> None:
    counts = Counter(bins)
    assert quantile_bins(counts, shares) == [quantile_bins(counts, [share])[0] for share in shares]


@pytest.mark.parametrize("share", SHARES)
def test_ranks_are_exact_however_many_samples(share: float) -> None:
    for num in range(1, 20_000):
        assert math.ceil(share * num) == math.ceil(Fraction(str(share)) * num)


@given(st.integers(0, NUM_BINS - 1))
def test_the_middle_of_a_bin_is_in_it(bin_: int) -> None:
    assert SECONDS.bin(SECONDS.value(bin_)) == bin_


@pytest.mark.parametrize(
    ("value", "bin_"), [(-1.0, 0), (0.0, 0), (1e-300, 0), (1e9, NUM_BINS - 1), (1e300, NUM_BINS - 1)]
)
def test_what_lies_outside_counts_as_the_nearest_end(value: float, bin_: int) -> None:
    assert SECONDS.bin(value) == bin_


def test_nothing_has_no_percentiles() -> None:
    assert quantile_bins({}, SHARES) == []
