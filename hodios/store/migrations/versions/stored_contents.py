"""What was asked and answered, of keys whose policy says that it is stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "contents",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=True),
        sa.Column("user", sa.Text, nullable=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("is_request_cut", sa.Boolean, nullable=False),
        sa.Column("is_answer_cut", sa.Boolean, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_contents"),
    )
    op.create_index("ix_contents_at_s", "contents", ["at_s"])
    is_known = sa.text('"user" IS NOT NULL')
    op.create_index("ix_contents_user", "contents", ["user"], sqlite_where=is_known, postgresql_where=is_known)


def downgrade() -> None:
    op.drop_table("contents")
