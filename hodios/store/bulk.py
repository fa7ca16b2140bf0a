"""Many rows in one statement, as text that is made once: what SQLAlchemy does for each row and each value would take
longer than all that the database does. Rows are turned into columns, because what is done with a column is one step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Boolean, Column, Connection, LargeBinary, Table, Text
from sqlalchemy.exc import IntegrityError

from hodios.store.connection import AsyncConnection

Row = tuple[Any, ...]
MOST_ROWS = 32
"""Of a statement: as many as a request can wait for, where it shares a core with the store."""
_NAP_S = 0.0005


async def insert_new(connection: AsyncConnection, table: Table, columns: Sequence[Sequence[Any]]) -> list[Row] | None:
    """The values of each column, in the order of the table's; the primary key is the first of them. Returns the keys of
    those rows that were not there, None where none was. No key may come twice. Within a transaction; in SQLite one
    that began to write."""
    if not columns or not columns[0]:
        return None
    if connection.dialect.name == "postgresql":
        keys = [*zip(*columns[: len(table.primary_key)], strict=True)]
        text = f"{_insert(table, is_sqlite=False)} ON CONFLICT DO NOTHING RETURNING {_names(table.primary_key)}"
        # In the order of their keys, so that no two transactions wait for each other.
        ordered = _part(columns, sorted(range(len(keys)), key=keys.__getitem__))
        found = [tuple(row) for row in await connection.exec_driver_sql(text, tuple(ordered))]
        return None if len(found) == len(keys) else found
    return await connection.run_sync(lambda connection: _insert_new(connection, table, columns))


async def add(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Rows of all columns: what is not part of the primary key is a number, and is added to what is there."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        columns = tuple(map(list, zip(*rows, strict=True)))
        await connection.exec_driver_sql(_addition(table, is_sqlite=False), columns)
    else:
        await connection.exec_driver_sql(_addition(table, is_sqlite=True), list(rows))


def _insert_new(connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> list[Row] | None:
    """Into SQLite, as `insert_new`."""
    try:
        # Hardly ever is one of them there, and to look for each of them takes half as long as to insert it.
        with connection.begin_nested():
            _insert_all(connection, table, columns)
    except IntegrityError:
        known, num_keys = _known(connection, table, columns[0]), len(table.primary_key)
        keys = [*zip(*columns[:num_keys], strict=True)]
        new = [place for place, key in enumerate(keys) if key not in known]
        _insert_all(connection, table, _part(columns, new))
        return [keys[place] for place in new]
    return None


def _insert_all(connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
    """In SQLite's own thread, which naps between statements. The kernel leaves a thread at work on its core for a few
    milliseconds, whoever else would run there: requests that came meanwhile waited as long, each time."""
    values = [*map(_bindable, table.columns, columns)]
    for begin, end in _portions(len(columns[0])):
        if begin:
            time.sleep(_NAP_S)
        text = _insert(table, is_sqlite=True, num_rows=end - begin)
        some = zip(*(column[begin:end] for column in values), strict=True)
        connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))


def _part(columns: Sequence[Sequence[Any]], places: Sequence[int]) -> list[list[Any]]:
    """Those rows."""
    return [[column[place] for place in places] for column in columns]


def _bindable(column: Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    """Numbers and texts are passed on as they are; of all else SQLite's driver asks first whether somebody would have
    it otherwise, which takes ten times as long as the value."""
    if isinstance(column.type, LargeBinary):
        return [*map(bytearray, values)]
    if isinstance(column.type, Boolean):
        return [*map(int, values)]
    if column.nullable and None in values:
        nothing = _nothing(column)
        return [nothing if value is None else value for value in values]
    return values


def _nothing(column: Column[Any]) -> int | str:
    """What stands for NULL where no value of the column can be it."""
    return 0 if isinstance(column.type, Text) else ""


def _known(connection: Connection, table: Table, firsts: Sequence[Any]) -> set[Row]:
    """Primary keys that are there and begin with one of these."""
    keys = list(table.primary_key)
    is_one = f"{_names(keys[:1])} IN (SELECT value FROM json_each(?))"
    text = f"SELECT {_names(keys)} FROM {table.name} WHERE {is_one}"
    found = connection.exec_driver_sql(text, (msgspec.json.encode(firsts).decode(),))
    return {tuple(row) for row in found}


def _portions(num_rows: int) -> Iterator[tuple[int, int]]:
    """Many rows for each statement of SQLite's. Row by row, its thread would wait for the interpreter before each, and
    on a busy event loop that takes longer than the row. By powers of two, because each connection keeps what it has
    made of its last 128 statements: a statement for every number of rows took hundreds of megabytes."""
    at = 0
    while at < num_rows:
        num = min(MOST_ROWS, 1 << (num_rows - at).bit_length() - 1)
        yield at, at + num
        at += num


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
        row = f"({', '.join(map(_place, table.columns))})"
        return f"{head} VALUES {', '.join([row] * num_rows)}"
    # Imported here because most have no PostgreSQL.
    from sqlalchemy.dialects import postgresql

    # SQLAlchemy has no types for its dialects.
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    kinds = (column.type.compile(dialect=dialect) for column in table.columns)
    lists = (f"${number}::{kind}[]" for number, kind in enumerate(kinds, start=1))
    return f"{head} SELECT * FROM unnest({', '.join(lists)})"


def _place(column: Column[Any]) -> str:
    is_optional = column.nullable and not isinstance(column.type, LargeBinary)
    return f"nullif(?, {_nothing(column)!r})" if is_optional else "?"


def _names(columns: Iterable[Any]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)
