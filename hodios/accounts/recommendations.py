"""What traffic suggests: who would do the same for less, or sooner, whose budget is nearly spent, and what the newest
requests could do better."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from hodios.accounts.advice_of_habits import LEAST_ALLOWED, LEAST_BEGUN, of_allowances, of_beginnings
from hodios.accounts.recommendation import Prices, Recommendation
from hodios.accounts.registry import MOST_IN_PAGE, Registry, Spending
from hodios.money import charge_of, dollars
from hodios.store.database import Database
from hodios.store.habits import Habits
from hodios.store.records import KeyRecord, OwnerKind, ProjectRecord
from hodios.store.reports import Chosen, Dimension, Reports, Spend
from hodios.types import Price

SPAN_S = 30 * 86400.0
BY: tuple[Dimension, ...] = ("model", "provider")
LEAST_SAVING = 10_000_000
"""Nano-dollars, a cent: nobody changes providers for less."""
LEAST_SAVED_SHARE = 0.05
LEAST_REQUESTS = 50
"""Before a provider's speed is known well enough to recommend another one, or it."""
FASTER_SHARE = 0.7
"""Of the time that an answer takes now."""
SPENT_SHARE = 0.8
_SPANS = {"total": "", "daily": " of today", "weekly": " of this week", "monthly": " of this month"}


class BudgetUse(Struct, frozen=True):
    """What is spent of one budget in its present period."""

    owner_kind: OwnerKind
    owner_id: str
    owner_name: str
    budget: str
    """`total`, `daily`, `weekly`, `monthly`."""
    spent: int
    limit: int


def recommend(spends: Sequence[Spend], prices: Prices, budgets: Iterable[BudgetUse]) -> list[Recommendation]:
    """`spends`: by BY. The largest savings first, then the rest in their order."""
    cheaper = [found for spend in spends if (found := _cheaper(spend, prices)) is not None]
    cheaper.sort(key=lambda found: -(found.saving or 0))
    return [*cheaper, *_faster(spends), *_nearly_spent(budgets)]


async def recommended(
    database: Database, registry: Registry, prices: Prices, since_s: float, until_s: float
) -> list[Recommendation]:
    """Of all that was used in this time. Raises StoreUnavailable, Overloaded."""
    reports, habits = Reports(database), Habits(database)
    spends = await reports.spend(BY, Chosen(since_s=since_s, until_s=until_s), is_by_cost=True)
    found = recommend(spends, prices, await _budgets_in_use(registry))
    beginnings = await habits.beginnings(since_s, until_s, least=LEAST_BEGUN)
    allowances = await habits.allowances(since_s, until_s, least=LEAST_ALLOWED)
    ids = [each.key_id for each in beginnings] + [each.key_id for each in allowances]
    names = await reports.names_of_keys(ids)
    return [*found, *of_beginnings(beginnings, prices, names), *of_allowances(allowances, names)]


def _names(spend: Spend) -> tuple[str, str] | None:
    model, provider = spend.group
    return (model, provider) if isinstance(model, str) and isinstance(provider, str) else None


def _cheaper(spend: Spend, prices: Prices) -> Recommendation | None:
    names = _names(spend)
    if names is None or spend.num_unpriced or not spend.cost:
        return None
    model, provider = names
    others = {
        other: _cost_at(price, spend)
        for other, price in prices.get(model, {}).items()
        if other != provider and price.is_known
    }
    if not others:
        return None
    instead = min(others, key=lambda other: (others[other], other))
    saving = spend.cost - others[instead]
    if saving < max(LEAST_SAVING, spend.cost * LEAST_SAVED_SHARE):
        return None
    return Recommendation(
        kind="cheaper_provider",
        message=f"{model} at {instead} would have cost ${dollars(others[instead])} instead of ${dollars(spend.cost)} "
        f"at {provider}: ${dollars(saving)} less.",
        model=model,
        provider=provider,
        instead=instead,
        saving=saving,
    )


def _cost_at(price: Price, spend: Spend) -> int:
    """Of the same tokens. Those of attempts that cost nothing are among them, so it is no less than it would be."""
    tokens = charge_of(
        structs.replace(price, request=0), spend.prompt_tokens, spend.cached_tokens, spend.completion_tokens
    )
    return tokens + price.request * (spend.num_attempts - spend.num_failed_attempts)


def _faster(spends: Sequence[Spend]) -> list[Recommendation]:
    by_model: dict[str, list[tuple[str, Spend]]] = defaultdict(list)
    for spend in spends:
        names = _names(spend)
        if names is not None and spend.num_first_tokens >= LEAST_REQUESTS and spend.completion_tokens:
            by_model[names[0]].append((names[1], spend))
    found = []
    for model, measured in by_model.items():
        for provider, spend in measured:
            now_ms = _usual_ms(spend, spend)
            instead, then_ms = min(
                ((other, _usual_ms(others, spend)) for other, others in measured), key=lambda each: each[1]
            )
            if then_ms <= now_ms * FASTER_SHARE:
                found.append(_sooner(model, provider, instead, now_ms / 1e3, then_ms / 1e3))
    return found


def _usual_ms(spend: Spend, wanted: Spend) -> float:
    """How long an answer of the length that is usual for `wanted` takes where `spend` was measured."""
    first_ms = spend.first_token_ms / spend.num_first_tokens
    pace_ms = max(0, spend.latency_ms - spend.first_token_ms) / spend.completion_tokens
    return first_ms + pace_ms * wanted.completion_tokens / wanted.num_first_tokens


def _sooner(model: str, provider: str, instead: str, now_s: float, then_s: float) -> Recommendation:
    return Recommendation(
        kind="faster_provider",
        message=f"{model} takes {then_s:.3g} s at {instead} for an answer that takes {now_s:.3g} s at {provider}.",
        model=model,
        provider=provider,
        instead=instead,
        latency_s=round(now_s, 3),
        latency_instead_s=round(then_s, 3),
    )


def _nearly_spent(budgets: Iterable[BudgetUse]) -> list[Recommendation]:
    return [
        Recommendation(
            kind="budget_nearly_spent",
            message=f"The {use.owner_kind} {use.owner_name or use.owner_id} has spent ${dollars(use.spent)} of its "
            f"budget of ${dollars(use.limit)}{_SPANS[use.budget]}.",
            owner_kind=use.owner_kind,
            owner_id=use.owner_id,
            spent_share=round(use.spent / use.limit, 3) if use.limit else 1.0,
        )
        for use in budgets
        if use.limit and use.spent >= use.limit * SPENT_SHARE
    ]


async def _budgets_in_use(registry: Registry) -> list[BudgetUse]:
    """Of all keys and projects that may be used."""
    found: list[BudgetUse] = []
    after = ""
    while keys := await registry.keys(after=after, most=MOST_IN_PAGE, project=None):
        spending = await registry.spending(keys)
        for key in keys:
            found += _uses("key", key, spending[key.id])
        after = keys[-1].id
    after = ""
    while projects := await registry.projects(after=after, most=MOST_IN_PAGE):
        spending = await registry.spending(projects)
        for project in projects:
            found += _uses("project", project, spending[project.id])
        after = projects[-1].id
    return found


def _uses(kind: OwnerKind, record: KeyRecord | ProjectRecord, spending: Mapping[str, Spending]) -> Iterable[BudgetUse]:
    if record.is_disabled:
        return []
    limits: dict[str, int | None] = structs.asdict(record.budgets)
    return [
        BudgetUse(kind, record.id, record.name, budget, spending[budget].spent, limit)
        for budget, limit in limits.items()
        if limit is not None
    ]
