"""What was used, written down: each attempt and each request once, however often it is told, and their costs in the
accounts and the hourly sums with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

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


_TABLES: dict[type, Table] = {SettledAttempt: attempts, LoggedRequest: requests}
_NAMES = {kind: [column.name for column in table.columns] for kind, table in _TABLES.items()}
_TEXT_NAMES = {
    kind: [column.name for column in table.columns if isinstance(column.type, Text)] for kind, table in _TABLES.items()
}
_MOST = {"cost": MOST_COST} | dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), MOST_TOKENS)
R = TypeVar("R", bound=SettledAttempt | LoggedRequest)


class Ledger:
    """All methods raise StoreUnavailable; whatever was made of a batch, it may be told again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settle(
        self, process: str, settled: Sequence[SettledAttempt], logged: Sequence[LoggedRequest] = ()
    ) -> list[tuple[str, int]]:
        """The costs count in their accounts from now on, and as far as leases of `process` cover them, those are used
        up. All or nothing. Returns (request id, attempt number) of the attempts that were not known before, in no
        order."""

        async def work(connection: AsyncConnection) -> list[tuple[str, int]]:
            told, asked = _Told(SettledAttempt, settled), _Told(LoggedRequest, logged)
            counted = told.part(await insert_new(connection, attempts, told.values))
            await self._charge(connection, process, counted.records)
            batch = sums.of_batch(
                counted.columns, asked.part(await insert_new(connection, requests, asked.values)).columns
            )
            await add(connection, hourly, sums.of_providers(batch))
            await add(connection, hourly_users, sums.of_users(batch))
            return counted.keys

        return await self._database.write(work)

    async def _charge(self, connection: AsyncConnection, process: str, counted: Iterable[SettledAttempt]) -> None:
        costs = costs_of(counted)
        if not costs:
            return
        await lock(self._database, connection, costs)
        held = await held_by(connection, process, costs)
        row = accounts.c.id == bindparam("name")
        grown = update(accounts).where(row).values(settled=accounts.c.settled + bindparam("cost"))
        await connection.execute(grown, [{"name": str(account), "cost": cost} for account, cost in costs.items()])
        await take(connection, process, {account: min(costs[account], held[account]) for account in held})


class _Told(Generic[R]):
    """Records of one kind, each once: where a batch tells something twice, the first one counts, as it does between
    batches. What is done with each is done by columns, since this is the path of every request."""

    def __init__(self, kind: type[R], told: Sequence[R]) -> None:
        self.kind = kind
        self.records: Sequence[R] = told
        self._read()
        if not _is_clean(self.columns):
            self.records = [*map(_clean, told)]
            self._read()
        if len(set(self.keys)) < len(self.keys):
            first = dict(zip(reversed(self.keys), reversed(self.records), strict=True))
            self.records = list(first.values())
            self._read()

    def _read(self) -> None:
        names = _NAMES[self.kind]
        # Records have their fields in the order of the columns; what else they have comes after that.
        found = [*zip(*map(msgspec.structs.astuple, self.records), strict=True)] or [()] * len(names)
        self.values: Sequence[Sequence[Any]] = found[: len(names)]
        self.columns: dict[str, Sequence[Any]] = dict(zip(names, self.values, strict=True))
        primary: Iterable[Sequence[Any]] = (self.columns[column.name] for column in _TABLES[self.kind].primary_key)
        self.keys: list[Any] = [*zip(*primary, strict=True)]

    def part(self, keys: Iterable[tuple[Any, ...]] | None) -> _Told[R]:
        """Those that have these keys; None: all."""
        if keys is None:
            return self
        records = dict(zip(self.keys, self.records, strict=True))
        return _Told(self.kind, [records[key] for key in keys])


def costs_of(counted: Iterable[SettledAttempt]) -> dict[AccountId, int]:
    """What they cost each account, without those that they cost nothing."""
    # By identity first: attempts of a key share their accounts, and these are slow to compare.
    shared: dict[int, tuple[tuple[AccountId, ...], int]] = {}
    for attempt in counted:
        if attempt.cost:
            found = shared.get(id(attempt.accounts))
            shared[id(attempt.accounts)] = (attempt.accounts, attempt.cost + (found[1] if found else 0))
    costs: dict[AccountId, int] = defaultdict(int)
    for owed, cost in shared.values():
        for account in set(owed):
            costs[account] += cost
    return costs


def _is_clean(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Whether both databases can hold all of them as they are. Hardly any record has anything to be cleaned."""
    for name in {name for names in _TEXT_NAMES.values() for name in names} & columns.keys():
        texts = [text for text in set(columns[name]) if text]
        joined = "".join(texts)
        if not joined.isascii() or "\0" in joined or max(map(len, texts), default=0) > MOST_CHARACTERS:
            return False
    for name, most in _MOST.items():
        counts = [count for count in columns[name] if count is not None]
        if counts and not 0 <= min(counts) <= max(counts) <= most:
            return False
    return True


def _clean(record: R) -> R:
    """A record that both databases can hold: one that they refuse would hold up all that come after it."""
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


def clean_text(text: str) -> str:
    """As both databases can hold it."""
    return text[:MOST_CHARACTERS].encode(errors="replace").decode().replace("\0", "\ufffd")
