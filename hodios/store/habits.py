"""What the newest requests have in common, where sums do not tell it: how their prompts begin, and how much of what
they allowed for their answers was needed. Reads so many requests and no more."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Select, cast, func, select

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.schema import requests

MOST_READ = 20_000
MOST_SHOWN = 100
_READ = ("key_id", "model", "provider", "error_code", "max_tokens", "prefix")
_COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens")


class Beginning(Struct, frozen=True, kw_only=True):
    """Requests of one key to one provider's model whose prompts begin with the same text."""

    key_id: str
    model: str
    provider: str
    num_requests: int
    prompt_tokens: int
    cached_tokens: int


class Allowance(Struct, frozen=True, kw_only=True):
    """Requests of one key to one model that were answered, and named a `max_tokens`."""

    key_id: str
    model: str
    num_requests: int
    least_max_tokens: int
    most_completion_tokens: int


class Habits:
    """All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beginnings(self, since_s: float, until_s: float, *, least: int) -> list[Beginning]:
        """That at least so many requests share, the most frequent first."""
        query = beginnings_query(since_s, until_s, least=least)

        async def work(connection: AsyncConnection) -> list[Beginning]:
            return [Beginning(**row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)

    async def allowances(self, since_s: float, until_s: float, *, least: int) -> list[Allowance]:
        """Of keys and models with at least so many requests, the most frequent first."""
        query = allowances_query(since_s, until_s, least=least)

        async def work(connection: AsyncConnection) -> list[Allowance]:
            return [Allowance(**row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)


def beginnings_query(since_s: float, until_s: float, *, least: int) -> Select[Any]:
    """As `Habits.beginnings`."""
    newest = _newest(since_s, until_s)
    groups = (newest.c.key_id, newest.c.model, newest.c.provider)
    sums = [cast(func.sum(newest.c[name]), BigInteger).label(name) for name in _COUNTED[:2]]
    num = func.count()
    query = select(*groups, num.label("num_requests"), *sums).where(
        newest.c.prefix.is_not(None), newest.c.model.is_not(None), newest.c.provider.is_not(None)
    )
    query = query.group_by(*groups, newest.c.prefix).having(num >= least)
    return query.order_by(num.desc(), *groups).limit(MOST_SHOWN)


def allowances_query(since_s: float, until_s: float, *, least: int) -> Select[Any]:
    """As `Habits.allowances`."""
    newest = _newest(since_s, until_s)
    groups = (newest.c.key_id, newest.c.model)
    num = func.count()
    query = select(
        *groups,
        num.label("num_requests"),
        func.min(newest.c.max_tokens).label("least_max_tokens"),
        func.max(newest.c.completion_tokens).label("most_completion_tokens"),
    ).where(
        newest.c.max_tokens.is_not(None),
        newest.c.model.is_not(None),
        newest.c.error_code.is_(None),
        newest.c.completion_tokens > 0,
    )
    return query.group_by(*groups).having(num >= least).order_by(num.desc(), *groups).limit(MOST_SHOWN)


def _newest(since_s: float, until_s: float) -> Any:
    columns = [requests.c[name] for name in (*_READ, *_COUNTED)]
    query = select(*columns).where(requests.c.at_s >= since_s, requests.c.at_s < until_s)
    return query.order_by(requests.c.at_s.desc(), requests.c.request_id.desc()).limit(MOST_READ).subquery("newest")
