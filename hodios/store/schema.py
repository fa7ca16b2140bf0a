"""The tables, the same in both databases. How they came to be stands in `migrations`; a test holds both together.

Indexes of some rows alone stand in `partial_indexes`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

from hodios.guard_settings import GuardPolicy
from hodios.store.records import Budgets, Limits

LATENCY_BOUNDS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Slot n counts requests that took longer than bound n−1 and at most bound n; the last one those beyond all bounds."""
LATENCY_SLOTS = tuple(f"latency_{n}" for n in range(len(LATENCY_BOUNDS_S) + 1))
COUNTS = (
    "num_attempts",
    "num_failed_attempts",
    "num_unpriced",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost",
)
"""Of attempts."""
REQUEST_COUNTS = (
    "num_requests",
    "num_errors",
    "num_first_tokens",
    "latency_ms",
    "first_token_ms",
    *LATENCY_SLOTS,
    "num_filtered",
)
"""Of requests; times are sums."""
OK = 200
"""The status that nearly all requests have; those that have it are found without an index of their own."""
EVERYBODY = ""
"""Stands in roll-ups for no project, no model, no provider, and no user."""


class Json(TypeDecorator[Any]):
    """A value of `kind` as JSON text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value, type=self.kind)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _sums(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in names]


versions = Table(
    "versions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Counters that grow with each change of what others may hold in a cache."""

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("budgets", Json(Budgets), nullable=False),
    Column("limits", Json(Limits), nullable=False),
    Column("is_disabled", Boolean, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("guard", Json(GuardPolicy), nullable=False, server_default="{}"),
    Column("created_at_s", Double, nullable=False),
    Column("version", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("previous_digest", LargeBinary, unique=True),
    Column("previous_expires_at_s", Double),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("project_id", Text, ForeignKey("projects.id"), index=True),
    Column("models", Json(tuple[str, ...])),
    Column("providers", Json(tuple[str, ...])),
    Column("tools", Json(tuple[str, ...])),
    Column("budgets", Json(Budgets), nullable=False),
    Column("limits", Json(Limits), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("is_queueing", Boolean, nullable=False),
    Column("default_max_tokens", BigInteger),
    Column("expires_at_s", Double),
    Column("is_disabled", Boolean, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("content_filter", Text),
    Column("guard", Json(GuardPolicy), nullable=False, server_default="{}"),
    Column("stores_content", Boolean, nullable=False),
    Column("on_store_error", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("last_used_at_s", Double),
    Column("version", BigInteger, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("since", Date, index=True),
    *_sums("settled", "leased"),
    CheckConstraint("settled >= 0", "settled_not_negative"),
    CheckConstraint("leased >= 0", "leased_not_negative"),
)

leases = Table(
    "leases",
    metadata,
    Column("process", Text, primary_key=True),
    Column("account", Text, primary_key=True, index=True),
    *_sums("amount"),
    CheckConstraint("amount >= 0", "amount_not_negative"),
)
"""A row changes only in transactions that hold the lock of the account's row."""

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key_id", Text, nullable=False),
    Column("project_id", Text),
    Column("user", Text),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    *_sums("prompt_tokens", "cached_tokens", "completion_tokens"),
    Column("cost", BigInteger),
    Column("is_estimated", Boolean, nullable=False),
    Column("at_s", Double, nullable=False),
)
Index(None, attempts.c.at_s, attempts.c.request_id, attempts.c.number)

requests = Table(
    "requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("answer_id", Text),
    Column("key_id", Text, nullable=False),
    Column("project_id", Text),
    Column("user", Text),
    Column("wanted_model", Text, nullable=False),
    Column("model", Text),
    Column("provider", Text),
    Column("status", Integer, nullable=False),
    Column("upstream_status", Integer),
    Column("finish_reason", Text),
    Column("error_code", Text),
    Column("latency_s", Double, nullable=False),
    Column("first_token_s", Double),
    *_sums("prompt_tokens", "cached_tokens", "completion_tokens"),
    Column("cost", BigInteger),
    Column("is_streamed", Boolean, nullable=False),
    Column("is_estimated", Boolean, nullable=False),
    Column("route", LargeBinary, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("max_tokens", BigInteger),
    Column("prefix", BigInteger),
)
Index(None, requests.c.at_s, requests.c.request_id)
Index(None, requests.c.key_id, requests.c.at_s, requests.c.request_id)

hourly = Table(
    "hourly",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("project_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    *_sums(*COUNTS, *REQUEST_COUNTS),
)
"""`hour` is the Unix second with which it begins."""
Index(None, hourly.c.key_id, hourly.c.hour)
Index(None, hourly.c.project_id, hourly.c.hour)

hourly_users = Table(
    "hourly_users",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("project_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    *_sums(*COUNTS, *REQUEST_COUNTS),
)
"""Apart from `hourly`, which would have a row for nearly each request otherwise."""
Index(None, hourly_users.c.user, hourly_users.c.hour)

contents = Table(
    "contents",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("project_id", Text),
    Column("user", Text),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("is_request_cut", Boolean, nullable=False),
    Column("is_answer_cut", Boolean, nullable=False),
    Column("at_s", Double, nullable=False),
)
"""Of keys whose policy says so, and of nobody else."""
Index(None, contents.c.at_s)

chores = Table(
    "chores",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("until_s", Double, nullable=False, server_default="0"),
    Column("ended_s", Double),
    Column("num_rows", BigInteger, nullable=False, server_default="0"),
)
"""Work that one process at a time does for all."""
