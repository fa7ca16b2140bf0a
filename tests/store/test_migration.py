"""Both databases get the same tables, step by step, and lose them again."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from hodios.store import migrations
from hodios.store.database import Database
from hodios.store.migration import differences, downgrade, upgrade
from hodios.store.revision import NEEDED, current, is_needed


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/hodios.db"
    make: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return make()


async def tables_in(database: Database) -> set[str]:
    return await database.read(lambda c: c.run_sync(lambda sync: set(inspect(sync).get_table_names())))


async def test_an_empty_database_gets_the_tables_of_the_schema_and_loses_them(empty_url: str) -> None:
    database = Database.open(empty_url)
    assert await current(database) is None
    assert await differences(database)
    await upgrade(database)
    assert await current(database) == NEEDED
    assert await differences(database) == []
    await upgrade(database)
    await database.write(lambda connection: connection.execute(text("CREATE TABLE of_others (n INTEGER)")))
    assert await differences(database) == []
    await downgrade(database, "base")
    assert await current(database) is None
    assert await tables_in(database) == {"alembic_version", "of_others"}
    await upgrade(database)
    assert await differences(database) == []
    await database.close()


def test_what_is_needed_is_the_last_step() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    assert ScriptDirectory.from_config(config).get_current_head() == NEEDED


async def test_a_file_tells_its_revision_without_being_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "with space?" / "hodios.db"
    assert not is_needed(path)
    assert not path.parent.exists()
    database = Database.open(f"sqlite:///{quote(str(path))}")
    await upgrade(database)
    assert is_needed(path)
    await downgrade(database, "0001")
    assert not is_needed(path)
    await database.close()


async def test_processes_that_start_at_once_do_not_get_into_each_others_way(empty_url: str, tmp_path: Path) -> None:
    environment = os.environ | {"HODIOS_STORE_URL": empty_url, "HODIOS_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "hodios.cli.main", "db", "upgrade"]
    starting = (asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL) for _ in range(2))
    running = await asyncio.gather(*starting)
    assert [await process.wait() for process in running] == [0, 0]
    database = Database.open(empty_url)
    assert await current(database) == NEEDED
    await database.close()


async def test_both_databases_have_the_same_columns(database: Database) -> None:
    """What `differences` does not compare: constraints and conditions of indexes are in both, or in neither."""

    def look(sync: object) -> dict[str, object]:
        inspector = inspect(sync)
        return {
            name: (
                sorted(column["name"] for column in inspector.get_columns(name)),
                sorted(str(check["name"]) for check in inspector.get_check_constraints(name)),
                sorted(str(index["name"]) for index in inspector.get_indexes(name) if not index["unique"]),
            )
            for name in inspector.get_table_names()
        }

    found = await database.read(lambda c: c.run_sync(look))
    assert found["accounts"] == (
        ["id", "leased", "settled", "since"],
        ["ck_accounts_leased_not_negative", "ck_accounts_settled_not_negative"],
        ["ix_accounts_since"],
    )
    assert len(found) == 12
