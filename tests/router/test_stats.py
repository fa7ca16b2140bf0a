from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.router.stats import DECAY_S, STALE_S, Average, PeakAverage, Quantiles, Stats, size_class


def test_an_average_moves_slowly() -> None:
    average = Average()
    assert average.value is None
    average.add(10.0)
    average.add(20.0)
    assert average.value == 11.0


def test_a_peak_is_felt_at_once_and_fades() -> None:
    waits = PeakAverage()
    assert waits.value(0) is None
    for at in range(50):
        waits.add(0.1, at)
    assert waits.value(49) == pytest.approx(0.1)
    waits.add(5.0, 50)
    assert waits.value(50) == pytest.approx(5.0)
    values = [waits.value(50 + at) or 0 for at in range(0, 60, 5)]
    assert values == sorted(values, reverse=True)
    assert values[2] == pytest.approx(0.59 + (5 - 0.59) * 0.3679, rel=1e-3)
    waits.add(0.1, 50 + DECAY_S)
    assert (waits.value(50 + DECAY_S) or 0) > 1.5, "one good answer does not make up for it"


def test_what_is_old_is_not_known_any_more() -> None:
    waits = PeakAverage()
    waits.add(5.0, 0)
    assert waits.value(STALE_S) is not None
    assert waits.value(STALE_S + 1) is None


def test_a_wait_cut_short_counts_where_it_is_long() -> None:
    waits = PeakAverage()
    waits.add(1.0, 0)
    waits.add_at_least(0.5, 0)
    assert waits.value(0) == 1.0
    waits.add_at_least(3.0, 0)
    assert waits.value(0) == 3.0
    nobody = PeakAverage()
    nobody.add_at_least(2.0, 0)
    assert nobody.value(0) == 2.0


@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantiles_are_right_to_a_bucket(samples: list[float], share: float) -> None:
    quantiles = Quantiles()
    for sample in samples:
        quantiles.add(sample, 0.0)
    exact = sorted(samples)[min(len(samples) - 1, max(0, -int(-share * len(samples) // 1) - 1))]
    found = quantiles.value(share)
    assert found is not None
    assert exact / 1.16 <= found <= exact * 1.16


def test_quantiles_forget_and_take_anything() -> None:
    quantiles = Quantiles()
    assert quantiles.value(0.5) is None
    for sample in (0.0, -1.0, 1e9):
        quantiles.add(sample, 0.0)
    assert quantiles.value(0.5, least_samples=4) is None
    assert quantiles.value(0.5) == pytest.approx(0.001, rel=0.2)
    quantiles.add(1.0, 301.0)
    assert quantiles.value(1.0) > 500  # type: ignore[operator]
    quantiles.add(1.0, 602.0)
    assert quantiles.value(1.0) == pytest.approx(1.0, rel=0.2)
    quantiles.add(2.0, 5000.0)
    assert quantiles.value(0.01) == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(
    ("num_tokens", "expected"), [(0, 0), (1024, 0), (1025, 1), (8192, 1), (32768, 2), (32769, 3), (10**9, 3)]
)
def test_size_classes(num_tokens: int, expected: int) -> None:
    assert size_class(num_tokens) == expected


def test_each_size_of_prompt_has_its_own_figures() -> None:
    stats = Stats()
    assert stats.duration_s(100) is None
    stats.waited(1.0, 0, 0.0)
    assert stats.duration_s(100) == 1.0, "of the speed nothing is known yet"
    stats.wrote(101, 2.0, 0)
    stats.waited(9.0, 3, 0.0)
    stats.wrote(1, 0.0, 3)
    assert (stats.latency_s(0), stats.latency_s(3), stats.latency_s(1)) == (1.0, 9.0, None)
    assert (stats.throughput(0), stats.throughput(3), stats.throughput()) == (50.0, None, 50.0)
    assert stats.duration_s(100, 0) == 3.0
    assert stats.duration_s(100) == pytest.approx(1.8 + 2.0)
