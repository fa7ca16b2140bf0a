"""What replicas' servers say of their own load: about once a second, as long as requests choose among them.

Requests read what came last and never wait for it. A server that says nothing is asked ever more rarely, and what it
has said is forgotten soon: then our own count is all there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from hodios.providers.base import Provider, Reporting
from hodios.router.load import Load, Report
from hodios.router.rounds import rounds
from hodios.router.track import Tracks

TICK_S = 1.0
WANTED_S = 10.0
"""How long after the last request that had to choose servers are asked."""
MEMORY_S = 4.0
MOST_PAUSE_S = 60.0
"""Between two questions to a server that says nothing."""
_JITTER = 0.25


class ServerLoads:
    """Of one router. `clock` is the router's."""

    def __init__(
        self,
        providers: Sequence[Provider],
        tracks: Tracks,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._providers = providers
        self._tracks = tracks
        self._clock = clock
        self._rng = rng or random.Random()
        self._silent: dict[str, tuple[float, float]] = {}
        """Of those that said nothing: when to ask again, and the pause until then."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Asks within the block."""
        async with rounds(self.look, lambda: TICK_S * self._jitter(), self._tasks):
            yield

    def look(self) -> None:
        """Forget what is old, and begin to ask, each server once at a time."""
        now_s = self._clock()
        wanted: set[str] = set()
        for (name, _), track in self._tracks.all().items():
            report = track.load.report
            if report is not None and now_s - report.came_s > MEMORY_S:
                track.load.report = None
            if now_s - track.compared_s <= WANTED_S:
                wanted.add(name)
        for provider in self._providers:
            name = provider.name
            if name not in wanted or name in self._tasks or now_s < self._silent.get(name, (now_s, 0.0))[0]:
                continue
            if isinstance(provider, Reporting):
                self._tasks[name] = asyncio.create_task(self._ask(name, provider))

    async def _ask(self, name: str, provider: Reporting) -> None:
        before = {model: load.num_answers for model, load in self._loads_at(name).items()}
        try:
            told = await provider.loads()
        finally:
            del self._tasks[name]
        now_s = self._clock()
        if not told:
            _, pause_s = self._silent.get(name, (now_s, TICK_S / 2))
            pause_s = min(2 * pause_s, MOST_PAUSE_S)
            self._silent[name] = (now_s + pause_s * self._jitter(), pause_s)
            return
        self._silent.pop(name, None)
        for model, load in self._loads_at(name).items():
            if (said := told.get(model)) is not None:
                # What of ours began or ended while it was asked may be counted or not: it is nobody else's.
                num_ours = max(load.num_answers, before.get(model, 0))
                num_others = max(0, said.num_running + said.num_waiting - num_ours)
                load.report = Report(now_s, num_others, said.num_waiting, said.cache_usage)

    def _loads_at(self, name: str) -> dict[str, Load]:
        """By model."""
        return {model: track.load for (provider, model), track in self._tracks.all().items() if provider == name}

    def _jitter(self) -> float:
        """So that many gateways do not ask at the same time."""
        return self._rng.uniform(1 - _JITTER, 1 + _JITTER)
