"""What is not to be kept for ever goes, a little at a time, so that nobody waits for it; and so does a person's name
where it is to be forgotten. Money stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Delete, Select, Table, Update, bindparam, delete, select, update
from sqlalchemy.engine import RowMapping

from hodios.store.bulk import add
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.schema import EVERYBODY, accounts, attempts, contents, hourly, hourly_users, leases, requests

BATCH = 500
"""Rows that one transaction changes."""


class Cutoffs(Struct, frozen=True, kw_only=True):
    """What is older goes; None: nothing does."""

    contents_s: float | None = None
    requests_s: float | None = None
    """What was stored of their content goes with them."""
    attempts_s: float | None = None
    """An attempt that is gone can be settled again: whatever a journal may still tell has to be younger."""
    sums_s: float | None = None
    accounts: date | None = None
    """First days of periods; those of which something is leased stay."""


class Retention:
    """`pause_s` lies between any two batches; `may_go_on` is asked in the transaction of each. All methods raise
    StoreUnavailable, and may be called again."""

    def __init__(
        self,
        database: Database,
        *,
        pause_s: float = 0.01,
        batch: int = BATCH,
        may_go_on: Callable[[AsyncConnection], Awaitable[bool]] | None = None,
    ) -> None:
        self._database = database
        self._may_go_on = may_go_on
        self._pause_s = pause_s
        self._batch = batch

    async def purge(self, cutoffs: Cutoffs) -> dict[str, int]:
        """Returns how many rows are gone, by table."""
        latest_s = max((at_s for at_s in (cutoffs.contents_s, cutoffs.requests_s) if at_s is not None), default=None)
        limits = (
            (contents, contents.c.at_s, latest_s),
            (requests, requests.c.at_s, cutoffs.requests_s),
            (attempts, attempts.c.at_s, cutoffs.attempts_s),
            (hourly, hourly.c.hour, cutoffs.sums_s),
            (hourly_users, hourly_users.c.hour, cutoffs.sums_s),
        )
        gone = {}
        for table, age, limit_s in limits:
            if limit_s is not None:
                gone[table.name] = await self._delete(table, age, [age < limit_s])
        if cutoffs.accounts is not None:
            is_over = [accounts.c.since < cutoffs.accounts, accounts.c.leased == 0]
            gone[accounts.name] = await self._delete(accounts, accounts.c.since, is_over)
            gone[leases.name] = await self._delete(leases, leases.c.account, [leases.c.amount == 0])
        return gone

    async def delete_user(self, user: str, project_id: str | None = None) -> int:
        """Whoever is called so, in one project or in all: what was done on his behalf is nobody's from now on, and what
        was stored of its content is gone. What a journal still holds comes later, so it is to be done again then.
        Returns how many rows have named him."""
        if user == EVERYBODY:
            raise ValueError(f"user = {user!r} is not accepted: it must name somebody.")
        num_rows = await self._delete(contents, contents.c.request_id, _of(contents, user, project_id))
        for table in (requests, attempts):
            num_rows += await self._forget(table, _of(table, user, project_id))
        return num_rows + await self._merge(_of(hourly_users, user, project_id))

    async def _delete(self, table: Table, order: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]) -> int:
        # In order: each batch would pass over what is left of those before it otherwise.
        found = select(*table.primary_key).where(*conditions).order_by(order).limit(self._batch)
        # The conditions once more: somebody may have leased from the account in between.
        return await self._in_batches(found, delete(table).where(*_is_row(table), *conditions))

    async def _forget(self, table: Table, conditions: Sequence[ColumnElement[bool]]) -> int:
        found = select(*table.primary_key).where(*conditions).limit(self._batch)
        return await self._in_batches(found, update(table).where(*_is_row(table)).values(user=None))

    async def _in_batches(self, found: Select[Any], change: Delete | Update) -> int:
        async def work(connection: AsyncConnection) -> int:
            rows = (await connection.execute(found)).all()
            if rows:
                await connection.execute(change, [{f"key_{n}": key for n, key in enumerate(row)} for row in rows])
            return len(rows)

        return await self._repeat(work)

    async def _merge(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        """What the user has in the sums goes to what nobody has."""
        found = select(*hourly_users.primary_key).where(*conditions).limit(self._batch)
        gone = delete(hourly_users).where(*_is_row(hourly_users)).returning(hourly_users)

        async def work(connection: AsyncConnection) -> int:
            rows: list[RowMapping] = []
            for key in (await connection.execute(found)).all():
                parameters = {f"key_{n}": value for n, value in enumerate(key)}
                rows += (await connection.execute(gone, parameters)).mappings().all()
            await add(connection, hourly_users, [tuple({**row, "user": EVERYBODY}.values()) for row in rows])
            return len(rows)

        return await self._repeat(work)

    async def _repeat(self, work: Callable[[AsyncConnection], Awaitable[int]]) -> int:
        async def allowed(connection: AsyncConnection) -> int:
            if self._may_go_on is not None and not await self._may_go_on(connection):
                return 0
            return await work(connection)

        num_rows = 0
        while changed := await self._database.write(allowed):
            num_rows += changed
            await asyncio.sleep(self._pause_s)
        return num_rows


def _is_row(table: Table) -> list[ColumnElement[bool]]:
    return [column == bindparam(f"key_{n}", type_=column.type) for n, column in enumerate(table.primary_key)]


def _of(table: Table, user: str, project_id: str | None) -> list[ColumnElement[bool]]:
    is_his: list[ColumnElement[bool]] = [table.c.user == user]
    return is_his if project_id is None else [*is_his, table.c.project_id == project_id]
