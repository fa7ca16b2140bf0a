"""The first tables: keys and projects, accounts and leases, attempts, requests, and hourly sums."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUM_SLOTS = 10
_COUNTS = (
    "num_attempts",
    "num_failed_attempts",
    "num_unpriced",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost",
    "num_requests",
    "num_errors",
    "num_first_tokens",
    "latency_ms",
    "first_token_ms",
    *(f"latency_{slot}" for slot in range(_NUM_SLOTS)),
)


def upgrade() -> None:
    op.create_table("versions", _text("name"), _column("value", sa.BigInteger), _primary("versions", "name"))
    _create_projects()
    _create_keys()
    _create_accounts()
    _create_attempts()
    _create_requests()
    for table, last in (("hourly", ("model", "provider")), ("hourly_users", ("user",))):
        keys = ("project_id", "key_id", *last)
        texts = [_text(name) for name in keys]
        hour = sa.Column("hour", sa.BigInteger, nullable=False, autoincrement=False)
        op.create_table(table, hour, *texts, *map(_sum, _COUNTS), _primary(table, "hour", *keys))
    _index("hourly", "key_id", "hour")
    _index("hourly", "project_id", "hour")
    _index("hourly_users", "user", "hour")


def downgrade() -> None:
    tables = ("hourly_users", "hourly", "requests", "attempts", "leases", "accounts", "keys", "projects", "versions")
    for table in tables:
        op.drop_table(table)


def _create_projects() -> None:
    op.create_table(
        "projects",
        _text("id"),
        _text("name"),
        _text("budgets"),
        _text("limits"),
        _column("is_disabled", sa.Boolean),
        _text("metadata"),
        _column("created_at_s", sa.Double),
        _column("version", sa.BigInteger),
        _primary("projects", "id"),
    )


def _create_keys() -> None:
    op.create_table(
        "keys",
        _text("id"),
        _text("prefix"),
        _column("digest", sa.LargeBinary),
        _column("previous_digest", sa.LargeBinary, nullable=True),
        _column("previous_expires_at_s", sa.Double, nullable=True),
        _text("name"),
        _text("owner"),
        _text("project_id", nullable=True),
        _text("models", nullable=True),
        _text("providers", nullable=True),
        _text("budgets"),
        _text("limits"),
        _column("priority", sa.Integer),
        _column("is_queueing", sa.Boolean),
        _column("default_max_tokens", sa.BigInteger, nullable=True),
        _column("expires_at_s", sa.Double, nullable=True),
        _column("is_disabled", sa.Boolean),
        _text("metadata"),
        _text("content_filter", nullable=True),
        _column("stores_content", sa.Boolean),
        _text("on_store_error"),
        _column("created_at_s", sa.Double),
        _column("last_used_at_s", sa.Double, nullable=True),
        _column("version", sa.BigInteger),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_keys_project_id"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        sa.UniqueConstraint("previous_digest", name="uq_keys_previous_digest"),
        _primary("keys", "id"),
    )
    _index("keys", "project_id")


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        _text("id"),
        _column("since", sa.Date, nullable=True),
        _sum("settled"),
        _sum("leased"),
        sa.CheckConstraint("settled >= 0", op.f("ck_accounts_settled_not_negative")),
        sa.CheckConstraint("leased >= 0", op.f("ck_accounts_leased_not_negative")),
        _primary("accounts", "id"),
    )
    _index("accounts", "since")
    op.create_table(
        "leases",
        _text("process"),
        _text("account"),
        _sum("amount"),
        sa.CheckConstraint("amount >= 0", op.f("ck_leases_amount_not_negative")),
        _primary("leases", "process", "account"),
    )
    _index("leases", "account")


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        _text("request_id"),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        _text("key_id"),
        _text("project_id", nullable=True),
        _text("user", nullable=True),
        _text("model"),
        _text("provider"),
        _text("outcome"),
        *_tokens(),
        _column("cost", sa.BigInteger, nullable=True),
        _column("is_estimated", sa.Boolean),
        _column("at_s", sa.Double),
        _primary("attempts", "request_id", "number"),
    )
    _index("attempts", "at_s", "request_id", "number")
    _index("attempts", "user", "at_s", "request_id", "number", where="user")


def _create_requests() -> None:
    op.create_table(
        "requests",
        _text("request_id"),
        _text("answer_id", nullable=True),
        _text("key_id"),
        _text("project_id", nullable=True),
        _text("user", nullable=True),
        _text("wanted_model"),
        _text("model", nullable=True),
        _text("provider", nullable=True),
        _column("status", sa.Integer),
        _column("upstream_status", sa.Integer, nullable=True),
        _text("finish_reason", nullable=True),
        _text("error_code", nullable=True),
        _column("latency_s", sa.Double),
        _column("first_token_s", sa.Double, nullable=True),
        *_tokens(),
        _column("cost", sa.BigInteger, nullable=True),
        _column("is_streamed", sa.Boolean),
        _column("is_estimated", sa.Boolean),
        _column("route", sa.LargeBinary),
        _column("at_s", sa.Double),
        _primary("requests", "request_id"),
    )
    _index("requests", "at_s", "request_id")
    _index("requests", "key_id", "at_s", "request_id")
    _index("requests", "at_s", "request_id", where="error_code", name="ix_requests_errors")
    _index("requests", "answer_id", where="answer_id")
    for name in ("project_id", "user", "model", "provider"):
        _index("requests", name, "at_s", "request_id", where=name)


def _column(name: str, kind: Any, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _sum(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _tokens() -> list[sa.Column[Any]]:
    return [_sum(name) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")]


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _index(table: str, *columns: str, where: str | None = None, name: str | None = None) -> None:
    """`where`: a column; rows in which it is null are left out."""
    condition = None if where is None else sa.text(f'"{where}" IS NOT NULL')
    found = name or f"ix_{table}_{'_'.join(columns)}"
    op.create_index(found, table, columns, sqlite_where=condition, postgresql_where=condition)
