"""All that the router knows of one model at one provider: its health, its load, what its recent answers were like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hodios.router.breaker import Breaker
from hodios.router.load import Load
from hodios.router.seat import Seat
from hodios.router.stats import Average, Stats


class Track:
    """Lives as long as the router, across reloads of the catalog. `output` and `size` are those of the model, whoever
    serves it."""

    def __init__(self, output: Average, breaker: Breaker | None = None, size: Average | None = None) -> None:
        self.output = output
        """Tokens of an answer."""
        self.size = size or Average()
        """Tokens of a request and its answers, of those that replicas were chosen for."""
        self.breaker = breaker or Breaker()
        self.load = Load()
        self.stats = Stats()
        self.compared_s = float("-inf")
        """When it last was one of several replicas for a request."""

    def wait_s(self, now_s: float) -> float | None:
        """What to expect of the wait for a first token; None where nothing is known. A request that is still waiting
        tells more than those that are answered."""
        wait_s = self.stats.wait.value(now_s)
        return None if wait_s is None else max(wait_s, self.load.longest_wait_s(now_s))


OnBreaker = Callable[[str, str, bool, str], None]
"""(provider, model, whether it is ejected now rather than back, what its last failure was)"""


def _tell_nobody(provider: str, model: str, is_open: bool, reason: str) -> None:
    pass


class Tracks:
    """Every track by provider and model. One is made when a seat is first looked at."""

    def __init__(self, on_breaker: OnBreaker = _tell_nobody) -> None:
        self._on_breaker = on_breaker
        self._tracks: dict[tuple[str, str], Track] = {}
        self._outputs: dict[str, Average] = {}
        self._sizes: dict[str, Average] = {}

    def of(self, seat: Seat) -> Track:
        key = (seat.provider.name, seat.card.id)
        track = self._tracks.get(key)
        if track is None:
            breaker = Breaker(partial(self._tell, key))
            output = self._outputs.setdefault(seat.card.id, Average())
            size = self._sizes.setdefault(seat.card.id, Average())
            track = self._tracks[key] = Track(output, breaker, size)
        return track

    def _tell(self, key: tuple[str, str], is_open: bool) -> None:
        self._on_breaker(*key, is_open, self._tracks[key].breaker.reason)

    def all(self) -> dict[tuple[str, str], Track]:
        """(provider, model) → track, of every seat that was looked at."""
        return dict(self._tracks)
