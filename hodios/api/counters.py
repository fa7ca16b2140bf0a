"""Counts and durations by label, as Prometheus is told of them. Adding to them is a dictionary's work, with neither
locks nor objects for each label: one event loop alone adds, and reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[object, ...]


class Counts(Collector):
    """A counter: `counts[labels] += 1`."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self.of: Counter[Labels] = Counter()
        """How many, by labels."""
        self._name = name
        self._meaning = meaning
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, num in self.of.items():
            family.add_metric([str(label) for label in labels], num)
        return [family]


class Durations(Collector):
    """A histogram of seconds. `limits` are the upper ends of its buckets but the last, which has none."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], limits: Sequence[float]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._limits = limits
        self._nums: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, labels: Labels, seconds: float) -> None:
        nums = self._nums.get(labels)
        if nums is None:
            nums = self._nums[labels] = [0] * (len(self._limits) + 1)
            self._sums[labels] = 0.0
        nums[bisect_left(self._limits, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        ends = [*map(repr, self._limits), "+Inf"]
        for labels, nums in self._nums.items():
            buckets = list(zip(ends, map(float, accumulate(nums)), strict=True))
            family.add_metric([str(label) for label in labels], buckets, self._sums[labels])
        return [family]
