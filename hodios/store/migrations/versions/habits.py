"""Requests are known by how their prompts begin, and by how long an answer they allowed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COLUMNS = ("max_tokens", "prefix")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("requests", sa.Column(name, sa.BigInteger, nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("requests", name)
