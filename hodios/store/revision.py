"""Which form the tables have, and which one this program needs. Light to import: what changes them is `migration`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hodios.store.connection import AsyncConnection
    from hodios.store.database import Database

NEEDED = "0007"
"""By this program: the last one in `migrations/versions`."""
_TABLE = "alembic_version"
_QUERY = f"SELECT version_num FROM {_TABLE}"


async def current(database: Database) -> str | None:
    """The revision of the tables; None where there are none. Raises StoreUnavailable."""

    async def work(connection: AsyncConnection) -> str | None:
        if not await connection.run_sync(lambda sync: sync.dialect.has_table(sync, _TABLE)):
            return None
        found: str | None = (await connection.exec_driver_sql(_QUERY)).scalar_one_or_none()
        return found

    return await database.read(work)


def is_needed(path: Path) -> bool:
    """Whether the SQLite database at `path` has the tables that this program needs. Changes nothing."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(_QUERY).fetchall() == [(NEEDED,)]
    except sqlite3.Error:
        return False
