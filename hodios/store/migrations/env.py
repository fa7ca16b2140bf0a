"""What Alembic runs: the steps that are due, on the connection that it is handed and in its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from hodios.store.schema import metadata

_LOCK = 0x686F64696F73
"""Of PostgreSQL's advisory locks: two processes that start at once do not both change the tables."""


def run() -> None:
    connection = context.config.attributes["connection"]
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    # The transaction is the caller's.
    context.run_migrations()


run()
