"""Free probes: who has not been asked anything for a while, or was ejected, is looked after without asking a model.

Nobody is ever asked for what may cost. Whether a provider can be probed is for it to say (`providers.base.Probed`); of
the others the state that they give of themselves is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from hodios.providers.base import Probed, Provider, Verdict
from hodios.router.breaker import Breaker
from hodios.router.history import History
from hodios.router.rounds import rounds
from hodios.router.track import Tracks

TICK_S = 1.0
WATCH_S = 25.0
"""Between probes of who is ejected: with a tick and the time of a probe, a recovery is noticed within 35 s."""
PATIENCE_S = 8.0
"""A tick and the time of a probe, and a little more."""
_JITTER = 0.25


class Prober:
    """Of one router. `clock` is the router's. An `interval_s` of 0 probes nobody."""

    def __init__(
        self,
        providers: Sequence[Provider],
        tracks: Tracks,
        history: History,
        interval_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._providers = providers
        self._tracks = tracks
        self._history = history
        self._interval_s = interval_s
        self._clock = clock
        self._rng = rng or random.Random()
        self._last_s: dict[str, float] = {}
        self._next_s: dict[str, float] = {}
        self._ill_s: dict[str, float] = {}
        """When a provider was found ill for the last time."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Probes within the block."""
        if not self._interval_s:
            yield
            return
        async with rounds(self.look, lambda: TICK_S * self._jitter(), self._tasks):
            yield

    def look(self) -> None:
        """Begin the probes that are due, one of a provider at a time."""
        now_s = self._clock()
        for provider in self._providers:
            if not isinstance(provider, Probed):
                self._believe(provider, now_s)
            elif provider.name not in self._tasks and self._is_due(provider.name, now_s):
                self._tasks[provider.name] = asyncio.create_task(self._probe(provider.name, provider))

    def _is_due(self, name: str, now_s: float) -> bool:
        last_s = self._last_s.get(name, float("-inf"))
        for breaker in self._breakers(name):
            has_ended = breaker.is_over(now_s) and breaker.until_s > last_s
            if has_ended or (breaker.is_open and now_s - last_s >= WATCH_S):
                return True
        next_s = self._next_s.setdefault(name, now_s + self._pause_s())
        return now_s >= next_s and self._history.idle_s(name) >= self._interval_s * (1 - _JITTER)

    async def _probe(self, name: str, provider: Probed) -> None:
        began_s = self._clock()
        breakers = self._breakers(name)
        suspects = [breaker for breaker in breakers if breaker.begin(began_s, is_free=True)]
        verdict: Verdict = "unknown"
        try:
            verdict = await provider.probe()
        finally:
            now_s = self._clock()
            self._last_s[name], self._next_s[name] = now_s, now_s + self._pause_s()
            del self._tasks[name]
            self._judge(name, breakers, suspects, verdict, began_s, now_s)
        self._history.note_probe(name, verdict)

    def _judge(
        self,
        name: str,
        breakers: Sequence[Breaker],
        suspects: Sequence[Breaker],
        verdict: Verdict,
        began_s: float,
        now_s: float,
    ) -> None:
        """`suspects` are those of whom it had to be found out; others may have become such meanwhile. Whoever was found
        ill since its ejection and is well now has recovered, and need not wait for the end of it."""
        since_s = {id(breaker): began_s for breaker in suspects}
        since_s |= {id(breaker): now_s for breaker in breakers if breaker.begin(now_s, is_free=True)}
        ill_s = self._ill_s.get(name, float("-inf"))
        for breaker in breakers:
            if verdict == "ill":
                breaker.fail(since_s.get(id(breaker), began_s), now_s, "it could not be reached")
            elif verdict == "well" and (id(breaker) in since_s or (breaker.is_open and ill_s >= breaker.since_s)):
                breaker.readmit(now_s)
            if id(breaker) in since_s:
                breaker.release(since_s[id(breaker)])
            breaker.patience_s = 0.0 if verdict == "unknown" else PATIENCE_S
        if verdict == "ill":
            self._ill_s[name] = now_s

    def _believe(self, provider: Provider, now_s: float) -> None:
        """Bring back whoever says itself that it is ready, once its ejection is over."""
        for health in provider.health() if self._is_any_due(provider.name, now_s) else ():
            track = self._tracks.all().get((provider.name, health.model))
            if track is not None and health.state == "ready" and track.breaker.begin(now_s):
                track.breaker.readmit(now_s)

    def _is_any_due(self, name: str, now_s: float) -> bool:
        return any(breaker.state(now_s) == "due" for breaker in self._breakers(name))

    def _breakers(self, name: str) -> list[Breaker]:
        return [track.breaker for (provider, _), track in self._tracks.all().items() if provider == name]

    def _pause_s(self) -> float:
        return self._interval_s * self._jitter()

    def _jitter(self) -> float:
        """So that many servers do not probe at the same time."""
        return self._rng.uniform(1 - _JITTER, 1 + _JITTER)
