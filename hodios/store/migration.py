"""Brings the tables to the form that this version of the program needs, or says that they do not have it.

A change of `schema` comes with a file in `migrations/versions`; tests hold both against each other.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from hodios.store.database import Database
from hodios.store.partial_indexes import whole_metadata
from hodios.store.revision import NEEDED

_FOLDER = Path(__file__).parent / "migrations"


async def upgrade(database: Database) -> None:
    """To `revision.NEEDED`, all or nothing; of several processes that do it at once, one does. Within one process it is
    done once at a time, because Alembic keeps what it is doing in globals. Raises StoreUnavailable."""
    await database.write(lambda connection: connection.run_sync(lambda sync: command.upgrade(_config(sync), NEEDED)))


async def downgrade(database: Database, revision: str) -> None:
    """To an earlier revision, or "base", which drops all tables. Raises StoreUnavailable."""
    await database.write(
        lambda connection: connection.run_sync(lambda sync: command.downgrade(_config(sync), revision))
    )


async def differences(database: Database) -> list[str]:
    """What is otherwise in the database than in `schema`. Tables of others are none of our business. Raises
    StoreUnavailable."""
    metadata = whole_metadata()

    def is_ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name in metadata.tables

    def compare(connection: Connection) -> list[str]:
        context = MigrationContext.configure(connection, opts={"include_name": is_ours})
        return [str(found) for found in compare_metadata(context, metadata)]

    return await database.read(lambda connection: connection.run_sync(compare))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
