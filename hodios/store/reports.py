"""What was spent and asked, read back: sums out of the hourly roll-ups, and the log of requests page by page. No report
reads all attempts or all requests."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal_column, or_, select, tuple_

from hodios.store import sums
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.records import LoggedRequest, SettledAttempt
from hodios.store.schema import EVERYBODY, LATENCY_SLOTS, OK, attempts, hourly, hourly_users, keys, requests

Dimension = Literal["hour", "day", "key_id", "project_id", "model", "provider", "user"]
MOST_GROUPS = 10_000
MOST_IN_PAGE = 1000
MOST_READ = 5000
"""Requests that are read for a page where one filter alone has an index that leads there."""
_DAY_S = 86400
_OF_PROVIDERS = ("model", "provider")


class Chosen(Struct, frozen=True, kw_only=True):
    """What is to be summed up: whole hours, from the one that `since_s` is in to the last one that begins before
    `until_s`. None: all."""

    since_s: float
    until_s: float
    key_id: str | None = None
    project_id: str | None = None
    model: str | None = None
    provider: str | None = None
    user: str | None = None


class Spend(Struct, frozen=True, kw_only=True):
    """Of one group."""

    group: tuple[str | int | None, ...]
    """In the order in which was asked; hours and days as the Unix second with which they begin."""
    num_attempts: int
    num_failed_attempts: int
    num_unpriced: int
    """Attempts of which nobody knows the price; `cost` is without them."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int
    num_requests: int
    num_errors: int
    num_first_tokens: int
    """Requests that had a first token."""
    latency_ms: int
    """A sum, as the next one."""
    first_token_ms: int
    num_filtered: int
    """Requests whose answer somebody's filter has stopped."""
    latency_slots: tuple[int, ...]
    """Requests by `schema.LATENCY_BOUNDS_S`, for `sums.quantile_s`."""
    most_requests: int
    """In one hour with one key; where models and providers are told apart, of one of them."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which requests, or attempts, to show. None: all."""

    since_s: float | None = None
    until_s: float | None = None
    key_id: str | None = None
    project_id: str | None = None
    model: str | None = None
    provider: str | None = None
    user: str | None = None
    status: int | None = None
    error_code: str | None = None
    has_failed: bool = False
    """Those with any error code."""


class Place(Struct, frozen=True):
    """In the log: the next page begins behind it."""

    at_s: float
    request_id: str


class Page(Struct, frozen=True):
    requests: list[LoggedRequest]
    """The newest first."""
    next: Place | None
    """None where there are no more. A page that is not full may have one: what lies behind has not been read yet."""


