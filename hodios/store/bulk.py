"""Many rows in one statement, as text that is made once: what SQLAlchemy does for each row and each value would take
longer than all that the database does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Table

from hodios.store.connection import AsyncConnection

Row = tuple[Any, ...]
MOST_ROWS = 256
"""Of a statement, with as many columns as any table has; SQLite takes 32,766 values."""


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> list[Row]:
    """Rows of all columns, in the order of the table's; returns the primary keys of those that were not there. No key
    may come twice. In SQLite within a transaction that began to write: nobody else inserts meanwhile."""
    if not rows:
        return []
    num_keys = len(table.primary_key)
    if connection.dialect.name == "postgresql":
        text = f"{_insert(table, is_sqlite=False)} ON CONFLICT DO NOTHING RETURNING {_names(table.primary_key)}"
        return [tuple(row) for row in await connection.exec_driver_sql(text, _columns(rows))]
    known = await _known(connection, table, [row[0] for row in rows])
    new = [row for row in rows if row[:num_keys] not in known]
    for some in _portions(new):
        text = _insert(table, is_sqlite=True, num_rows=len(some))
        await connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))
    return [row[:num_keys] for row in new]


async def add(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Rows of all columns: what is not part of the primary key is a number, and is added to what is there."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_addition(table, is_sqlite=False), _columns(rows))
    else:
        await connection.exec_driver_sql(_addition(table, is_sqlite=True), list(rows))


async def _known(connection: AsyncConnection, table: Table, firsts: list[Any]) -> set[Row]:
    """Primary keys that are there and begin with one of these."""
    keys = list(table.primary_key)
    is_one = f"{_names(keys[:1])} IN (SELECT value FROM json_each(?))"
    text = f"SELECT {_names(keys)} FROM {table.name} WHERE {is_one}"
    found = await connection.exec_driver_sql(text, (msgspec.json.encode(firsts).decode(),))
    return {tuple(row) for row in found}


def _portions(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    """Many rows for each statement of SQLite's. Row by row, its thread would wait for the interpreter before each, and
    on a busy event loop that takes longer than the row. By powers of two, because each connection keeps what it has
    made of its last 128 statements: a statement for every number of rows took hundreds of megabytes."""
    at = 0
    while at < len(rows):
        num = min(MOST_ROWS, 1 << (len(rows) - at).bit_length() - 1)
        yield rows[at : at + num]
        at += num


def _columns(rows: Sequence[Row]) -> Row:
    """As PostgreSQL takes them: a list for each column."""
    return tuple(map(list, zip(*rows, strict=True)))


@lru_cache
def _addition(table: Table, *, is_sqlite: bool) -> str:
    sums = [column for column in table.columns if not column.primary_key]
    grown = (f'"{column.name}" = {table.name}."{column.name}" + excluded."{column.name}"' for column in sums)
    conflict = f"ON CONFLICT ({_names(table.primary_key)}) DO UPDATE SET {', '.join(grown)}"
    return f"{_insert(table, is_sqlite=is_sqlite)} {conflict}"


@lru_cache
def _insert(table: Table, *, is_sqlite: bool, num_rows: int = 1) -> str:
    head = f"INSERT INTO {table.name} ({_names(table.columns)})"
    if is_sqlite:
        row = f"({', '.join('?' * len(table.columns))})"
        return f"{head} VALUES {', '.join([row] * num_rows)}"
    # Imported here because most have no PostgreSQL.
    from sqlalchemy.dialects import postgresql

    # SQLAlchemy has no types for its dialects.
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    kinds = (column.type.compile(dialect=dialect) for column in table.columns)
    lists = (f"${number}::{kind}[]" for number, kind in enumerate(kinds, start=1))
    return f"{head} SELECT * FROM unnest({', '.join(lists)})"


def _names(columns: Iterable[Any]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)
