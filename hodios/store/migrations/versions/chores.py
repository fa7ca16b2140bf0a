"""Work that one process at a time does for all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "chores",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=True),
        sa.Column("until_s", sa.Double, nullable=False, server_default="0"),
        sa.Column("ended_s", sa.Double, nullable=True),
        sa.Column("num_rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("name", name="pk_chores"),
    )


def downgrade() -> None:
    op.drop_table("chores")
