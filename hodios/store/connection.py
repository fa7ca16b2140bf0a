"""A connection of SQLAlchemy's that is awaited, without the mapper of objects that SQLAlchemy's own one brings along:
that takes 6 MiB of each process. What it runs is what the drivers of `sqlalchemy[asyncio]` run.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, CursorResult, Dialect, Engine, Executable, ScalarResult
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


class AsyncConnection:
    """Within one transaction. Whole results come: nothing is fetched after the statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return await greenlet_spawn(self._connection.execute, statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        return await greenlet_spawn(self._connection.exec_driver_sql, statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return await greenlet_spawn(self._connection.scalar, statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        return await greenlet_spawn(self._connection.scalars, statement, parameters)

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """`work` is written as if there were no event loop, and is in nobody's way."""
        return await greenlet_spawn(work, self._connection)


class ThreadConnection(AsyncConnection):
    """One that is at work in a thread, where nobody is in the way of whoever waits for a statement."""

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.exec_driver_sql(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        return self._connection.scalars(statement, parameters)

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)


class WholeCursor(sqlite3.Cursor):
    """Takes all rows when a statement is run: whoever reads them may do so when the connection is somebody else's."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._rows: deque[Any] = deque()

    def execute(self, statement: str, parameters: Any = (), /) -> Self:
        super().execute(statement, parameters)
        self._rows = deque(super().fetchall() if self.description else ())
        return self

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows, self._rows = list(self._rows), deque()
        return rows


class WholeConnection(sqlite3.Connection):
    """Of cursors that take all rows."""

    def cursor(self, factory: Any = WholeCursor) -> Any:
        return super().cursor(factory)


def whole_transaction(engine: Engine, options: dict[str, Any], work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """All of `work` in this thread. For a database in a file: on a busy event loop each statement would wait for the
    loop to turn, and a batch of a dozen for a dozen turns. `work` awaits nothing but its connection."""
    with engine.connect() as connection:
        connection.execution_options(**options)
        with connection.begin():
            try:
                next(work(ThreadConnection(connection)).__await__())
            except StopIteration as ended:
                found: T = ended.value
                return found
            raise RuntimeError("work on a database in a file awaits nothing but its connection")


@contextlib.asynccontextmanager
async def transaction(engine: Engine, options: dict[str, Any]) -> AsyncIterator[AsyncConnection]:
    """Committed at the end of the block, and rolled back where that raises."""
    connection = await greenlet_spawn(engine.connect)
    try:
        await greenlet_spawn(connection.execution_options, **options)
        begun = await greenlet_spawn(connection.begin)
        yield AsyncConnection(connection)
        await greenlet_spawn(begun.commit)
    finally:
        # Which rolls back what was not committed.
        await _to_its_end(greenlet_spawn(connection.close))


async def dispose(engine: Engine) -> None:
    """Closes all connections that nobody uses."""
    await greenlet_spawn(engine.dispose)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Even where the caller is cancelled meanwhile: a connection that was not given back is lost to the others."""
    task = asyncio.create_task(work)
    was_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            was_cancelled = True
    task.result()
    if was_cancelled:
        raise asyncio.CancelledError
