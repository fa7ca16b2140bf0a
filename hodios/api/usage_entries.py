"""What was used, as objects and as JSON schemas made from them: requests in APIpie's fields, sums in OpenRouter's, and
what is left of a key's budgets. Amounts are dollars, times milliseconds, moments ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hodios.accounts.budgets import Budget, charging_of, resets_at_s
from hodios.accounts.keyring import RETRY_AFTER_S, Admitted
from hodios.api.explanation import cost_number, milliseconds
from hodios.errors import Overloaded
from hodios.money import dollar_number, dollars
from hodios.store.failures import StoreUnavailable
from hodios.store.records import AccountId, Balance, Limits, LoggedRequest
from hodios.store.reports import Dimension, Spend

T = TypeVar("T")
DIMENSIONS: Mapping[str, tuple[Dimension, str]] = {
    "day": ("day", "date"),
    "model": ("model", "model"),
    "provider": ("provider", "provider_name"),
    "key": ("key_id", "key_id"),
    "project": ("project_id", "project_id"),
    "user": ("user", "user"),
}
"""What `by=` accepts → what the sums are kept by, and the field that shows it."""
_RESETS: Mapping[str, Literal["daily", "weekly", "monthly"] | None] = {
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
    "total": None,
}


async def from_store(reading: Awaitable[T]) -> T:
    """Raises Overloaded where the store cannot be reached."""
    try:
        return await reading
    except StoreUnavailable as error:
        raise Overloaded("what was used cannot be read at the moment", retry_after=RETRY_AFTER_S) from error


def timestamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


class Query(Struct, frozen=True, kw_only=True):
    """One request as APIpie shows it, and more; what is not known here is null."""

    id: str
    username: str | None
    """On whose behalf the client asked."""
    timestamp: str
    app: str | None
    """The key's name."""
    provider: str | None
    route: str | None
    """The model that answered."""
    unit: Literal["tokens"] = "tokens"
    prompt_tokens: int
    prompt_char: None = None
    response_tokens: int
    response_char: None = None
    cost: str | None
    latency_ms: int
    source_ip: None = None
    chat_id: None = None
    key_id: str
    project_id: str | None
    model: str
    """As the client named it."""
    status: int
    error: str | None
    finish_reason: str | None
    streamed: bool
    cached_tokens: int
    time_to_first_token_ms: int | None


class QueryPage(Struct, frozen=True):
    items: list[Query]
    limit: int
    offset: int
    before: str | None
    """For the next page; null where this is the last one."""


class Activity(Struct, frozen=True, kw_only=True):
    """Sums in OpenRouter's fields, and more. Of what they are by, each has its field."""

    date: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    model_permaslug: str | UnsetType | None = UNSET
    provider_name: str | UnsetType | None = UNSET
    key_id: str | UnsetType = UNSET
    project_id: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    usage: float
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    errors: int
    filtered: int
    """Requests whose answer somebody's filter has stopped."""
    most_requests_per_hour: int | UnsetType = UNSET
    """With one key; of users alone."""
    attempts: int
    failed_attempts: int
    unpriced_attempts: int
    """Of which nobody knows the price; `usage` is without them."""
    latency_ms: int | None
    """The mean, as the next one."""
    time_to_first_token_ms: int | None


class ActivityList(Struct, frozen=True):
    data: list[Activity]


class BudgetState(Struct, frozen=True, kw_only=True):
    """Of the present period."""

    scope: Literal["key", "project"]
    period: Literal["total", "day", "week", "month"]
    limit: float
    usage: float
    remaining: float
    resets_at: str | None


class KeyState(Struct, frozen=True, kw_only=True):
    """What a key may and did spend, in OpenRouter's fields, and each budget by itself. What is under way is not yet
    among it. `limit` and the two after it are of the budget that has the least left."""

    label: str
    id: str
    project_id: str | None
    limit: float | None
    limit_remaining: float | None
    limit_reset: Literal["daily", "weekly", "monthly"] | None
    usage: float
    usage_daily: float
    usage_weekly: float
    usage_monthly: float
    expires_at: str | None
    budgets: list[BudgetState]
    rate_limits: Limits
    project_rate_limits: Limits | None


class KeyAnswer(Struct, frozen=True):
    data: KeyState


class Credits(Struct, frozen=True):
    """Of the key's own budget without a period, else of its project's."""

    total_credits: float | None
    total_usage: float


class CreditsAnswer(Struct, frozen=True):
    data: Credits


