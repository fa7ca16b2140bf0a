"""Work that one process at a time does for all that share the store: who has it, and how it ended last.

Whoever has a chore has it for CLAIM_S, and says so anew with each step; so a process that dies does not keep it. Clocks
of machines that share a store have to agree to within that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import or_, select, update

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.schema import chores

CLAIM_S = 120.0


class Ended(Struct, frozen=True):
    """How a chore ended last, whoever did it."""

    at_s: float
    num_rows: int


class Chore:
    """One of them, as the process `holder` does it. All methods raise StoreUnavailable."""

    def __init__(self, database: Database, name: str, holder: str, *, clock_s: Callable[[], float] = time.time) -> None:
        self._database = database
        self._name = name
        self._holder = holder
        self._clock_s = clock_s

    async def claim(self, every_s: float = 0.0) -> bool:
        """Whether it is this process's from now on: nobody else is at it, and it ended `every_s` ago or longer."""
        now_s = self._clock_s()
        is_free = or_(chores.c.holder.is_(None), chores.c.until_s <= now_s)
        is_due = or_(chores.c.ended_s.is_(None), chores.c.ended_s <= now_s - every_s)
        taken = update(chores).where(chores.c.name == self._name, is_free, is_due)
        taken = taken.values(holder=self._holder, until_s=now_s + CLAIM_S)
        opened = self._database.insert(chores).values(name=self._name).on_conflict_do_nothing()

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(opened)
            return (await connection.execute(taken)).rowcount == 1

        return await self._database.write(work)

    async def hold(self, connection: AsyncConnection) -> bool:
        """Within a transaction that does a part of it: whether it is still this process's. Until that ends, nobody else
        can take it."""
        kept = update(chores).where(chores.c.name == self._name, chores.c.holder == self._holder)
        return (await connection.execute(kept.values(until_s=self._clock_s() + CLAIM_S))).rowcount == 1

    async def end(self, num_rows: int) -> None:
        """It is done. One that somebody else has taken over is his to end."""
        done = update(chores).where(chores.c.name == self._name, chores.c.holder == self._holder)
        done = done.values(holder=None, until_s=0.0, ended_s=self._clock_s(), num_rows=num_rows)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(done)

        await self._database.write(work)

    async def ended(self) -> Ended | None:
        """None where it never did."""
        query = select(chores.c.ended_s, chores.c.num_rows).where(chores.c.name == self._name)

        async def work(connection: AsyncConnection) -> Ended | None:
            row = (await connection.execute(query)).one_or_none()
            return None if row is None or row.ended_s is None else Ended(row.ended_s, row.num_rows)

        return await self._database.read(work)
