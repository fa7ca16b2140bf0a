"""Requests of several processes that run into each other, over a store that takes its time, until processes are killed
between any two steps: what the kernel has of their journals is all that is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from book import Book, Fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from office import NOW_S, PRICE, Process, charging, key, project, wanted

from hodios.accounts.entries import Spent, cost_of
from hodios.accounts.estimate import LEAST_SEEN, worst_case
from hodios.accounts.replay import replay
from hodios.errors import InsufficientQuota, Overloaded
from hodios.store.failures import StoreUnavailable
from hodios.store.records import AccountId, Grant, LoggedRequest, SettledAttempt

WORST = worst_case(PRICE, 100, 200)
OWNERS = (
    (key("tight", "p", total=3 * WORST), project(weekly=7 * WORST)),
    (key("wide", "p", total=50 * WORST, daily=5 * WORST, monthly=6 * WORST), project(weekly=7 * WORST)),
    (key("alone", None, daily=4 * WORST), None),
    (key("free"), None),
)
BUDGETS = {budget.account: budget.limit for owner in OWNERS for budget in charging(*owner).budgets}
NUM_TURNS = 400
MOST_IN_PIECE = 10


class SlowBook(Book):
    """Each call waits before and after it does what it is asked, a release for what its process has asked before."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._under_way: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.dead: set[str] = set()
        """Processes that ask for nothing more."""

    @contextlib.asynccontextmanager
    async def _slowly(self) -> AsyncIterator[None]:
        for _ in range(self._rng.choice([0, 0, 1, 3, 20])):
            await asyncio.sleep(0)
        self.faults = [self._rng.choice(FAULTS)]
        yield
        for _ in range(self._rng.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)

    async def grant(self, process: str, account: AccountId, limit: int, least: int, wanted: int) -> Grant:
        if process in self.dead:
            raise StoreUnavailable("there is nobody who asks")
        over = asyncio.Event()
        self._under_way[process].add(over)
        try:
            async with self._slowly():
                return await super().grant(process, account, limit, least, wanted)
        finally:
            over.set()
            self._under_way[process].discard(over)

    async def give_back(self, process: str, account: AccountId, amount: int) -> None:
        async with self._slowly():
            await super().give_back(process, account, amount)

    async def release(self, process: str) -> None:
        for over in [*self._under_way[process]]:
            await over.wait()
        async with self._slowly():
            await super().release(process)

    async def settle(
        self, process: str, settled: Iterable[SettledAttempt], logged: Iterable[LoggedRequest] = ()
    ) -> None:
        async with self._slowly():
            await super().settle(process, settled, logged)

    def check(self) -> None:
        for account, limit in BUDGETS.items():
            assert self.settled[account] + self.leased(account) <= limit


FAULTS: list[Fault] = ["", "", "", "", "", "", "before", "after"]


