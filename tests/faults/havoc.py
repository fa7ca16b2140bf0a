"""What is killed, stopped and started again while requests are on their way, at random."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from counting_upstream import CountingUpstream
from postgresql_server import OwnServer
from redis_server import RedisServer
from replicas import Replica

_TEND_S = 0.1
_ANSWERS_BETWEEN = 10
"""Before a server is stopped again: where all are slow nothing else would happen."""
_STOPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


@dataclass
class Havoc:
    """Until it is over; then all are at work again. Pauses are seconds, from and to."""

    replicas: Sequence[Replica]
    upstreams: Sequence[CountingUpstream]
    rng: random.Random
    is_over: Callable[[], bool]
    num_answers: Callable[[], int]
    """That clients have got."""
    kill_s: tuple[float, float]
    stop_s: tuple[float, float]
    postgresql: OwnServer | None = None
    redis: RedisServer | None = None
    done: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill_replicas())
            if self.postgresql is not None:
                tasks.create_task(self._restart_postgresql(self.postgresql))
            if self.redis is not None:
                tasks.create_task(self._restart_redis(self.redis))

    async def _pause(self, bounds_s: tuple[float, float], num_answers: int = 0) -> bool:
        """And until so many answers have come. Whether there is time for something more."""
        least = self.num_answers() + num_answers
        await asyncio.sleep(self.rng.uniform(*bounds_s))
        # Other processes offer nothing to await.
        while self.num_answers() < least and not self.is_over():  # noqa: ASYNC110
            await asyncio.sleep(_TEND_S)
        return not self.is_over()

    async def _kill_replicas(self) -> None:
        """Those that have answered, while there are answers on their way: the others would only start and start."""
        while await self._pause(self.kill_s):
            alive = [replica for replica in self.replicas if replica.num_answers]
            if alive and any(upstream.num_open for upstream in self.upstreams):
                replica = self.rng.choice(alive)
                replica.kill()
                replica.start()
                self.done["API process: kill -9"] += 1

    async def tend(self, is_done: Callable[[], bool]) -> None:
        """Replicas that have ended by themselves, for as long as anybody waits for one of them."""
        while not is_done():
            for replica in self.replicas:
                replica.tend()
            await asyncio.sleep(_TEND_S)

    async def _restart_postgresql(self, server: OwnServer) -> None:
        while await self._pause(self.stop_s, _ANSWERS_BETWEEN):
            how = self.rng.choice(_STOPS)
            await asyncio.to_thread(server.stop, how)
            await asyncio.sleep(self.rng.uniform(0.0, 2.0))
            await asyncio.to_thread(server.start)
            self.done[f"PostgreSQL: {how.name}"] += 1

    async def _restart_redis(self, server: RedisServer) -> None:
        while await self._pause(self.stop_s, _ANSWERS_BETWEEN):
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(self.rng.uniform(0.0, 2.0))
            await asyncio.to_thread(server.start)
            self.done["Redis: kill -9"] += 1
