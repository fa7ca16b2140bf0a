"""What was used, written down: each attempt and each request once, however often it is told, and their costs in the
accounts and the hourly sums with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, Table, Text, bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hodios.store import sums
from hodios.store.database import Database
from hodios.store.leases import held_by, lock, take
from hodios.store.records import AccountId, LoggedRequest, SettledAttempt
from hodios.store.schema import accounts, attempts, hourly, hourly_users, requests

MOST_COST = 10**15
"""Nano-dollars. No answer costs a million dollars: what says so is wrong, and must not stop the ledger."""
MOST_TOKENS = 10**12
MOST_CHARACTERS = 1000
"""Of a text that a client or a provider chose."""


_TEXTS = {
    kind: [column.name for column in table.columns if isinstance(column.type, Text)]
    for kind, table in ((SettledAttempt, attempts), (LoggedRequest, requests))
}
_MOST = {"cost": MOST_COST} | dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), MOST_TOKENS)
R = TypeVar("R", SettledAttempt, LoggedRequest)


class Ledger:
    """All methods raise StoreUnavailable; whatever was made of a batch, it may be told again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settle(
        self, process: str, settled: Iterable[SettledAttempt], logged: Iterable[LoggedRequest] = ()
    ) -> list[tuple[str, int]]:
        """The costs count in their accounts from now on, and as far as leases of `process` cover them, those are used
        up. All or nothing. Returns (request id, attempt number) of the attempts that were not known before."""
        # Where a batch itself tells something twice, the first one counts, as it does between batches.
        told = {(attempt.request_id, attempt.number): attempt for attempt in reversed([*map(_clean, settled)])}
        asked = {request.request_id: request for request in reversed([*map(_clean, logged)])}

        async def work(connection: AsyncConnection) -> list[tuple[str, int]]:
            new = await self._insert(connection, attempts, [told[key] for key in sorted(told)])
            counted = [told[id, number] for id, number in new]
            await self._charge(connection, process, counted)
            new = await self._insert(connection, requests, [asked[key] for key in sorted(asked)])
            seen = [asked[id] for (id,) in new]
            await add_sums(self._database, connection, hourly, sums.of_providers(counted, seen))
            await add_sums(self._database, connection, hourly_users, sums.of_users(counted, seen))
            return [(attempt.request_id, attempt.number) for attempt in counted]

        return await self._database.write(work)

    async def _insert(
        self, connection: AsyncConnection, table: Table, records: Sequence[SettledAttempt | LoggedRequest]
    ) -> Sequence[Row[Any]]:
        """Returns the primary keys of those that were not there."""
        if not records:
            return []
        insert = self._database.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
        return (await connection.execute(insert, [*map(_row, records)])).all()

    async def _charge(self, connection: AsyncConnection, process: str, counted: Iterable[SettledAttempt]) -> None:
        costs: dict[AccountId, int] = defaultdict(int)
        for attempt in counted:
            for account in set(attempt.accounts) if attempt.cost else ():
                costs[account] += attempt.cost or 0
        if not costs:
            return
        await lock(self._database, connection, costs)
        held = await held_by(connection, process, costs)
        row = accounts.c.id == bindparam("name")
        grown = update(accounts).where(row).values(settled=accounts.c.settled + bindparam("cost"))
        await connection.execute(grown, [{"name": str(account), "cost": cost} for account, cost in costs.items()])
        await take(connection, process, {account: min(costs[account], held[account]) for account in held})


async def add_sums(
    database: Database, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Rows of `hourly` or `hourly_users`, to what is there already."""
    if rows:
        insert = database.insert(table)
        added = {name: table.c[name] + insert.excluded[name] for name in sums.NAMES}
        await connection.execute(insert.on_conflict_do_update(index_elements=[*table.primary_key], set_=added), rows)


def _clean(record: R) -> R:
    """A record that both databases can hold: one that they refuse would hold up all that come after it."""
    changes: dict[str, object] = {}
    for name in _TEXTS[type(record)]:
        text = getattr(record, name)
        if text is not None and not (len(text) <= MOST_CHARACTERS and text.isascii() and "\0" not in text):
            changes[name] = text[:MOST_CHARACTERS].encode(errors="replace").decode().replace("\0", "\ufffd")
    for name, most in _MOST.items():
        count = getattr(record, name)
        if count is not None and not 0 <= count <= most:
            changes[name] = max(0, min(count, most))
    return msgspec.structs.replace(record, **changes) if changes else record


def _row(record: SettledAttempt | LoggedRequest) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    row.pop("accounts", None)
    return row
