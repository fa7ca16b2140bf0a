"""What was used, written down: each attempt and each request once, however often it is told, and their costs in the
accounts and the hourly sums with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Table, Text, bindparam, update

from hodios.store import sums
from hodios.store.bulk import add, insert_new
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.leases import held_by, lock, take
from hodios.store.records import AccountId, LoggedRequest, SettledAttempt
from hodios.store.schema import accounts, attempts, hourly, hourly_users, requests

MOST_COST = 10**15
"""Nano-dollars. No answer costs a million dollars: what says so is wrong, and must not stop the ledger."""
MOST_TOKENS = 10**12
MOST_CHARACTERS = 1000
"""Of a text that a client or a provider chose."""


_TEXT_NAMES = {
    kind: [column.name for column in table.columns if isinstance(column.type, Text)]
    for kind, table in ((SettledAttempt, attempts), (LoggedRequest, requests))
}
_TEXTS = {kind: attrgetter(*names) for kind, names in _TEXT_NAMES.items()}
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
            keys = await insert_new(connection, attempts, [_row(attempts, told[key]) for key in sorted(told)])
            counted = [told[id, number] for id, number in keys]
            await self._charge(connection, process, counted)
            keys = await insert_new(connection, requests, [_row(requests, asked[id]) for id in sorted(asked)])
            batch = sums.of_batch(counted, [asked[id] for (id,) in keys])
            await add(connection, hourly, sums.of_providers(batch))
            await add(connection, hourly_users, sums.of_users(batch))
            return [(attempt.request_id, attempt.number) for attempt in counted]

        return await self._database.write(work)

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


def _clean(record: R) -> R:
    """A record that both databases can hold: one that they refuse would hold up all that come after it."""
    # Together first: hardly any record has anything to be cleaned, and each is looked at on the event loop.
    texts = "".join(filter(None, _TEXTS[type(record)](record)))
    if len(texts) <= MOST_CHARACTERS and texts.isascii() and "\0" not in texts and _has_sane_counts(record):
        return record
    changes: dict[str, object] = {}
    for name in _TEXT_NAMES[type(record)]:
        text = getattr(record, name)
        if text is not None and not (len(text) <= MOST_CHARACTERS and text.isascii() and "\0" not in text):
            changes[name] = clean_text(text)
    for name, most in _MOST.items():
        count = getattr(record, name)
        if count is not None and not 0 <= count <= most:
            changes[name] = max(0, min(count, most))
    return msgspec.structs.replace(record, **changes) if changes else record


def _has_sane_counts(record: SettledAttempt | LoggedRequest) -> bool:
    counts = (record.prompt_tokens, record.cached_tokens, record.completion_tokens)
    return min(counts) >= 0 and max(counts) <= MOST_TOKENS and 0 <= (record.cost or 0) <= MOST_COST


def clean_text(text: str) -> str:
    """As both databases can hold it."""
    return text[:MOST_CHARACTERS].encode(errors="replace").decode().replace("\0", "\ufffd")


def _row(table: Table, record: SettledAttempt | LoggedRequest) -> tuple[Any, ...]:
    """Records have their fields in the order of the columns; what is no column comes after them."""
    return msgspec.structs.astuple(record)[: len(table.columns)]
