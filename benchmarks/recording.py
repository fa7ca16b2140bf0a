"""When tokens arrived, and between which moments all streams were alive. Pure: time is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hodios.engine.messages import Output, Stats


@dataclass(frozen=True, slots=True)
class Window:
    """What came in a stretch of time, and how the engine spent it."""

    num_tokens: int = 0
    seconds: float = 0.0
    infer_s: float = 0.0
    step_s: float = 0.0

    def __add__(self, other: Window) -> Window:
        return Window(
            self.num_tokens + other.num_tokens,
            self.seconds + other.seconds,
            self.infer_s + other.infer_s,
            self.step_s + other.step_s,
        )


@dataclass(slots=True)
class Arrival:
    """All that was received at once."""

    time_s: float
    stats: Stats | None
    num_tokens: int = 0


class Recording:
    """Some requests of one continuation each, from submission to their last token."""

    def __init__(self, ids: Sequence[int], began_s: float) -> None:
        self._silent = set(ids)
        self._began_s = began_s
        self._arrivals: list[Arrival] = []
        self._first_of_all = -1
        """Number of the arrival with which the last of the requests has a token."""
        self._first_end = -1
        self.first_s: dict[int, float] = {}
        """Seconds until the first token, by request."""
        self.num_tokens = 0

    def add(self, output: Output, stats: Stats | None, now_s: float) -> None:
        """`stats` came with the output; those of another frame are another object."""
        if not self._arrivals or self._arrivals[-1].stats is not stats:
            self._arrivals.append(Arrival(now_s, stats))
        arrival = self._arrivals[-1]
        arrival.num_tokens += len(output.tokens)
        self.num_tokens += len(output.tokens)
        number = len(self._arrivals) - 1
        if output.tokens and output.id in self._silent:
            self._silent.discard(output.id)
            self.first_s[output.id] = arrival.time_s - self._began_s
            self._first_of_all = number
        if output.finish_reason is not None and self._first_end < 0:
            self._first_end = number

    @property
    def total_s(self) -> float:
        return self._arrivals[-1].time_s - self._began_s

    def window(self) -> Window:
        """From the first moment in which all had produced to the last in which all were alive. Raises ValueError if
        there was no such time."""
        if self._silent or self._first_end <= self._first_of_all:
            raise ValueError("the first answer had ended before the last one began")
        first, last = self._arrivals[self._first_of_all], self._arrivals[self._first_end]
        assert first.stats is not None, "a frame with outputs has stats"
        assert last.stats is not None, "a frame with outputs has stats"
        between = self._arrivals[self._first_of_all + 1 : self._first_end + 1]
        return Window(
            num_tokens=sum(arrival.num_tokens for arrival in between),
            seconds=last.time_s - first.time_s,
            infer_s=last.stats.infer_s - first.stats.infer_s,
            step_s=last.stats.step_s - first.stats.step_s,
        )
