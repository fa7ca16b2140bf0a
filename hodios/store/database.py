"""The one way to the database: SQLite in a file, or PostgreSQL. Runs transactions whole, and again where they collide.

SQLite writes ahead (WAL) and waits for the disk at each commit; one transaction writes at a time, and those that read
do not wait for it. Nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL

from hodios.errors import ConfigError
from hodios.store.connection import AsyncConnection, WholeConnection, dispose, transaction, whole_transaction
from hodios.store.failures import StoreUnavailable
from hodios.store_settings import sqlite_path

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

    Insert = postgresql.Insert | sqlite.Insert

T = TypeVar("T")
MOST_TRIES = 8
"""Of a transaction that the database refuses because of others that run at the same time."""
TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.005
_NUM_CONNECTIONS = 10
_COLLISIONS = ("40001", "40P01")
"""SQLSTATE of serialization failures and deadlocks: https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_PRAGMAS = (
    # Others forget what they have told the ledger as soon as it is committed: it has to be on the disk by then.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)
_OLDEST_SQLITE = (3, 35)
"""The first one whose INSERT says what it has inserted."""


class Database:
    """Of one process. `open` makes it; nothing is connected before the first transaction, and `prepare` runs in a
    thread before it."""

    def __init__(
        self,
        engine: Engine,
        timeout_s: float,
        failures: tuple[type[Exception], ...],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`failures`: what the driver raises where it cannot connect."""
        self.engine = engine
        self._failures: tuple[type[Exception], ...] = (exc.TimeoutError, OSError, *failures)
        self._prepare = prepare
        self._is_preparing = asyncio.Lock()
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(_NUM_CONNECTIONS, "store") if self.is_sqlite else None
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(1 if self.is_sqlite else _NUM_CONNECTIONS)
        self._under_way: set[asyncio.Task[Any]] = set()

    @classmethod
    def open(cls, url: str, *, timeout_s: float = TIMEOUT_S, is_patient: bool = False) -> Database:
        """`url` as `store_settings.url` accepts it. After `timeout_s` without an answer the database counts as down;
        where `is_patient`, statements may take as long as they take. Raises ConfigError where SQLite is too old."""
        path = sqlite_path(url)
        if path is not None:
            prepare = partial(_write_ahead, path, timeout_s)
            return cls(_open_sqlite(path, timeout_s), timeout_s, (sqlite3.Error,), prepare)
        # Imported here because most have no PostgreSQL, and its driver is large.
        import asyncpg

        failures = (asyncpg.PostgresError, asyncpg.InterfaceError)
        return cls(_open_postgresql(url, timeout_s, is_patient=is_patient), timeout_s, failures)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, which changes nothing; each of its statements sees what is committed then. Raises
        StoreUnavailable."""
        return await self._run(work, is_writing=False)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `work` returns, once all that it did is committed, and nothing of it where it raises. Runs `work` again
        where it collides with others. A caller who is cancelled does not stop it. Raises StoreUnavailable, and
        SQLAlchemy's IntegrityError where `work` does what a constraint forbids.
        """
        task = asyncio.create_task(self._write(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for what is still being written."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._threads is None:
            await dispose(self.engine)
        else:
            await asyncio.to_thread(self._threads.shutdown)
            self.engine.dispose()

    def insert(self, table: Table) -> Insert:
        """An INSERT that can say what happens to rows that are there already."""
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            await asyncio.wait_for(self._turns.acquire(), self._timeout_s)
        except TimeoutError:
            raise StoreUnavailable("others have been writing for too long") from None
        try:
            return await self._until_alone(work)
        finally:
            self._turns.release()

    async def _until_alone(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        for number in range(MOST_TRIES):
            try:
                return await self._run(work, is_writing=True)
            except exc.DBAPIError as error:
                if not _is_collision(error):
                    raise
            await asyncio.sleep(_FIRST_PAUSE_S * 2**number)
        raise StoreUnavailable(f"collided with others {MOST_TRIES} times")

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]], *, is_writing: bool) -> T:
        try:
            await self._prepared()
            if self._threads is not None:
                whole = partial(whole_transaction, self.engine, self._options(is_writing), work)
                return await asyncio.get_running_loop().run_in_executor(self._threads, whole)
            async with transaction(self.engine, self._options(is_writing)) as connection:
                return await work(connection)
        except exc.DBAPIError as error:
            if isinstance(error, exc.IntegrityError) or _is_collision(error):
                raise
            raise StoreUnavailable(str(error.orig)) from error
        except self._failures as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error

    def _options(self, is_writing: bool) -> dict[str, Any]:
        # A statement that only reads needs no transaction of its own around it, and no round trips for that.
        if is_writing or self.is_sqlite:
            return {"is_writing": is_writing}
        return {"isolation_level": "AUTOCOMMIT"}

    async def _prepared(self) -> None:
        if self._prepare is not None:
            async with self._is_preparing:
                if self._prepare is not None:
                    await asyncio.to_thread(self._prepare)
                self._prepare = None


def _open_postgresql(url: str, timeout_s: float, *, is_patient: bool) -> Engine:
    import asyncpg

    async def connect() -> Any:
        # The driver reads the URL itself, so that it may say all that PostgreSQL's own programs understand.
        return await asyncpg.connect(url, timeout=timeout_s, command_timeout=None if is_patient else timeout_s)

    engine: Engine = create_engine(
        "postgresql+asyncpg://",
        creator=lambda: engine.dialect.loaded_dbapi.connect(async_creator_fn=connect),
        pool_size=_NUM_CONNECTIONS,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
    )
    return engine


def _open_sqlite(path: Path, timeout_s: float) -> Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old: Hodios needs {'.'.join(map(str, _OLDEST_SQLITE))} or newer. "
            "Take a newer Python, or set HODIOS_STORE_URL to a PostgreSQL database."
        )
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        # Transactions begin where `_begin` says so, and not where the driver guesses.
        connect_args={
            "isolation_level": None,
            "timeout": timeout_s,
            "check_same_thread": False,
            "factory": WholeConnection,
        },
        pool_size=_NUM_CONNECTIONS,
        max_overflow=0,
        pool_timeout=timeout_s,
        # Each connection keeps the statements that it has made ready: the fewer take turns, the more it finds there.
        pool_use_lifo=True,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _write_ahead(path: Path, timeout_s: float) -> None:
    """The file is there, for its owner's eyes, and for good in the mode in which those that read do not wait."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=timeout_s)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # Two that switch at once are told at once that they lock each other out, however long they would wait.
            if time.monotonic() > until_s:
                raise
        time.sleep(_FIRST_PAUSE_S)


def _set_up(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # One that begins to write in its middle could be refused there: those that write say so at once.
    if connection.get_execution_options().get("is_writing", True):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_collision(error: exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _COLLISIONS
