"""The few row counts that steps are padded to. Knows no sequences."""

from __future__ import annotations

ROW_STEPS = ((4, 2), (16, 4), (64, 8))
"""(largest row count, distance between row counts up to it); each limit is a multiple of the next distance.

The runtime creates and keeps its kernels anew for every distinct number of rows: 15–25 ms at the first step, and memory
for good. Small steps are decode steps, where a padded row costs most, so row counts lie close together there. Two is
the least: a step of a single row would take another matrix kernel and round differently from the same row in a crowd.
"""
LARGE_STEP = 32
"""Distance beyond the last of `ROW_STEPS`: prefill, where 31 padded rows in several hundred cost little."""


def _step_at(num_rows: int) -> int:
    return next((step for limit, step in ROW_STEPS if num_rows <= limit), LARGE_STEP)


def round_rows(num_rows: int) -> int:
    """The row count that a step of `num_rows` ≥ 1 rows is padded to."""
    step = _step_at(num_rows)
    return -(-num_rows // step) * step


def floor_rows(num_rows: int) -> int:
    """The largest row count that `num_rows` fill without padding; 0 if even the smallest would need some."""
    return num_rows - num_rows % _step_at(num_rows)


def bucket_sizes(limit: int) -> list[int]:
    """Every row count that steps of 1 … `limit` rows are padded to, ascending: what a warm-up has to run."""
    sizes = [round_rows(1)]
    while sizes[-1] < limit:
        sizes.append(round_rows(sizes[-1] + 1))
    return sizes
