"""Requests are found by their status, and counted where somebody's filter has stopped them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = ("hourly", "hourly_users")
_COLUMN = "num_filtered"


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column(_COLUMN, sa.BigInteger, nullable=False, server_default="0"))
    is_unusual = sa.text("status != 200")
    op.create_index(
        "ix_requests_status",
        "requests",
        ["status", "at_s", "request_id"],
        sqlite_where=is_unusual,
        postgresql_where=is_unusual,
    )


def downgrade() -> None:
    op.drop_index("ix_requests_status", "requests")
    for table in _TABLES:
        op.drop_column(table, _COLUMN)
