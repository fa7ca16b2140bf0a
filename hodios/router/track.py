"""All that the router knows of one model at one provider: its health, its load, what its recent answers were like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hodios.router.breaker import Breaker
from hodios.router.load import Load
from hodios.router.seat import Seat
from hodios.router.stats import Average, Stats


class Track:
    """Lives as long as the router, across reloads of the catalog. `output` is that of the model, whoever serves it."""

    def __init__(self, output: Average, breaker: Breaker | None = None) -> None:
        self.output = output
        """Tokens of an answer."""
        self.breaker = breaker or Breaker()
        self.load = Load()
        self.stats = Stats()

    def wait_s(self, now_s: float) -> float | None:
        """What to expect of the wait for a first token; None where nothing is known. A request that is still waiting
        tells more than those that are answered."""
        wait_s = self.stats.wait.value(now_s)
        return None if wait_s is None else max(wait_s, self.load.longest_wait_s(now_s))


OnBreaker = Callable[[str, str, bool], None]
"""(provider, model, whether it is ejected now rather than back)"""


def _tell_nobody(provider: str, model: str, is_open: bool) -> None:
    pass


class Tracks:
    """Every track by provider and model. One is made when a seat is first looked at."""

    def __init__(self, on_breaker: OnBreaker = _tell_nobody) -> None:
        self._on_breaker = on_breaker
        self._tracks: dict[tuple[str, str], Track] = {}
        self._outputs: dict[str, Average] = {}

    def of(self, seat: Seat) -> Track:
        key = (seat.provider.name, seat.card.id)
        track = self._tracks.get(key)
        if track is None:
            breaker = Breaker(partial(self._on_breaker, *key))
            track = self._tracks[key] = Track(self._outputs.setdefault(seat.card.id, Average()), breaker)
        return track

    def all(self) -> dict[tuple[str, str], Track]:
        """(provider, model) → track, of every seat that was looked at."""
        return dict(self._tracks)
