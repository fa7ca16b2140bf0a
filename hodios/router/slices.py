"""Counts by slices of time: the newest so many are kept, older ones make room. O(1) to count; has no clock."""

from __future__ import annotations

from collections.abc import Iterator

Slice = tuple[int, dict[int, int]]
"""Its number (time divided by the length of a slice), and key → how often. A slice that is over never changes again."""


class Ring:
    """The newest `num_slices` slices of `slice_s` seconds.

    What lies in the future, after a clock was set back, counts for nothing and is overwritten.
    """

    __slots__ = ("_num", "_slices", "slice_s")

    def __init__(self, slice_s: int, num_slices: int) -> None:
        self.slice_s = slice_s
        self._num = num_slices
        self._slices: list[Slice | None] = [None] * num_slices

    def current(self, now_s: float) -> dict[int, int]:
        """The counts of this moment, to be added to."""
        number = self.number(now_s)
        place = number % self._num
        held = self._slices[place]
        if held is None or held[0] != number:
            # A new one, so that whoever still reads the old one is not disturbed.
            held = self._slices[place] = (number, {})
        return held[1]

    def between(self, oldest: int, newest: int) -> Iterator[Slice]:
        """Those with numbers from `oldest` to `newest`, in any order."""
        return (held for held in self._slices if held is not None and oldest <= held[0] <= newest)

    def number(self, now_s: float) -> int:
        return int(now_s // self.slice_s)

    def last(self, now_s: float, num_slices: int) -> dict[int, int]:
        """The sum of the newest, the one of this moment included."""
        newest = self.number(now_s)
        return total(self.between(newest - num_slices + 1, newest))

    def kept(self, now_s: float) -> list[Slice]:
        """All that still counts, fit to be read while counting goes on: only the newest one is copied."""
        newest = self.number(now_s)
        return [
            (number, dict(counts) if number == newest else counts)
            for number, counts in self.between(newest - self._num + 1, newest)
        ]

    def restore(self, slices: list[Slice], now_s: float) -> None:
        """What `kept` gave, as far as it still counts."""
        newest = self.number(now_s)
        for number, counts in slices:
            if newest - self._num < number <= newest:
                self._slices[number % self._num] = (number, counts)

    @property
    def num_entries(self) -> int:
        """What it holds, for tests of what it may hold at most."""
        return sum(len(held[1]) for held in self._slices if held is not None)


def total(slices: Iterator[Slice]) -> dict[int, int]:
    summed: dict[int, int] = {}
    for _, counts in slices:
        for key, num in counts.items():
            summed[key] = summed.get(key, 0) + num
    return summed
