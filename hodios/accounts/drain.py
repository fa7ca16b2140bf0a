"""Brings what was settled and logged here to the store, in batches, and frees the journal once the store has it.

While the store cannot be reached, everything stays where it is and is tried again, less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

from hodios.accounts.purse import Purse
from hodios.store.failures import StoreUnavailable
from hodios.store.ledger import costs_of
from hodios.store.records import LoggedRequest, SettledAttempt

BATCH = 2000
"""Each takes the store a dozen answers, for which a busy event loop has to turn: fewer would not keep up with it."""
PAUSE_S = 0.2
"""Between batches, where there is not a whole one."""
_AT_ONCE = 32
"""Of a batch, what is freed before the event loop turns."""
BASE_RETRY_S = 0.5
MOST_RETRY_S = 30.0
Held = TypeVar("Held")
_log = logging.getLogger(__name__)


class Bookkeeper(Protocol):
    """As `store.ledger.Ledger`."""

    async def settle(
        self, process: str, settled: Sequence[SettledAttempt], logged: Sequence[LoggedRequest] = ()
    ) -> object: ...


_Item = tuple[SettledAttempt | LoggedRequest, Callable[[Any], None], Any]
"""What the store is to be told, and who is called with what once it has it."""


class Drain:
    """Of one process and one event loop. `rng` spreads the tries of several processes."""

    def __init__(
        self, process: str, bookkeeper: Bookkeeper, purse: Purse, rng: random.Random, *, pause_s: float = PAUSE_S
    ) -> None:
        self._process = process
        self._bookkeeper = bookkeeper
        self._purse = purse
        self._rng = rng
        self._pause_s = pause_s
        self._waiting: deque[_Item] = deque()
        self._came = asyncio.Event()
        self.num_failures = 0
        """In a row."""

    def __len__(self) -> int:
        """What the store does not have yet."""
        return len(self._waiting)

    def add(self, record: SettledAttempt | LoggedRequest, forget: Callable[[Held], None], held: Held) -> None:
        """`forget` is called once the store has it, with what is `held` for it until then."""
        self._waiting.append((record, forget, held))
        if not self._came.is_set():
            self._came.set()

    async def step(self) -> float:
        """Waits for a batch and passes it on. Returns for how many seconds to leave the store alone."""
        if len(self._waiting) < BATCH:
            self._came.clear()
            if not self._waiting:
                await self._came.wait()
            await asyncio.sleep(self._pause_s)
        return 0.0 if await self.pass_on() else self._retry_s()

    async def flush(self, timeout_s: float) -> bool:
        """Whether the store has everything before that time is over. Not beside `step`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._waiting and await self.pass_on():
                    pass
        return not self._waiting

    async def pass_on(self) -> bool:
        """One batch, and one at a time. Whether the store has it now."""
        batch = list(islice(self._waiting, BATCH))
        if not batch:
            return True
        attempts = [record for record, _, _ in batch if isinstance(record, SettledAttempt)]
        requests = [record for record, _, _ in batch if isinstance(record, LoggedRequest)]
        try:
            async with self._purse.settling(costs_of(attempts)):
                await self._bookkeeper.settle(self._process, attempts, requests)
        except StoreUnavailable as error:
            if not self.num_failures:
                _log.warning(
                    "the store cannot be reached (%s): what was used is kept in the journal until it can", error
                )
            self.num_failures += 1
            return False
        if self.num_failures:
            _log.warning("the store can be reached again")
        self.num_failures = 0
        await self._forget(batch)
        return True

    async def _forget(self, batch: Sequence[_Item]) -> None:
        """Requests that are under way come in between. What the store has is told to nobody again, even where this is
        cancelled: the purse has counted it."""
        for _ in batch:
            self._waiting.popleft()
        left = iter(batch)
        try:
            for number, (_, forget, held) in enumerate(left, start=1):
                forget(held)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            for _, forget, held in left:
                forget(held)

    def _retry_s(self) -> float:
        longest = min(MOST_RETRY_S, BASE_RETRY_S * 2.0 ** min(self.num_failures - 1, 16))
        return longest * (0.5 + self._rng.random() / 2)
