"""Deletes what is older than the settings say, beside all that is served: a little at a time, and of all processes that
share the store in one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from hodios.accounts.background import repeat
from hodios.store.chores import Chore, Ended
from hodios.store.database import Database
from hodios.store.failures import StoreUnavailable
from hodios.store.retention import Cutoffs, Retention
from hodios.store_settings import KeepDays

CHORE = "retention"
FIRST_S = 60.0
"""After the start, which has enough to do."""
EVERY_S = 3600.0
LOOK_S = 300.0
"""How often each process looks whether it is due."""
_DAY_S = 86400
_log = logging.getLogger(__name__)


class Housekeeping(Struct, frozen=True, kw_only=True):
    """For health and metrics."""

    ended: Ended | None
    """The last time, whichever process it was, as far as this one knows."""
    num_deleted: Mapping[str, int]
    """Rows that this process has deleted, by table."""
    is_failing: bool
    """Whether the last try of this process came to nothing."""


class Housekeeper:
    """Of one process; `keeping` keeps it at work. `clock_s` gives Unix seconds."""

    def __init__(
        self,
        database: Database,
        process: str,
        keep: KeepDays,
        *,
        clock_s: Callable[[], float] = time.time,
        pause_s: float = 0.05,
    ) -> None:
        self._chore = Chore(database, CHORE, process, clock_s=clock_s)
        self._retention = Retention(database, pause_s=pause_s, may_go_on=self._chore.hold)
        self._keep = keep
        self._clock_s = clock_s
        self._num_deleted: Counter[str] = Counter()
        self._ended: Ended | None = None
        self._is_failing = False

    def figures(self) -> Housekeeping:
        return Housekeeping(ended=self._ended, num_deleted=dict(self._num_deleted), is_failing=self._is_failing)

    async def clean(self, every_s: float = 0.0) -> dict[str, int] | None:
        """Returns how many rows are gone, by table; None where it is not due, or another process is at it. Raises
        StoreUnavailable."""
        if not await self._chore.claim(every_s):
            return None
        gone = await self._retention.purge(cutoffs_of(self._keep, self._clock_s()))
        await self._chore.end(sum(gone.values()))
        self._num_deleted.update(gone)
        return gone

    async def step(self) -> float:
        """Returns for how many seconds that is enough."""
        try:
            await self.clean(EVERY_S)
            self._ended = await self._chore.ended()
        except StoreUnavailable as error:
            if not self._is_failing:
                _log.warning("what is old cannot be deleted now: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False
        return LOOK_S

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncGenerator[None, None]:
        """At work within the block."""

        async def run() -> None:
            await asyncio.sleep(FIRST_S)
            await repeat(self.step)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def cutoffs_of(keep: KeepDays, now_s: float) -> Cutoffs:
    def before_s(days: int | None) -> float | None:
        return None if days is None else max(0.0, now_s - days * _DAY_S)

    accounts_s = before_s(keep.accounts)
    return Cutoffs(
        contents_s=before_s(keep.contents),
        requests_s=before_s(keep.requests),
        attempts_s=before_s(keep.attempts),
        sums_s=before_s(keep.sums),
        accounts=None if accounts_s is None else datetime.fromtimestamp(accounts_s, UTC).date(),
    )
