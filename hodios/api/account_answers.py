"""What is shown of keys and projects: as objects, and as JSON schemas made from them. Nothing here knows a key's text
but the answer to its making. Amounts are dollars as exact decimals, in strings; times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.accounts.registry import Spending
from hodios.api.guard_fields import guard_values
from hodios.guard_settings import Action, Bar, WhenDown
from hodios.money import dollars
from hodios.store.records import Budgets, KeyRecord, ProjectRecord


class BudgetAmounts(Struct, frozen=True):
    """As requests write them; null: no budget."""

    total: str | None
    daily: str | None
    weekly: str | None
    monthly: str | None


class PeriodUsage(Struct, frozen=True):
    """Of the present period, without what is still under way."""

    spent: str
    left: str | None
    """null: there is no budget."""
    resets_at: datetime | None
    """null: never."""


class AccountUsage(Struct, frozen=True):
    total: PeriodUsage
    daily: PeriodUsage
    weekly: PeriodUsage
    monthly: PeriodUsage


class _Shared(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    budget: BudgetAmounts
    usage: AccountUsage
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_requests: int | None
    disabled: bool
    metadata: dict[str, str]
    guard_prompt: Action | None
    guard_answer: Action | None
    guard_when_down: WhenDown | None
    guard_flag_at: dict[str, Bar]
    guard_block_at: dict[str, Bar]
    created_at: datetime
    version: int


class ProjectDetails(_Shared, frozen=True, kw_only=True):
    object: Literal["project"] = "project"


class KeyDetails(_Shared, frozen=True, kw_only=True):
    prefix: str
    """By which people know it."""
    owner: str
    project: str | None
    models: list[str] | None
    providers: list[str] | None
    tools: list[str] | None
    priority: int
    queue: bool
    default_max_tokens: int | None
    expires_at: datetime | None
    content_filter: str | None
    store_content: bool
    on_store_error: Literal["open", "closed"]
    last_used_at: datetime | None
    previous_expires_at: datetime | None
    """Until when the text before the last rotation is good."""
    object: Literal["key"] = "key"


class KeyWithText(KeyDetails, frozen=True, kw_only=True):
    key: str
    """Shown this once."""


class KeyList(Struct, frozen=True):
    data: list[KeyDetails]
    has_more: bool
    last_id: str | None
    """For `after` of the next page."""
    object: Literal["list"] = "list"


class ProjectList(Struct, frozen=True):
    data: list[ProjectDetails]
    has_more: bool
    last_id: str | None
    object: Literal["list"] = "list"


class Deleted(Struct, frozen=True):
    id: str
    object: Literal["key", "project"]
    deleted: bool = True


def key_details(record: KeyRecord, spending: Mapping[str, Spending]) -> KeyDetails:
    return KeyDetails(**_key_values(record, spending))


def key_with_text(record: KeyRecord, spending: Mapping[str, Spending], text: str) -> KeyWithText:
    return KeyWithText(**_key_values(record, spending), key=text)


def project_details(record: ProjectRecord, spending: Mapping[str, Spending]) -> ProjectDetails:
    return ProjectDetails(**_shared_values(record, spending))


def account_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (KeyDetails, KeyWithText, KeyList, ProjectDetails, ProjectList, Deleted)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)


def _key_values(record: KeyRecord, spending: Mapping[str, Spending]) -> dict[str, Any]:
    return {
        **_shared_values(record, spending),
        "prefix": record.prefix,
        "owner": record.owner,
        "project": record.project_id,
        "models": None if record.models is None else list(record.models),
        "providers": None if record.providers is None else list(record.providers),
        "tools": None if record.tools is None else list(record.tools),
        "priority": record.priority,
        "queue": record.is_queueing,
        "default_max_tokens": record.default_max_tokens,
        "expires_at": _time(record.expires_at_s),
        "content_filter": record.content_filter,
        "store_content": record.stores_content,
        "on_store_error": record.on_store_error,
        "last_used_at": _time(record.last_used_at_s),
        "previous_expires_at": _time(record.previous_expires_at_s),
    }


def _shared_values(record: KeyRecord | ProjectRecord, spending: Mapping[str, Spending]) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "budget": BudgetAmounts(**{name: _amount(limit) for name, limit in _by_period(record.budgets).items()}),
        "usage": AccountUsage(**{name: _usage(spending[name]) for name in _by_period(record.budgets)}),
        "requests_per_minute": record.limits.requests_per_minute,
        "tokens_per_minute": record.limits.tokens_per_minute,
        "parallel_requests": record.limits.parallel_requests,
        "disabled": record.is_disabled,
        "metadata": record.metadata,
        **guard_values(record.guard),
        "created_at": _time(record.created_at_s),
        "version": record.version,
    }


def _by_period(budgets: Budgets) -> dict[str, int | None]:
    return msgspec.structs.asdict(budgets)


def _usage(spending: Spending) -> PeriodUsage:
    return PeriodUsage(dollars(spending.spent), _amount(spending.left), _time(spending.resets_at_s))


def _amount(nano: int | None) -> str | None:
    return None if nano is None else dollars(nano)


def _time(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