class Reports:
    """All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def spend(
        self, by: Sequence[Dimension], chosen: Chosen, *, is_by_cost: bool = False, most: int = MOST_GROUPS
    ) -> list[Spend]:
        """A group for each combination that occurs, in the order of `by`, or with `is_by_cost` the dearest first.
        Users go with keys, projects and times only: raises ValueError where they are to go with models or providers.
        """
        query = spend_query(by, chosen, is_by_cost=is_by_cost, most=most)

        async def work(connection: AsyncConnection) -> list[Spend]:
            # With no groups at all there is one row, of nulls where nothing is summed up.
            rows = [tuple(row) for row in await connection.execute(query)]
            return [_spend(row, len(by)) for row in rows if row[-1] is not None]

        return await self._database.read(work)

    async def page(self, wanted: Wanted, *, behind: Place | None = None, num_skipped: int = 0, most: int = 100) -> Page:
        """`most` requests, no more than MOST_IN_PAGE, and fewer where several filters leave next to nothing of
        MOST_READ. What is skipped is read all the same."""
        most = min(most, MOST_IN_PAGE)
        reads_all = num_skipped > 0
        query = log_query(wanted, behind=behind, most=most + 1, reads_all=reads_all).offset(num_skipped)
        end = None if reads_all else end_query(wanted, behind=behind)

        async def work(connection: AsyncConnection) -> Page:
            found = [LoggedRequest(**row) for row in (await connection.execute(query)).mappings()]
            if len(found) > most:
                last = found[most - 1]
                return Page(found[:most], Place(last.at_s, last.request_id))
            unread = None if end is None else (await connection.execute(end)).first()
            return Page(found, None if unread is None else Place(*unread))

        return await self._database.read(work)

    async def request(self, id: str) -> LoggedRequest | None:
        """By its own id, or that of its answer."""
        query = request_query(id)

        async def work(connection: AsyncConnection) -> LoggedRequest | None:
            row = (await connection.execute(query)).mappings().first()
            return None if row is None else LoggedRequest(**row)

        return await self._database.read(work)

    async def names_of_keys(self, ids: Iterable[str]) -> dict[str, str]:
        """By their ids. Keys that are gone have none."""
        query = select(keys.c.id, keys.c.name).where(keys.c.id.in_(sorted(set(ids))))

        async def work(connection: AsyncConnection) -> dict[str, str]:
            return {row.id: row.name for row in await connection.execute(query)}

        return await self._database.read(work)

    async def attempts_of(self, request_id: str) -> list[SettledAttempt]:
        """In their order. In which accounts they counted is not kept."""
        query = select(attempts).where(attempts.c.request_id == request_id).order_by(attempts.c.number)
        return await self._attempts(query)

    async def all_requests(self, wanted: Wanted) -> AsyncIterator[LoggedRequest]:
        """For exports: read in pages, so that nobody waits for it."""
        place = None
        while True:
            page = await self.page(wanted, behind=place, most=MOST_IN_PAGE)
            for request in page.requests:
                yield request
            place = page.next
            if place is None:
                return

    async def all_attempts(self, wanted: Wanted) -> AsyncIterator[SettledAttempt]:
        """As `all_requests`; attempts have no status and no error codes. In which accounts they counted is not kept."""
        place: tuple[float, str, int] | None = None
        while True:
            page = await self._attempts(attempts_query(wanted, behind=place, most=MOST_IN_PAGE))
            for attempt in page:
                yield attempt
            if len(page) < MOST_IN_PAGE:
                return
            place = (page[-1].at_s, page[-1].request_id, page[-1].number)

    async def _attempts(self, query: Select[Any]) -> list[SettledAttempt]:
        async def work(connection: AsyncConnection) -> list[SettledAttempt]:
            return [SettledAttempt(**row, accounts=()) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)


def spend_query(
    by: Sequence[Dimension], chosen: Chosen, *, is_by_cost: bool = False, most: int = MOST_GROUPS
) -> Select[Any]:
    """As `Reports.spend`."""
    filters = {name: value for name, value in _equal(chosen) if value is not None}
    has_users = "user" in by or "user" in filters
    if has_users and set(_OF_PROVIDERS) & {*by, *filters}:
        raise ValueError("What users spend is not known by model or provider, but by key, project, hour and day.")
    table = hourly_users if has_users else hourly
    day = (table.c.hour - table.c.hour % _DAY_S).label("day")
    groups: list[ColumnElement[Any]] = [day if name == "day" else table.c[name] for name in by]
    totals = [cast(func.sum(table.c[name]), BigInteger).label(name) for name in sums.NAMES]
    query = select(*groups, *totals, func.max(table.c.num_requests)).group_by(*groups)
    query = query.where(table.c.hour >= sums.hour_of(chosen.since_s), table.c.hour < math.ceil(chosen.until_s))
    query = query.where(*(table.c[name] == value for name, value in filters.items()))
    order = [func.sum(table.c.cost).desc(), *groups] if is_by_cost else groups
    return query.order_by(*order).limit(min(most, MOST_GROUPS))


def log_query(wanted: Wanted, *, behind: Place | None = None, most: int, reads_all: bool = False) -> Select[Any]:
    """As `Reports.page`, without its bound of `most`. `reads_all`: as far back as it takes."""
    first, others = _filters_of(wanted)
    if not others or reads_all:
        return _newest(select(requests), [*first, *others], wanted, behind).limit(most)
    newest = _newest(select(requests), first, wanted, behind).limit(MOST_READ).subquery("newest")
    columns = newest.c
    query = select(newest).where(*_filters_of(wanted, columns)[1])
    return query.order_by(columns.at_s.desc(), columns.request_id.desc()).limit(most)


def end_query(wanted: Wanted, *, behind: Place | None = None) -> Select[Any] | None:
    """The place of the last request that `log_query` reads, if it does not read all; None where it always does."""
    first, others = _filters_of(wanted)
    if not others:
        return None
    place = select(requests.c.at_s, requests.c.request_id)
    return _newest(place, first, wanted, behind).offset(MOST_READ - 1).limit(1)


def _newest(
    query: Select[Any], filters: Sequence[ColumnElement[bool]], wanted: Wanted, behind: Place | None
) -> Select[Any]:
    query = query.where(*filters, *_span(requests.c, wanted))
    if behind is not None:
        query = query.where(tuple_(requests.c.at_s, requests.c.request_id) < (behind.at_s, behind.request_id))
    return query.order_by(requests.c.at_s.desc(), requests.c.request_id.desc())


def _filters_of(wanted: Wanted, c: Any = requests.c) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """One for which there is an index in the order of time, the one that leaves least where there are several, and all
    others."""
    found: list[list[ColumnElement[bool]]] = [[c.user == wanted.user]] if wanted.user is not None else []
    if wanted.status is not None and wanted.status != OK:
        # In so many words, so that the index of all others is found.
        found.append([c.status == wanted.status, c.status != literal_column(str(OK))])
    if wanted.has_failed or wanted.error_code is not None:
        found.append([c.error_code.is_not(None)])
    found += [[c[name] == value] for name, value in _equal(wanted) if value is not None and name != "user"]
    first = found.pop(0) if found else []
    others = [each for conditions in found for each in conditions]
    if wanted.status == OK:
        others.append(c.status == OK)
    if wanted.error_code is not None:
        others.append(c.error_code == wanted.error_code)
    return first, others


def attempts_query(wanted: Wanted, *, behind: tuple[float, str, int] | None = None, most: int) -> Select[Any]:
    """(time, request id, attempt number) is where it goes on; the oldest come first."""
    query = select(attempts).where(*_conditions(attempts.c, wanted))
    key = (attempts.c.at_s, attempts.c.request_id, attempts.c.number)
    if behind is not None:
        query = query.where(tuple_(*key) > behind)
    return query.order_by(*key).limit(most)


def request_query(id: str) -> Select[Any]:
    """As `Reports.request`."""
    is_own = requests.c.request_id == id
    return select(requests).where(or_(is_own, requests.c.answer_id == id)).order_by(is_own.desc()).limit(1)


def _conditions(columns: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    return [*(columns[name] == value for name, value in _equal(wanted) if value is not None), *_span(columns, wanted)]


def _span(columns: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    found = []
    if wanted.since_s is not None:
        found.append(columns.at_s >= wanted.since_s)
    if wanted.until_s is not None:
        found.append(columns.at_s < wanted.until_s)
    return found


def _equal(chosen: Chosen | Wanted) -> list[tuple[str, str | None]]:
    return [(name, getattr(chosen, name)) for name in ("key_id", "project_id", "model", "provider", "user")]


def _spend(row: tuple[Any, ...], num_groups: int) -> Spend:
    *totals, most_requests = row[num_groups:]
    counts = dict(zip(sums.NAMES, totals, strict=True))
    slots = tuple(counts.pop(name) for name in LATENCY_SLOTS)
    group = tuple(None if value == EVERYBODY else value for value in row[:num_groups])
    return Spend(group=group, latency_slots=slots, most_requests=most_requests, **counts)
