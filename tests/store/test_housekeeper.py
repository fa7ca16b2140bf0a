"""What is older than the settings say goes in the background, whoever of several processes comes first."""

from __future__ import annotations

import asyncio

import pytest
from store_entries import NOON_S, attempt, request

from hodios.accounts.housekeeper import EVERY_S, LOOK_S, Housekeeper, cutoffs_of
from hodios.store.database import Database
from hodios.store.failures import StoreUnavailable
from hodios.store.ledger import Ledger
from hodios.store.reports import Reports, Wanted
from hodios.store.retention import Cutoffs
from hodios.store_settings import KeepDays

DAY_S = 86400
KEEP = KeepDays(contents=1, requests=10, attempts=40)


class Clock:
    now_s = NOON_S

    def __call__(self) -> float:
        return self.now_s


def housekeeper(database: Database, clock: Clock, process: str = "a") -> Housekeeper:
    return Housekeeper(database, process, KEEP, clock_s=clock, pause_s=0)


async def fill(database: Database) -> None:
    ages = [("new", 1), ("old", 11), ("older", 41)]
    told = [attempt(id, at_s=NOON_S - days * DAY_S) for id, days in ages]
    await Ledger(database).settle("p", told, [request(id, at_s=NOON_S - days * DAY_S) for id, days in ages])


def test_days_become_moments() -> None:
    assert cutoffs_of(KeepDays(), NOON_S) == Cutoffs()
    found = cutoffs_of(KEEP, NOON_S)
    assert (found.contents_s, found.requests_s, found.sums_s) == (NOON_S - DAY_S, NOON_S - 10 * DAY_S, None)
    found = cutoffs_of(KeepDays(accounts=31, sums=36500), NOON_S)
    assert (str(found.accounts), found.sums_s) == ("2026-10-21", 0.0)


async def test_what_is_old_goes_once(database: Database) -> None:
    await fill(database)
    clock = Clock()
    one, other = housekeeper(database, clock), housekeeper(database, clock, "b")
    assert await one.step() == LOOK_S
    reports = Reports(database)
    assert [entry.request_id async for entry in reports.all_requests(Wanted())] == ["new"]
    assert [entry.request_id async for entry in reports.all_attempts(Wanted())] == ["old", "new"]
    assert dict(one.figures().num_deleted) == {"contents": 0, "requests": 2, "attempts": 1}
    await other.step()
    assert other.figures().num_deleted == {}
    assert other.figures().ended == one.figures().ended
    clock.now_s += 40 * DAY_S
    await asyncio.gather(one.step(), other.step())
    assert [entry.request_id async for entry in reports.all_requests(Wanted())] == []
    assert sum(keeper.figures().num_deleted.get("requests", 0) for keeper in (one, other)) == 3


async def test_it_is_done_once_in_a_while(database: Database) -> None:
    clock = Clock()
    keeper = housekeeper(database, clock)
    assert await keeper.clean(EVERY_S) is not None
    clock.now_s += EVERY_S - 1
    assert await keeper.clean(EVERY_S) is None
    clock.now_s += 1
    assert await keeper.clean(EVERY_S) is not None


async def test_who_was_thought_dead_stops(database: Database) -> None:
    await fill(database)
    clock = Clock()
    keeper, other = housekeeper(database, clock), housekeeper(database, clock, "b")
    assert await keeper._chore.claim()
    clock.now_s += 3600
    assert await other._chore.claim()
    assert await keeper._retention.purge(cutoffs_of(KEEP, NOON_S)) == {"contents": 0, "requests": 0, "attempts": 0}
    assert len((await Reports(database).page(Wanted())).requests) == 3


async def test_a_store_that_is_away_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = housekeeper(database, Clock())

    async def away(every_s: float = 0.0) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(keeper._chore, "claim", away)
    assert await keeper.step() == LOOK_S
    assert keeper.figures().is_failing
    monkeypatch.undo()
    await keeper.step()
    assert not keeper.figures().is_failing
    assert keeper.figures().ended is not None
