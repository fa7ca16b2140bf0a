"""Keys say which tools they may offer to models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("keys", sa.Column("tools", sa.Text))


def downgrade() -> None:
    op.drop_column("keys", "tools")
