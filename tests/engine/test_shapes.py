from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.shapes import bucket_sizes, floor_rows, round_rows


def test_the_row_counts_of_the_default_limit() -> None:
    small = [2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64]
    assert bucket_sizes(512) == [*small, *range(96, 513, 32)]


def test_a_lone_row_gets_company() -> None:
    assert round_rows(1) == 2
    assert floor_rows(1) == 0
    assert bucket_sizes(1) == [2]


@given(st.integers(1, 5000))
def test_padding_goes_to_the_next_row_count_and_no_further(num_rows: int) -> None:
    sizes = bucket_sizes(5000)
    assert round_rows(num_rows) == min(size for size in sizes if size >= num_rows)
    assert floor_rows(num_rows) == max([0, *(size for size in sizes if size <= num_rows)])


@given(st.integers(1, 2000))
def test_a_warm_up_meets_every_shape(limit: int) -> None:
    assert bucket_sizes(limit) == sorted({round_rows(num_rows) for num_rows in range(1, limit + 1)})
