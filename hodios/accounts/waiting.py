"""Where requests wait until limits let them pass: bounded, by priority, in turns among keys, up to a deadline.

Knows no limits: each who waits brings along how to try.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator

from hodios.accounts.limits import Permit, Refusal

MOST_WAITING = 1000
MOST_OF_KEY = 100
_LEAST_PAUSE_NS = 10**6
Try = Callable[[], Awaitable[Permit | Refusal]]


class Waiter:
    """One request that waits."""

    __slots__ = ("attempt", "key_id", "last", "passed", "priority")

    def __init__(self, key_id: str, priority: int, attempt: Try, last: Refusal) -> None:
        self.key_id = key_id
        self.priority = priority
        self.attempt = attempt
        self.last = last
        self.passed: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()


class WaitingQueue:
    """Higher priorities first; within one, keys take turns; within a key, first come first served."""

    def __init__(self) -> None:
        self._by_priority: dict[int, OrderedDict[str, deque[Waiter]]] = {}
        self._num_of_key: dict[str, int] = {}
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def num_of(self, key_id: str) -> int:
        return self._num_of_key.get(key_id, 0)

    def append(self, waiter: Waiter) -> None:
        keys = self._by_priority.setdefault(waiter.priority, OrderedDict())
        keys.setdefault(waiter.key_id, deque()).append(waiter)
        self._num_of_key[waiter.key_id] = self.num_of(waiter.key_id) + 1
        self._num += 1

    def heads(self) -> Iterator[Waiter]:
        """One of each key and priority, in the order in which they should try. The queue may change meanwhile."""
        for priority in sorted(self._by_priority, reverse=True):
            for key_id in list(self._by_priority.get(priority, ())):
                keys = self._by_priority.get(priority)
                if keys and key_id in keys:
                    yield keys[key_id][0]

    def pop(self, waiter: Waiter) -> None:
        """It had its turn: its key's next one comes after everybody else's."""
        self.remove(waiter)
        keys = self._by_priority.get(waiter.priority)
        if keys and waiter.key_id in keys:
            keys.move_to_end(waiter.key_id)

    def remove(self, waiter: Waiter) -> None:
        keys = self._by_priority[waiter.priority]
        keys[waiter.key_id].remove(waiter)
        self._num -= 1
        self._num_of_key[waiter.key_id] -= 1
        if not self._num_of_key[waiter.key_id]:
            del self._num_of_key[waiter.key_id]
        if not keys[waiter.key_id]:
            del keys[waiter.key_id]
        if not keys:
            del self._by_priority[waiter.priority]


class WaitingRoom:
    """One for all keys of a process. `release` takes back a permit that came too late for whoever waited."""

    def __init__(
        self,
        release: Callable[[Permit], None],
        *,
        most: int = MOST_WAITING,
        most_of_key: int = MOST_OF_KEY,
    ) -> None:
        self._release = release
        self._most = most
        self._most_of_key = most_of_key
        self._queue = WaitingQueue()
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def last_refusal(self, key_id: str) -> Refusal | None:
        """Why the first one of those who wait for this key waits; None: nobody does."""
        return next((waiter.last for waiter in self._queue.heads() if waiter.key_id == key_id), None)

    def nudge(self) -> None:
        """Something has ended, so that somebody may pass."""
        self._changed.set()

    async def wait(
        self, key_id: str, priority: int, attempt: Try, refusal: Refusal, timeout_s: float
    ) -> Permit | Refusal:
        """The permit, or why it was refused last: because time is over, or because too many wait already."""
        if len(self._queue) >= self._most or self._queue.num_of(key_id) >= self._most_of_key:
            return refusal
        waiter = Waiter(key_id, priority, attempt, refusal)
        self._queue.append(waiter)
        self.nudge()
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._pass_all())
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.passed
        except TimeoutError:
            return waiter.passed.result() if _has_passed(waiter) else waiter.last
        except asyncio.CancelledError:
            if _has_passed(waiter):
                self._release(waiter.passed.result())
            raise
        finally:
            if not _has_passed(waiter):
                waiter.passed.cancel()
                self._queue.remove(waiter)

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump

    async def _pass_all(self) -> None:
        while len(self._queue):
            self._changed.clear()
            pause_ns = await self._pass_once()
            if pause_ns is None:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause_ns, _LEAST_PAUSE_NS) / 1e9):
                    await self._changed.wait()

    async def _pass_once(self) -> int | None:
        """Each key's head tries once. Returns for how long none of them will pass; None: somebody has, try again."""
        pause_ns: int | None = None
        for waiter in self._queue.heads():
            if waiter.passed.done():
                continue
            outcome = await waiter.attempt()
            if isinstance(outcome, Refusal):
                waiter.last = outcome
                pause_ns = outcome.retry_ns if pause_ns is None else min(pause_ns, outcome.retry_ns)
            elif waiter.passed.done():
                self._release(outcome)
                return None
            else:
                self._queue.pop(waiter)
                waiter.passed.set_result(outcome)
                return None
        return pause_ns if pause_ns is not None else 0


def _has_passed(waiter: Waiter) -> bool:
    return waiter.passed.done() and not waiter.passed.cancelled()
