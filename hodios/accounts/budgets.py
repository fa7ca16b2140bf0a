"""Which accounts a request counts in now, which of them have a budget, and when their periods end. Pure.

Periods are those of UTC; weeks begin on Monday.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from hodios.store.records import AccountId, Budgets, KeyRecord, OwnerKind, Period, ProjectRecord

PERIODS: dict[str, Period] = {"total": "total", "daily": "day", "weekly": "week", "monthly": "month"}
"""By the names of budgets."""


class Budget(Struct, frozen=True):
    """What may be spent on one account."""

    account: AccountId
    limit: int
    """Nano-dollars."""


class Charging(Struct, frozen=True):
    """Where the cost of a request counts."""

    accounts: tuple[AccountId, ...]
    budgets: tuple[Budget, ...]
    """Of those accounts that have one, always in the same order."""


def charging_of(key: KeyRecord, project: ProjectRecord | None, now_s: float) -> Charging:
    """Of a request that begins now: it counts in the periods in which it began. `now_s`: Unix seconds."""
    owners: list[tuple[OwnerKind, str, Budgets]] = [("key", key.id, key.budgets)]
    if project is not None:
        owners.append(("project", project.id, project.budgets))
    accounts, budgets = [], []
    for kind, id, limits in owners:
        for name, period in PERIODS.items():
            account = AccountId(kind, id, period, since(period, now_s))
            accounts.append(account)
            limit = getattr(limits, name)
            if limit is not None:
                budgets.append(Budget(account, limit))
    return Charging(tuple(accounts), tuple(sorted(budgets, key=lambda budget: str(budget.account))))


def since(period: Period, now_s: float) -> date | None:
    """The first day of the period; None for `total`."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    match period:
        case "day":
            return today
        case "week":
            return today - timedelta(days=today.weekday())
        case "month":
            return today.replace(day=1)
    return None


def resets_at_s(account: AccountId) -> float | None:
    """Unix seconds at which the next period begins; None where none does."""
    first = account.since
    if first is None:
        return None
    match account.period:
        case "day":
            following = first + timedelta(days=1)
        case "week":
            following = first + timedelta(days=7)
        case _:
            following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC).timestamp()
