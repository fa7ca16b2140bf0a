"""Keys and projects say what guards do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = ("keys", "projects")
_COLUMN = "guard"


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column(_COLUMN, sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, _COLUMN)
