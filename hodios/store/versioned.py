"""Records that people change and processes keep in caches: every change is counted, and nobody overwrites a change that
he has not seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Integer, Select, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.failures import AlreadyStored, NotStored, StaleVersion
from hodios.store.records import KeyRecord, ProjectRecord
from hodios.store.schema import versions

R = TypeVar("R", KeyRecord, ProjectRecord)
MOST_IN_PAGE = 1000
_COUNTER = "records"
_ID = re.compile(r"[A-Za-z0-9_-]+")


class Versioned(Generic[R]):
    """The records of one table. All methods raise StoreUnavailable."""

    def __init__(self, database: Database, table: Table, kind: type[R]) -> None:
        self._database = database
        self._table = table
        self._kind: type[R] = kind

    async def create(self, record: R) -> None:
        """Raises AlreadyStored, NotStored where it belongs to something that is not there, and ValueError for
        what cannot be kept."""
        row = _row(self._table, record)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._table.insert().values(row))
            await bump(self._database, connection)

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise _told(error, record.id) from error

    async def get(self, id: str) -> R | None:
        found = await self._rows(select(self._table).where(self._table.c.id == id))
        return found[0] if found else None

    async def page(self, *, after: str = "", most: int = 100) -> list[R]:
        """In the order of ids, those behind `after`; `most` of them, no more than MOST_IN_PAGE."""
        return await self._page(after, most)

    async def _page(self, after: str, most: int, *conditions: ColumnElement[bool]) -> list[R]:
        query = select(self._table).where(self._table.c.id > after, *conditions)
        return await self._rows(query.order_by(self._table.c.id).limit(min(most, MOST_IN_PAGE)))

    async def _rows(self, query: Select[Any]) -> list[R]:
        async def work(connection: AsyncConnection) -> list[R]:
            return [self._kind(**row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)

    async def replace(self, record: R) -> R:
        """`record` as it is from now on, changed from the version that it names. Raises NotStored, StaleVersion,
        AlreadyStored where it would share with another one what has to be unique, and ValueError for what cannot be
        kept."""
        row = _row(self._table, record)
        for kept in ("id", "created_at_s", "last_used_at_s"):
            row.pop(kept, None)
        return await self.change(record.id, record.version, row)

    async def change(self, id: str, version: int, values: Mapping[str, object]) -> R:
        """As `replace`, for single columns."""
        found = self._table.c.id == id
        changed = update(self._table).where(found, self._table.c.version == version)
        changed = changed.values({**values, "version": version + 1})

        async def work(connection: AsyncConnection) -> R:
            row = (await connection.execute(changed.returning(self._table))).mappings().one_or_none()
            if row is None:
                raise await self._missing(connection, id)
            await bump(self._database, connection)
            return self._kind(**row)

        try:
            return await self._database.write(work)
        except IntegrityError as error:
            raise _told(error, id) from error

    async def delete(self, id: str) -> None:
        """Raises NotStored, and AlreadyStored where others still belong to it."""

        async def work(connection: AsyncConnection) -> None:
            gone = await connection.execute(delete(self._table).where(self._table.c.id == id))
            if not gone.rowcount:
                raise NotStored(id)
            await bump(self._database, connection)

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise AlreadyStored(f"{id} has records that belong to it") from error

    async def _missing(self, connection: AsyncConnection, id: str) -> Exception:
        row = (await connection.execute(select(self._table.c.version).where(self._table.c.id == id))).one_or_none()
        return NotStored(id) if row is None else StaleVersion(f"{id} is at version {row.version}")


async def bump(database: Database, connection: AsyncConnection) -> None:
    """Within a transaction that changes records."""
    first = database.insert(versions).values(name=_COUNTER, value=1)
    counted = first.on_conflict_do_update(index_elements=["name"], set_={"value": versions.c.value + 1})
    await connection.execute(counted)


async def version(database: Database) -> int:
    """Grows with each change of any key or project. What was read after it was asked for is at least so new."""

    async def work(connection: AsyncConnection) -> int:
        found = await connection.execute(select(versions.c.value).where(versions.c.name == _COUNTER))
        return int(found.scalar_one_or_none() or 0)

    return await database.read(work)


def _row(table: Table, record: KeyRecord | ProjectRecord) -> dict[str, Any]:
    """Raises ValueError for what one of the databases cannot hold, or accounts cannot be named after."""
    if not _ID.fullmatch(record.id):
        raise ValueError(f"id = {record.id!r} is not accepted: letters, digits, - and _.")
    row = msgspec.structs.asdict(record)
    for name, value in row.items():
        if not _is_text(value):
            raise ValueError(f"{name} = {value!r} is not accepted: text without NUL and halves of characters.")
        kind = table.c[name].type
        most = 2**63 - 1 if isinstance(kind, BigInteger) else 2**31 - 1
        if isinstance(kind, Integer) and value is not None and not -most <= value <= most:
            raise ValueError(f"{name} = {value!r} is not accepted: an integer from -{most} to {most}.")
    return row


def _is_text(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return not (isinstance(value, str) and "\0" in value)


def _told(error: IntegrityError, id: str) -> Exception:
    """Of the constraints that records have, those are foreign keys that say so."""
    if "foreign key" in str(error.orig).lower():
        return NotStored(f"what {id} belongs to")
    return AlreadyStored(id)
