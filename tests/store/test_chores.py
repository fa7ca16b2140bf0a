"""A chore is one process's at a time, is taken over from those that are gone, and done as often as it is due."""

from __future__ import annotations

import asyncio

from hodios.store.chores import CLAIM_S, Chore, Ended
from hodios.store.database import Database


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def two(database: Database) -> tuple[Chore, Chore, Clock]:
    clock = Clock()
    return Chore(database, "c", "a", clock_s=clock), Chore(database, "c", "b", clock_s=clock), clock


async def test_one_at_a_time_has_it(database: Database) -> None:
    clock = Clock()
    others = [Chore(database, "c", f"p{number}", clock_s=clock) for number in range(8)]
    claimed = await asyncio.gather(*(other.claim() for other in others))
    assert sorted(claimed) == [False] * 7 + [True]
    assert not await others[claimed.index(True)].claim(), "not twice either"


async def test_it_is_done_as_often_as_it_is_due(database: Database) -> None:
    first, second, clock = two(database)
    assert await first.ended() is None
    assert await first.claim(100)
    await first.end(7)
    assert await second.ended() == Ended(clock.now_s, 7)
    clock.now_s += 99
    assert not await second.claim(100)
    clock.now_s += 1
    assert await second.claim(100)


async def test_who_is_gone_loses_it(database: Database) -> None:
    first, second, clock = two(database)
    assert await first.claim()
    clock.now_s += CLAIM_S - 1
    assert await database.write(first.hold)
    clock.now_s += CLAIM_S - 1
    assert not await second.claim()
    clock.now_s += 1
    assert await second.claim()
    assert not await database.write(first.hold)
    await first.end(1)
    assert await first.ended() is None
    await second.end(2)
    assert await first.ended() == Ended(clock.now_s, 2)


async def test_chores_do_not_know_each_other(database: Database) -> None:
    first, _, clock = two(database)
    other = Chore(database, "d", "b", clock_s=clock)
    assert [await first.claim(), await other.claim()] == [True, True]