class Life:
    """One process at work until it is killed."""

    def __init__(self, home: Path, book: SlowBook, name: str, rng: random.Random) -> None:
        self.process = Process(home, book)
        self._book = book
        self._name = name
        self._rng = rng
        if rng.random() < 0.7:
            # As if answers had been short: less than the worst is reserved, and grows.
            for _ in range(LEAST_SEEN):
                self.process.reservations._lengths["m"].add(10, MOST_IN_PIECE)
        works = [self._requests(at) for at in range(4)] + [self._drain(), self._give_back()]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _requests(self, at: int) -> None:
        number = 0
        while True:
            number += 1
            asking = asyncio.create_task(self._one(f"{self._name}-{at}-{number}"))
            try:
                if self._rng.random() < 0.3:
                    for _ in range(self._rng.randint(0, 30)):
                        await asyncio.sleep(0)
                    asking.cancel()
                await asyncio.wait([asking])
            finally:
                asking.cancel()
            error = None if asking.cancelled() else asking.exception()
            assert error is None or isinstance(error, InsufficientQuota | Overloaded)
            await asyncio.sleep(0)

    async def _one(self, id: str) -> None:
        """Attempts at one request, as the router makes them, one of which answers."""
        rng, reservations = self._rng, self.process.reservations
        where = charging(*rng.choice(OWNERS))
        for number in (1, 2):
            most = rng.choice([1, 50, 200])
            held = await reservations.hold(wanted(where, id, number, most=most), NOW_S)
            used, is_over = Spent(prompt_tokens=100, cached_tokens=0, completion_tokens=0), False
            try:
                while not is_over and used.completion_tokens < most:
                    more = min(rng.randint(1, MOST_IN_PIECE), most - used.completion_tokens)
                    used = Spent(prompt_tokens=100, cached_tokens=0, completion_tokens=used.completion_tokens + more)
                    is_paid = reservations.progress(held, used) or await reservations.more(held)
                    is_over = not is_paid or rng.random() < 0.1
                    await asyncio.sleep(0)
            finally:
                if used.completion_tokens or rng.random() < 0.5:
                    reservations.settle(held, "answered", used, NOW_S)
                else:
                    reservations.release(held)

    async def _drain(self) -> None:
        while True:
            await self.process.drain.pass_on()
            await asyncio.sleep(0)

    async def _give_back(self) -> None:
        while True:
            for _ in range(self._rng.randint(1, 60)):
                await asyncio.sleep(0)
            with contextlib.suppress(StoreUnavailable):
                await self.process.purse.give_back(NOW_S + 1000)

    def kill(self, home: Path) -> dict[tuple[str, int], int]:
        """Puts what the kernel has of it into `home`. Returns what its attempts have to cost that are not told yet."""
        self._book.dead.add(self.process.name)
        shutil.copytree(self.process.journal._folder, home / "journal", dirs_exist_ok=True)
        due = {}
        for name, reservation in self.process.reservations._known.items():
            if reservation.handle is not None:
                is_settled = reservation.phase == "settled"
                cost = reservation.cost if is_settled else cost_of(PRICE, reservation.spent)
                due[name] = cost or 0
        return due

    async def forget(self) -> None:
        """Nothing that it still does counts, apart from what it has asked the store for already."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.process.reservations.close()
        await self.process.purse.quiet()
        self.process.journal.close(is_done=True)


async def _replay(home: Path, book: SlowBook, rng: random.Random) -> None:
    """By several at once, of which some are broken off, until nothing is left."""
    while [*(home / "journal").iterdir()]:
        trying = [asyncio.create_task(replay(home, book, book)) for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(0, 50)):
            await asyncio.sleep(0)
        if rng.random() < 0.3:
            trying[0].cancel()
        for outcome in await asyncio.gather(*trying, return_exceptions=True):
            assert not isinstance(outcome, BaseException) or isinstance(
                outcome, StoreUnavailable | asyncio.CancelledError
            )
    await replay(home, book, book)


async def _live_and_die(home: Path, rng: random.Random) -> tuple[SlowBook, dict[tuple[str, int], int]]:
    """Returns what is written down in the end, and what attempts cost that had not been told when they were cut off."""
    book, due, num = SlowBook(rng), dict[tuple[str, int], int](), 0
    lives = [Life(home / "begun-0", book, "begun-0", rng), Life(home / "begun-1", book, "begun-1", rng)]
    async with asyncio.TaskGroup() as afterwards:
        for turn in range(NUM_TURNS):
            await asyncio.sleep(0)
            book.check()
            if rng.random() < 0.01 or turn == NUM_TURNS - 1:
                for at in [rng.randrange(2)] if turn < NUM_TURNS - 1 else range(2):
                    num += 1
                    left = home / f"left-{num}"
                    due |= lives[at].kill(left)
                    afterwards.create_task(lives[at].forget())
                    afterwards.create_task(_replay(left, book, rng))
                    if turn < NUM_TURNS - 1:
                        lives[at] = Life(home / f"begun-{num + 1}", book, f"begun-{num + 1}", rng)
    book.check()
    return book, due


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
async def test_whatever_is_cut_off_is_charged_once_and_no_budget_is_exceeded(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    book, due = await _live_and_die(tmp_path_factory.mktemp("homes"), random.Random(seed))
    told = {name: attempt.cost for name, attempt in book.attempts.items()}
    assert told | due == told
    sums: Counter[AccountId] = Counter()
    for attempt in book.attempts.values():
        used = Spent(prompt_tokens=100, cached_tokens=0, completion_tokens=attempt.completion_tokens)
        assert attempt.cost == cost_of(PRICE, used)
        for account in attempt.accounts:
            sums[account] += attempt.cost or 0
    assert +Counter(book.settled) == +sums
    assert not any(book.leases.values())
