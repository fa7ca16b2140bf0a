"""Transactions are whole, collide without harm, and a database that is away is said to be away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.failures import StoreUnavailable
from hodios.store.schema import accounts, versions


async def names(database: Database) -> list[str]:
    found = await database.read(lambda connection: connection.scalars(select(versions.c.name)))
    return sorted(found)


async def test_what_raises_leaves_nothing_behind(database: Database) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(versions.insert().values(name="a", value=1))
        raise KeyError("a")

    with pytest.raises(KeyError):
        await database.write(work)
    assert await names(database) == []


async def test_who_is_cancelled_does_not_stop_what_is_under_way(database: Database) -> None:
    begun, done = threading.Event(), threading.Event()

    async def work(connection: AsyncConnection) -> None:
        begun.set()
        await connection.execute(versions.insert().values(name="a", value=1))
        done.set()

    task = asyncio.create_task(database.write(work))
    assert await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(done.wait)
    await database.write(lambda connection: connection.execute(versions.insert().values(name="b", value=1)))
    assert await names(database) == ["a", "b"]


async def test_those_that_wait_for_each_other_both_get_through(postgresql_url: str) -> None:
    """Two that take the same rows in opposite order: PostgreSQL ends one, and it is run again."""
    database = Database.open(postgresql_url)
    await database.write(lambda connection: connection.execute(accounts.delete()))
    rows = [{"id": "a"}, {"id": "b"}]
    await database.write(lambda connection: connection.execute(accounts.insert(), rows))
    num_runs = 0
    both_have_one = asyncio.Barrier(2)

    async def spend(first: str, second: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            nonlocal num_runs
            num_runs += 1
            is_anew = num_runs > 2
            for name in (first, second):
                grown = update(accounts).where(accounts.c.id == name).values(settled=accounts.c.settled + 1)
                await connection.execute(grown)
                if name == first and not is_anew:
                    await both_have_one.wait()

        await database.write(work)

    await asyncio.gather(spend("a", "b"), spend("b", "a"))
    total = await database.read(lambda connection: connection.scalar(select(func.sum(accounts.c.settled))))
    assert (total, num_runs) == (4, 3)
    await database.close()


async def test_a_server_that_drops_its_connections_is_connected_to_again(postgresql_url: str) -> None:
    database, other = Database.open(postgresql_url), Database.open(postgresql_url)

    async def number(connection: AsyncConnection) -> int | None:
        return await connection.scalar(text("SELECT pg_backend_pid()"))

    pid = await database.read(number)
    await other.read(lambda connection: connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid}))
    assert await database.read(number) != pid
    with pytest.raises(StoreUnavailable):
        await database.write(kill_itself)
    assert await database.read(number) != pid
    await database.close()
    await other.close()


async def kill_itself(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.fixture
def silent_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_server_that_is_not_there_is_unavailable(silent_port: int) -> None:
    database = Database.open(f"postgresql://127.0.0.1:{silent_port}/hodios")
    with pytest.raises(StoreUnavailable):
        await database.read(lambda connection: connection.scalar(select(1)))
    await database.close()


async def test_a_server_that_says_nothing_is_unavailable() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        database = Database.open(
            f"postgresql://127.0.0.1:{listener.getsockname()[1]}/hodios?sslmode=disable", timeout_s=0.1
        )
        with pytest.raises(StoreUnavailable):
            await database.write(lambda connection: connection.scalar(select(1)))
        await database.close()


async def test_a_wrong_name_of_the_database_is_unavailable(postgresql_server: str) -> None:
    database = Database.open(f"{postgresql_server.rpartition('/')[0]}/hodios_there_is_none")
    with pytest.raises(StoreUnavailable, match="hodios_there_is_none"):
        await database.read(lambda connection: connection.scalar(select(1)))
    await database.close()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "hodios.db").write_bytes(b"these are not the tables you are looking for" * 100)
    database = Database.open(f"sqlite:///{tmp_path}/hodios.db")
    with pytest.raises(StoreUnavailable, match="not a database"):
        await database.read(lambda connection: connection.scalar(select(1)))
    await database.close()


async def test_a_file_that_another_program_holds_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/a%20b.db", timeout_s=0.05)
    with contextlib.closing(sqlite3.connect(tmp_path / "a b.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await database.write(lambda connection: connection.scalar(select(1)))
        other.execute("ROLLBACK")
    assert await database.write(lambda connection: connection.scalar(select(1))) == 1
    await database.close()


async def test_nobody_waits_for_his_turn_without_end(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/hodios.db", timeout_s=0.05)
    begun, may_go = threading.Event(), threading.Event()

    async def hold(_: AsyncConnection) -> bool:
        begun.set()
        return may_go.wait()

    holding = asyncio.create_task(database.write(hold))
    assert await asyncio.to_thread(begun.wait)
    with pytest.raises(StoreUnavailable, match="too long"):
        await database.write(lambda connection: connection.scalar(select(1)))
    may_go.set()
    assert await holding
    assert await database.write(lambda connection: connection.scalar(select(1))) == 1
    await database.close()


async def test_work_on_a_file_awaits_nothing_but_its_connection(tmp_path: Path) -> None:
    """It runs in a thread, where there is no event loop."""
    database = Database.open(f"sqlite:///{tmp_path}/hodios.db")

    async def work(_: AsyncConnection) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="nothing but its connection"):
        await database.write(work)
    await database.close()


async def test_who_collides_again_and_again_is_told(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hodios.store.database._FIRST_PAUSE_S", 0)
    database = Database.open(postgresql_url)

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'as it is' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(StoreUnavailable, match="collided"):
        await database.write(work)
    await database.close()


async def test_many_begin_at_once_on_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    databases = [Database.open(f"sqlite:///{tmp_path}/home/hodios.db") for _ in range(3)]
    asked = (database.read(lambda connection: connection.scalar(select(1))) for database in databases * 8)
    assert await asyncio.gather(*asked) == [1] * 24
    assert (tmp_path / "home" / "hodios.db").stat().st_mode & 0o777 == 0o600
    for database in databases:
        await database.close()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    database = Database.open(f"sqlite:///{tmp_path}/home/hodios.db")
    with pytest.raises(StoreUnavailable, match="home"):
        await database.read(lambda connection: connection.scalar(select(1)))
    await database.close()


async def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/hodios.db")
    has_written, may_go = threading.Event(), threading.Event()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("CREATE TABLE something (n)"))
        has_written.set()
        may_go.wait()

    async def num_tables() -> int | None:
        return await database.read(lambda connection: connection.scalar(text("SELECT count(*) FROM sqlite_master")))

    writing = asyncio.create_task(database.write(work))
    assert await asyncio.to_thread(has_written.wait)
    assert await num_tables() == 0
    may_go.set()
    await writing
    assert await num_tables() == 1
    modes = [await database.read(lambda c, p=p: c.scalar(text(f"PRAGMA {p}"))) for p in ("journal_mode", "synchronous")]
    assert modes == ["wal", 2]
    await database.close()


async def test_who_leaves_while_he_reads_takes_nothing_along(database: Database) -> None:
    """More often than there are connections, and after any number of steps."""
    for num_steps in range(60):
        task = asyncio.create_task(names(database))
        for _ in range(num_steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await names(database) == []
