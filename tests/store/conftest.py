"""Databases that end with the tests: SQLite in a file, and schemas of their own in PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from postgresql_server import running

from hodios.store.connection import AsyncConnection

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hodios.store.database import Database
from hodios.store.migration import upgrade
from hodios.store.schema import metadata


async def _on_server(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _run(work: Coroutine[object, object, None]) -> None:
    """Wherever it is called from, a running loop included."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def postgresql_server(need: Callable[[str, str], str]) -> Iterator[str]:
    """The URL of its database `postgres`."""
    with ThreadPoolExecutor(1) as executor:
        server = running(need)
        url = executor.submit(server.__enter__).result()
        yield url
        executor.submit(server.__exit__, None, None, None).result()


@pytest.fixture(scope="session")
def new_postgresql(postgresql_server: str) -> Iterator[Callable[[], str]]:
    """Makes an empty schema and returns the URL with which it is the only one."""
    names = []

    def make() -> str:
        names.append(f"hodios_test_{uuid.uuid4().hex}")
        _run(_on_server(postgresql_server, f"CREATE SCHEMA {names[-1]}"))
        return f"{postgresql_server}?search_path={names[-1]}"

    yield make
    for name in names:
        _run(_on_server(postgresql_server, f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture(scope="session")
def postgresql_url(new_postgresql: Callable[[], str]) -> str:
    """With the tables, for all tests, which empty them."""
    url = new_postgresql()

    async def prepare() -> None:
        database = Database.open(url)
        await upgrade(database)
        await database.close()

    _run(prepare())
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
async def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database with the tables, and nothing in them."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/hodios.db"
        database = Database.open(url)
        await upgrade(database)
    else:
        url = request.getfixturevalue("postgresql_url")
        database = Database.open(url)
        await database.write(_empty)
    await database.close()
    return url


@pytest.fixture
async def database(store_url: str) -> AsyncIterator[Database]:
    opened = Database.open(store_url)
    yield opened
    await opened.close()


async def _empty(connection: AsyncConnection) -> None:
    for table in reversed(metadata.sorted_tables):
        await connection.execute(table.delete())
