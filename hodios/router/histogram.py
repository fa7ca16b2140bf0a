"""Numbers counted in bins that grow by a tenth, and the percentiles of such counts. Knows no time and no meaning.

A percentile is the geometric middle of the bin that holds the exact one, so it is at most MOST_ERROR off, within
the range of its scale. What lies outside counts as the nearest end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

GROWTH = 1.1
NUM_BINS = 160
"""Six decades and a half."""
MOST_ERROR = math.sqrt(GROWTH) - 1
_PER_LOG = 1 / math.log(GROWTH)

Counts = Mapping[int, int]
"""Bin → how many; bins without any are left out."""


class Scale(NamedTuple):
    """Where the first bin begins."""

    lowest: float

    @property
    def highest(self) -> float:
        return float(self.lowest * GROWTH**NUM_BINS)

    def bin(self, value: float) -> int:
        if value <= self.lowest:
            return 0
        found = int(math.log(value / self.lowest) * _PER_LOG)
        return found if found < NUM_BINS else NUM_BINS - 1

    def value(self, bin_: float) -> float:
        """The geometric middle of a bin."""
        return float(self.lowest * GROWTH ** (bin_ + 0.5))


SECONDS = Scale(0.001)
TOKENS_PER_SECOND = Scale(0.01)


def quantile_bins(counts: Counts, shares: Sequence[float]) -> list[int]:
    """For each share, which must ascend, the bin of the smallest value that so many do not exceed."""
    num = sum(counts.values())
    found: list[int] = []
    below = 0
    for bin_ in sorted(counts):
        below += counts[bin_]
        while len(found) < len(shares) and below >= math.ceil(shares[len(found)] * num):
            found.append(bin_)
    return found
