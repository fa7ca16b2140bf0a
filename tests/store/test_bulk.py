"""Many rows at once: all of them, by statements of which there are few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from hodios.store.bulk import MOST_ROWS, Row, insert_new
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.migration import upgrade
from hodios.store.schema import contents


@pytest.fixture
def texts() -> set[str]:
    """Of the statements that insert."""
    return set()


@pytest.fixture
async def sqlite(tmp_path: Path, texts: set[str]) -> AsyncIterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/hodios.db")
    await upgrade(database)

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, text: str, *_: object) -> None:
        if text.startswith("INSERT"):
            texts.add(text)

    yield database
    await database.close()


def row(number: int) -> Row:
    return (f"r{number}", "k", None, None, b"", b"", False, False, 0.0)


async def test_any_number_of_rows_takes_few_statements(sqlite: Database, texts: set[str]) -> None:
    """Each connection keeps what it has made of them ready, which takes memory by the number of rows."""

    async def told(rows: list[Row]) -> list[Row] | None:
        return await sqlite.write(lambda connection: insert_new(connection, contents, [*zip(*rows, strict=True)]))

    num_rows = 0
    for num in (*range(40), MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 3 * MOST_ROWS + 100):
        new = [row(number) for number in range(num_rows, num_rows + num)]
        old = [row(0)] if num_rows else []
        assert await told([*new, *old]) == ([each[:1] for each in new] if old else None)
        num_rows += num
    assert len(texts) == MOST_ROWS.bit_length()

    async def count(connection: AsyncConnection) -> int | None:
        return (await connection.execute(select(func.count()).select_from(contents))).scalar()

    assert await sqlite.read(count) == num_rows
