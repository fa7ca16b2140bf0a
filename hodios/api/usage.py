"""`GET key`, `credits`, `queries` and `activity`: what a key has left, what it asked, and what that came to.

A key sees what is its own; the admin key sees everything, and filters it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hodios.accounts.keyring import Admitted
from hodios.accounts.spans import ACCEPTS, moment_s
from hodios.api.auth import ADMIN
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.api.usage_entries import (
    DIMENSIONS,
    ActivityList,
    CreditsAnswer,
    KeyAnswer,
    QueryPage,
    accounts_of,
    activity_of,
    credits_of,
    from_store,
    key_of,
    query_of,
)
from hodios.errors import InvalidRequest, NotAvailable
from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.records import AccountId, Balance
from hodios.store.reports import MOST_IN_PAGE, Chosen, Dimension, Place, Reports, Wanted

QUERY_FILTERS = ("limit", "offset", "before", "key", "project", "model", "provider", "user", "status", "from", "to")
ACTIVITY_FILTERS = ("by", "key", "project", "model", "provider", "user", "from", "to")
DEFAULT_LIMIT = 50
MOST_OFFSET = 10_000
"""Pages further back are found with `before`."""
DEFAULT_SPAN_S = 30 * 86400.0
_STATUSES = (100, 599)
_BY_USUAL = ("day", "model", "provider")


class _Filters(NamedTuple):
    key_id: str | None
    project_id: str | None
    model: str | None
    provider: str | None
    user: str | None
    since_s: float | None
    until_s: float | None


class UsageReports:
    """Of what is in `database`; without one every answer is a 501. `clock` gives Unix seconds."""

    def __init__(self, database: Database | None, *, clock: Callable[[], float] = time.time) -> None:
        self._reports = None if database is None else Reports(database)
        self._leases = None if database is None else Leases(database)
        self._clock = clock

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"key": self.key, "credits": self.credits, "queries": self.queries, "activity": self.activity}

    async def key(self, exchange: Exchange) -> None:
        """`GET key`."""
        admitted, now_s = _admitted(exchange), self._clock()
        balances = await self._balances(admitted, now_s)
        await exchange.answer_json(KeyAnswer(key_of(admitted, balances, now_s)))

    async def credits(self, exchange: Exchange) -> None:
        """`GET credits`."""
        admitted, now_s = _admitted(exchange), self._clock()
        balances = await self._balances(admitted, now_s)
        await exchange.answer_json(CreditsAnswer(credits_of(admitted, balances, now_s)))

    async def queries(self, exchange: Exchange) -> None:
        """`GET queries`."""
        reports = self._found()
        filters = _filters(exchange)
        status = _number(exchange, "status", *_STATUSES)
        limit = _number(exchange, "limit", 1, MOST_IN_PAGE) or DEFAULT_LIMIT
        offset = _number(exchange, "offset", 0, MOST_OFFSET) or 0
        wanted = Wanted(**filters._asdict(), status=status)
        page = await from_store(reports.page(wanted, behind=_before(exchange), num_skipped=offset, most=limit))
        names = await from_store(reports.names_of_keys(logged.key_id for logged in page.requests))
        items = [query_of(logged, names.get(logged.key_id)) for logged in page.requests]
        before = None if page.next is None else f"{page.next.at_s!r},{page.next.request_id}"
        await exchange.answer_json(QueryPage(items, limit, offset, before))

    async def activity(self, exchange: Exchange) -> None:
        """`GET activity`."""
        reports = self._found()
        filters, by = _filters(exchange), _by(exchange)
        until_s = self._clock() + 1 if filters.until_s is None else filters.until_s
        since_s = until_s - DEFAULT_SPAN_S if filters.since_s is None else filters.since_s
        chosen = Chosen(**filters._asdict() | {"since_s": since_s, "until_s": until_s})
        dimensions: list[Dimension] = [DIMENSIONS[name][0] for name in by]
        try:
            found = await from_store(reports.spend(dimensions, chosen))
        except ValueError as error:
            raise InvalidRequest(f"by: {error}", param="by") from None
        await exchange.answer_json(ActivityList([activity_of(spend, by) for spend in found]))

    async def _balances(self, admitted: Admitted, now_s: float) -> dict[AccountId, Balance]:
        if self._leases is None:
            raise _no_store()
        return await from_store(self._leases.balances(accounts_of(admitted, now_s)))

    def _found(self) -> Reports:
        if self._reports is None:
            raise _no_store()
        return self._reports


def _no_store() -> NotAvailable:
    return NotAvailable("what was used is not kept here: this server runs without a store")


def _admitted(exchange: Exchange) -> Admitted:
    if exchange.admitted is None:
        raise _no_store()
    return exchange.admitted


def _filters(exchange: Exchange) -> _Filters:
    """Whatever a key asks for, it is shown what is its own."""
    key = _text(exchange, "key")
    return _Filters(
        key_id=key if exchange.caller == ADMIN else exchange.caller,
        project_id=_text(exchange, "project"),
        model=_text(exchange, "model"),
        provider=_text(exchange, "provider"),
        user=_text(exchange, "user"),
        since_s=moment_in(exchange, "from", is_end=False),
        until_s=moment_in(exchange, "to", is_end=True),
    )


def _text(exchange: Exchange, name: str) -> str | None:
    """What no database takes for text is none."""
    text = exchange.query(name)
    if text and "\0" in text:
        raise InvalidRequest(f"{name}: {text[:60]!r} is not accepted; accepted: text without NUL", param=name)
    return text or None


def moment_in(exchange: Exchange, name: str, *, is_end: bool) -> float | None:
    """Unix seconds; None where the client does not say. Raises InvalidRequest."""
    text = _text(exchange, name)
    if not text:
        return None
    try:
        return moment_s(text, is_end=is_end)
    except ValueError:
        raise InvalidRequest(f"{name}: {text[:60]!r} is not accepted; accepted: {ACCEPTS}", param=name) from None


def _number(exchange: Exchange, name: str, least: int, most: int) -> int | None:
    text = _text(exchange, name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InvalidRequest(f"{name}: {text[:60]!r} is not accepted; accepted: {least} to {most}", param=name)
    return int(text)


def _before(exchange: Exchange) -> Place | None:
    text = _text(exchange, "before")
    if not text:
        return None
    at, _, id = text.partition(",")
    try:
        return Place(moment_s(at), id)
    except ValueError:
        raise InvalidRequest(
            f"before: {text[:60]!r} is not accepted; accepted: what the page before has as `before`", param="before"
        ) from None


def _by(exchange: Exchange) -> tuple[str, ...]:
    text = _text(exchange, "by")
    if not text:
        return _BY_USUAL
    names = tuple(dict.fromkeys(text.split(",")))
    if not DIMENSIONS.keys() >= set(names):
        accepted = ", ".join(DIMENSIONS)
        raise InvalidRequest(
            f"by: {text[:60]!r} is not accepted; accepted: one or more of {accepted}, separated by commas", param="by"
        )
    return names
