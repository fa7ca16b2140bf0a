"""The one way to the database: SQLite in a file, or PostgreSQL. Runs transactions whole, and again where they collide.

SQLite writes ahead (WAL) and waits for the disk at each commit; one transaction writes at a time, and those that read
do not wait for it. Nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy import Connection, Table, event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hodios.errors import ConfigError
from hodios.store.failures import StoreUnavailable

T = TypeVar("T")
Insert = postgresql.Insert | sqlite.Insert
MOST_TRIES = 8
"""Of a transaction that the database refuses because of others that run at the same time."""
TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.005
_NUM_CONNECTIONS = 10
_COLLISIONS = ("40001", "40P01")
"""SQLSTATE of serialization failures and deadlocks: https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # Others forget what they have told the ledger as soon as it is committed: it has to be on the disk by then.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)
_OLDEST_SQLITE = (3, 35)
"""The first one whose INSERT says what it has inserted."""
_OWN_FAULTS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


class Database:
    """Of one process. `open` makes it; nothing is connected before the first transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self.is_sqlite else nullcontext()

    @classmethod
    def open(cls, url: str, *, timeout_s: float = TIMEOUT_S) -> Database:
        """`url` as `store_settings.url` accepts it. After `timeout_s` without an answer the database counts as down.
        Raises ConfigError where SQLite is too old."""
        if urlsplit(url).scheme == "sqlite":
            return cls(_open_sqlite(_path_in(url), timeout_s))

        async def connect() -> Any:
            # The driver reads the URL itself, so that it may say all that PostgreSQL's own programs understand.
            return await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s)

        return cls(
            create_async_engine(
                "postgresql+asyncpg://",
                async_creator=connect,
                pool_size=_NUM_CONNECTIONS,
                max_overflow=0,
                pool_timeout=timeout_s,
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
            )
        )

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, in a transaction that changes nothing. Raises StoreUnavailable."""
        return await self._run(work, is_writing=False)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, once all that it did is committed, and nothing of it where it raises. Runs `work` again
        where it collides with others. A caller who is cancelled does not stop it. Raises StoreUnavailable.
        """
        return await asyncio.shield(self._write(work))

    async def close(self) -> None:
        await self.engine.dispose()

    def insert(self, table: Table) -> Insert:
        """An INSERT that can say what happens to rows that are there already."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._turn:
            for number in range(MOST_TRIES):
                try:
                    return await self._run(work, is_writing=True)
                except exc.DBAPIError as error:
                    if not _is_collision(error) or number + 1 == MOST_TRIES:
                        raise
                await asyncio.sleep(_FIRST_PAUSE_S * 2**number)
        raise AssertionError("the last try returns or raises")

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]], *, is_writing: bool) -> T:
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(is_writing=is_writing)
                async with connection.begin():
                    return await work(connection)
        except exc.DBAPIError as error:
            if isinstance(error, _OWN_FAULTS) or _is_collision(error):
                raise
            raise StoreUnavailable(str(error.orig)) from error
        except (exc.TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error


def _open_sqlite(path: Path, timeout_s: float) -> AsyncEngine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old: Hodios needs {'.'.join(map(str, _OLDEST_SQLITE))} or newer. "
            "Take a newer Python, or set HODIOS_STORE_URL to a PostgreSQL database."
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        # Transactions begin where `_begin` says so, and not where the driver guesses.
        connect_args={"isolation_level": None, "timeout": timeout_s},
        pool_size=_NUM_CONNECTIONS,
        max_overflow=0,
        pool_timeout=timeout_s,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # One that begins to write in its middle could be refused there: those that write say so at once.
    is_writing = connection.get_execution_options().get("is_writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _path_in(url: str) -> Path:
    return Path(unquote(urlsplit(url).path)[1:])


def _is_collision(error: exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _COLLISIONS
