"""What recent answers say of one model at one provider: waits, speeds, lengths. Every step is O(1); has no clock.

Long-term history is not kept here: this is what the next choice is made by.
"""

from __future__ import annotations

import math

DECAY_S = 10.0
"""How long a peak is felt: after so many seconds 37 % of it is left."""
STALE_S = 60.0
"""After so long without a sample nothing is known any more, so that who was slow is tried again."""
SIZE_LIMITS = (1024, 8192, 32768)
"""Prompt tokens: the upper limits of the size classes but the last."""
NUM_CLASSES = len(SIZE_LIMITS) + 1
USUAL_OUTPUT = 256
"""Tokens of an answer where nothing is known."""
_SHARE = 0.1
"""Weight of a new sample in an average."""
_LOWEST_S, _GROWTH, _NUM_BUCKETS = 0.001, 1.15, 96
_GENERATION_S = 300.0
_LOG_GROWTH = math.log(_GROWTH)


def size_class(num_prompt_tokens: int) -> int:
    for number, limit in enumerate(SIZE_LIMITS):
        if num_prompt_tokens <= limit:
            return number
    return NUM_CLASSES - 1


class Average:
    """A moving average by number of samples; None before the first one."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, sample: float) -> None:
        self.value = sample if self.value is None else self.value + _SHARE * (sample - self.value)


class PeakAverage:
    """Follows peaks at once and returns to the average slowly."""

    __slots__ = ("_average", "_peak", "_since_s")

    def __init__(self) -> None:
        self._average = Average()
        self._peak = 0.0
        self._since_s = 0.0

    def add(self, sample: float, now_s: float) -> None:
        decayed = self._decayed(now_s)
        self._average.add(sample)
        self._peak = max(sample, decayed)
        self._since_s = now_s

    def add_at_least(self, bound: float, now_s: float) -> None:
        """A sample that was cut short says something only where it is long."""
        if self._average.value is None or bound > self._decayed(now_s):
            self.add(bound, now_s)

    def value(self, now_s: float) -> float | None:
        """None where nothing is known, or not any more."""
        if self._average.value is None or now_s - self._since_s > STALE_S:
            return None
        return self._decayed(now_s)

    def _decayed(self, now_s: float) -> float:
        base = self._average.value or 0.0
        return base + max(0.0, self._peak - base) * math.exp((self._since_s - now_s) / DECAY_S)


class Quantiles:
    """Of times in seconds, to 15 %, over the last five to ten minutes."""

    def __init__(self) -> None:
        self._young = [0] * _NUM_BUCKETS
        self._old = [0] * _NUM_BUCKETS
        self._num_young = self._num_old = 0
        self._since_s = float("-inf")

    def add(self, sample_s: float, now_s: float) -> None:
        if now_s - self._since_s > _GENERATION_S:
            is_recent = now_s - self._since_s <= 2 * _GENERATION_S
            self._old, self._num_old = (self._young, self._num_young) if is_recent else ([0] * _NUM_BUCKETS, 0)
            self._young, self._num_young = [0] * _NUM_BUCKETS, 0
            self._since_s = now_s
        bucket = int(math.log(max(sample_s, _LOWEST_S) / _LOWEST_S) / _LOG_GROWTH)
        self._young[min(bucket, _NUM_BUCKETS - 1)] += 1
        self._num_young += 1

    def value(self, share: float, *, least_samples: int = 1) -> float | None:
        """What `share` of the samples do not exceed; None where there are too few."""
        num = self._num_young + self._num_old
        if num < least_samples:
            return None
        wanted = share * num
        for bucket in range(_NUM_BUCKETS):
            wanted -= self._young[bucket] + self._old[bucket]
            if wanted <= 0:
                return _LOWEST_S * float(_GROWTH ** (bucket + 1))
        return _LOWEST_S * float(_GROWTH**_NUM_BUCKETS)


class Stats:
    """Of one model at one provider."""

    def __init__(self) -> None:
        self.wait = PeakAverage()
        """For the first token."""
        self.waits = Quantiles()
        self._waits = tuple(Average() for _ in range(NUM_CLASSES + 1))
        self._speeds = tuple(Average() for _ in range(NUM_CLASSES + 1))
        """By size class; the last one is of all sizes."""

    def waited(self, wait_s: float, size: int, now_s: float) -> None:
        """A first token came after `wait_s`."""
        self.wait.add(wait_s, now_s)
        self.waits.add(wait_s, now_s)
        self._waits[size].add(wait_s)
        self._waits[NUM_CLASSES].add(wait_s)

    def wrote(self, num_tokens: int, after_first_s: float, size: int) -> None:
        """An answer is whole; it took so long after its first token."""
        if num_tokens > 1 and after_first_s > 0:
            self._speeds[size].add((num_tokens - 1) / after_first_s)
            self._speeds[NUM_CLASSES].add((num_tokens - 1) / after_first_s)

    def latency_s(self, size: int | None = None) -> float | None:
        """Mean wait for the first token, of one size class or of all."""
        return self._waits[NUM_CLASSES if size is None else size].value

    def throughput(self, size: int | None = None) -> float | None:
        """Mean tokens per second after the first."""
        return self._speeds[NUM_CLASSES if size is None else size].value

    def duration_s(self, num_tokens: float, size: int | None = None) -> float | None:
        """How long an answer of so many tokens is likely to take."""
        latency_s = self.latency_s(size)
        speed = self.throughput(size)
        if latency_s is None:
            return None
        return latency_s + (num_tokens / speed if speed else 0.0)