def query_of(logged: LoggedRequest, app: str | None) -> Query:
    """`app`: the name of its key."""
    return Query(
        id=logged.request_id,
        username=logged.user,
        timestamp=timestamp(logged.at_s),
        app=app,
        provider=logged.provider,
        route=logged.model,
        prompt_tokens=logged.prompt_tokens,
        response_tokens=logged.completion_tokens,
        cost=None if logged.cost is None else dollars(logged.cost),
        latency_ms=round(logged.latency_s * 1e3),
        key_id=logged.key_id,
        project_id=logged.project_id,
        model=logged.wanted_model,
        status=logged.status,
        error=logged.error_code,
        finish_reason=logged.finish_reason,
        streamed=logged.is_streamed,
        cached_tokens=logged.cached_tokens,
        time_to_first_token_ms=milliseconds(logged.first_token_s),
    )


def activity_of(spend: Spend, by: Sequence[str]) -> Activity:
    """`by`: names of DIMENSIONS, in the order of the group."""
    groups: dict[str, Any] = {DIMENSIONS[name][1]: value for name, value in zip(by, spend.group, strict=True)}
    if "date" in groups:
        groups["date"] = day_of(groups["date"])
    if "model" in groups:
        groups["model_permaslug"] = groups["model"]
    return Activity(
        **groups,
        usage=dollar_number(spend.cost),
        requests=spend.num_requests,
        prompt_tokens=spend.prompt_tokens,
        completion_tokens=spend.completion_tokens,
        cached_tokens=spend.cached_tokens,
        errors=spend.num_errors,
        filtered=spend.num_filtered,
        most_requests_per_hour=spend.most_requests if "user" in by else UNSET,
        attempts=spend.num_attempts,
        failed_attempts=spend.num_failed_attempts,
        unpriced_attempts=spend.num_unpriced,
        latency_ms=_mean(spend.latency_ms, spend.num_requests),
        time_to_first_token_ms=_mean(spend.first_token_ms, spend.num_first_tokens),
    )


def day_of(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def _mean(total: int, num: int) -> int | None:
    return round(total / num) if num else None


def accounts_of(admitted: Admitted, now_s: float) -> tuple[AccountId, ...]:
    """In which a request of now would count."""
    return charging_of(admitted.key, admitted.project, now_s).accounts


def key_of(admitted: Admitted, balances: Mapping[AccountId, Balance], now_s: float) -> KeyState:
    key = admitted.key
    charging = charging_of(key, admitted.project, now_s)
    budgets = [(budget, max(0, budget.limit - balances[budget.account].settled)) for budget in charging.budgets]
    closest, left = min(budgets, key=lambda found: found[1], default=(None, None))
    own = [account for account in charging.accounts if account.owner_kind == "key"]
    spent = {account.period: dollar_number(balances[account].settled) for account in own}
    return KeyState(
        label=key.name or key.prefix or key.id,
        id=key.id,
        project_id=key.project_id,
        limit=None if closest is None else dollar_number(closest.limit),
        limit_remaining=cost_number(left),
        limit_reset=None if closest is None else _RESETS[closest.account.period],
        usage=spent["total"],
        usage_daily=spent["day"],
        usage_weekly=spent["week"],
        usage_monthly=spent["month"],
        expires_at=None if key.expires_at_s is None else timestamp(key.expires_at_s),
        budgets=[_budget_of(budget, left, balances) for budget, left in budgets],
        rate_limits=key.limits,
        project_rate_limits=admitted.project.limits if admitted.project else None,
    )


def credits_of(admitted: Admitted, balances: Mapping[AccountId, Balance], now_s: float) -> Credits:
    charging = charging_of(admitted.key, admitted.project, now_s)
    totals = {budget.account.owner_kind: budget for budget in charging.budgets if budget.account.period == "total"}
    budget = totals.get("key") or totals.get("project")
    account = budget.account if budget else AccountId("key", admitted.key.id, "total")
    return Credits(dollar_number(budget.limit) if budget else None, dollar_number(balances[account].settled))


def _budget_of(budget: Budget, left: int, balances: Mapping[AccountId, Balance]) -> BudgetState:
    account, resets_s = budget.account, resets_at_s(budget.account)
    return BudgetState(
        scope=account.owner_kind,
        period=account.period,
        limit=dollar_number(budget.limit),
        usage=dollar_number(balances[account].settled),
        remaining=dollar_number(left),
        resets_at=None if resets_s is None else timestamp(resets_s),
    )


def usage_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (KeyAnswer, CreditsAnswer, QueryPage, ActivityList)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)
