"""Reports tell what they are asked for, page by page, and none reads a whole table."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import Select
from store_entries import NOON_S, attempt, request

from benchmarks import store
from hodios.store import reports as module
from hodios.store import sums
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.habits import Allowance, Beginning, Habits
from hodios.store.keys import Keys
from hodios.store.ledger import Ledger
from hodios.store.records import KeyRecord, LoggedRequest
from hodios.store.reports import (
    Chosen,
    Dimension,
    Reports,
    Wanted,
    spend_query,
)

TODAY = Chosen(since_s=NOON_S, until_s=NOON_S + 3600)


async def test_spend_is_shown_by_what_is_asked(database: Database) -> None:
    told = [
        attempt("r1", key_id="k1", model="m1", provider="v1", cost=5, user="ann"),
        attempt("r2", key_id="k1", model="m2", provider="v1", cost=7, user="bob"),
        attempt("r3", key_id="k2", project_id=None, model="m2", provider="v2", cost=11, user="ann"),
        attempt("r4", key_id="k2", project_id=None, model="m2", provider="v2", cost=13, at_s=NOON_S + 3600),
    ]
    await Ledger(database).settle("a", told)
    reports = Reports(database)

    async def spent(*by: Dimension, chosen: Chosen = TODAY, **options: Any) -> dict[tuple[object, ...], int]:
        return {spend.group: spend.cost for spend in await reports.spend(by, chosen, **options)}

    assert await spent() == {(): 23}
    assert await spent("key_id") == {("k1",): 12, ("k2",): 11}
    assert await spent("project_id") == {("p1",): 12, (None,): 11}
    assert await spent("model", "provider") == {("m1", "v1"): 5, ("m2", "v1"): 7, ("m2", "v2"): 11}
    assert await spent("user", "key_id") == {("ann", "k1"): 5, ("ann", "k2"): 11, ("bob", "k1"): 7}
    assert await spent("model", is_by_cost=True, most=1) == {("m2",): 18}
    assert await spent("day", chosen=Chosen(since_s=0, until_s=2 * NOON_S)) == {(NOON_S - 12 * 3600,): 36}
    assert await spent("key_id", chosen=Chosen(since_s=0, until_s=2 * NOON_S, model="m2")) == {("k1",): 7, ("k2",): 24}
    assert await spent(chosen=Chosen(since_s=0, until_s=2 * NOON_S, user="ann")) == {(): 16}
    assert await spent(chosen=Chosen(since_s=0, until_s=1)) == {}


def test_users_do_not_go_with_models() -> None:
    with pytest.raises(ValueError, match="not known by model"):
        spend_query(["user", "model"], TODAY)


def test_quantiles_are_bounds_of_slots() -> None:
    slots = [0, 5, 0, 4, 0, 0, 0, 0, 0, 1]
    assert [sums.quantile_s(slots, share) for share in (0.5, 0.51, 0.9, 0.91)] == [0.5, 2.0, 2.0, float("inf")]
    assert sums.quantile_s([0] * 10, 0.5) is None


async def test_the_log_is_read_page_by_page_and_by_what_is_wanted(database: Database) -> None:
    logged = [
        request(
            f"r{number}",
            key_id=f"k{number % 2}",
            user="ann" if number % 3 == 0 else None,
            error_code="overloaded" if number == 5 else None,
            at_s=NOON_S + number // 2,
        )
        for number in range(10)
    ]
    await Ledger(database).settle("a", [], logged)
    reports = Reports(database)

    async def found(wanted: Wanted, most: int = 100) -> list[str]:
        seen, place = [], None
        while True:
            page = await reports.page(wanted, behind=place, most=most)
            assert len(page.requests) <= most
            seen += [entry.request_id for entry in page.requests]
            place = page.next
            if place is None:
                return seen

    newest_first = [entry.request_id for entry in logged[::-1]]
    for most in (1, 3, 10, 100):
        assert await found(Wanted(), most) == newest_first
    assert await found(Wanted(key_id="k1"), 2) == ["r9", "r7", "r5", "r3", "r1"]
    assert await found(Wanted(user="ann"), 3) == ["r9", "r6", "r3", "r0"]
    assert await found(Wanted(has_failed=True)) == await found(Wanted(error_code="overloaded")) == ["r5"]
    assert await found(Wanted(error_code="timeout")) == []
    assert await found(Wanted(since_s=NOON_S + 1, until_s=NOON_S + 2)) == ["r3", "r2"]


@pytest.mark.parametrize("most_read", [1, 2, 3, 7, 12, 100])
async def test_however_little_is_read_at_once_nothing_is_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch, most_read: int
) -> None:
    monkeypatch.setattr(module, "MOST_READ", most_read)
    values = random.Random(most_read)
    logged = [
        request(
            f"r{number:02}",
            key_id=f"k{values.randrange(2)}",
            user=values.choice(["ann", "bob", None]),
            model=values.choice(["m1", "m2"]),
            provider=values.choice(["v1", "v2"]),
            status=values.choice([200, 200, 429, 502]),
            error_code=values.choice([None, None, "overloaded", "timeout"]),
            at_s=NOON_S + number // 3,
        )
        for number in range(40)
    ]
    await Ledger(database).settle("a", [], logged)
    reports = Reports(database)
    choices: dict[str, list[Any]] = {
        "key_id": ["k1"],
        "user": ["ann"],
        "model": ["m1"],
        "provider": ["v2"],
        "status": [200, 429],
        "error_code": ["timeout", "unknown"],
        "has_failed": [True],
        "until_s": [NOON_S + 9],
    }
    for _ in range(30):
        names = values.sample(sorted(choices), values.randint(0, 4))
        wanted = Wanted(**{name: values.choice(choices[name]) for name in names})
        seen, place, num_pages = [], None, 0
        while num_pages == 0 or place is not None:
            page = await reports.page(wanted, behind=place, most=3)
            seen += [entry.request_id for entry in page.requests]
            place, num_pages = page.next, num_pages + 1
        assert seen == [entry.request_id for entry in logged[::-1] if is_wanted(entry, wanted)], wanted
        skipped = await reports.page(wanted, num_skipped=1, most=100)
        assert [entry.request_id for entry in skipped.requests] == seen[1:]


def is_wanted(entry: LoggedRequest, wanted: Wanted) -> bool:
    names = ("key_id", "user", "model", "provider", "status", "error_code")
    return (
        all(getattr(wanted, name) in (None, getattr(entry, name)) for name in names)
        and (not wanted.has_failed or entry.error_code is not None)
        and (wanted.until_s is None or entry.at_s < wanted.until_s)
    )


async def test_the_log_is_read_by_status_and_with_names(database: Database) -> None:
    logged = [request(f"r{n}", status=502 if n % 3 == 0 else 200, at_s=NOON_S + n) for n in range(7)]
    await Ledger(database).settle("a", [], logged)
    await Keys(database).create(KeyRecord(id="k1", prefix="", digest=b"1", name="mine", created_at_s=0.0))
    reports = Reports(database)
    page = await reports.page(Wanted(status=502), num_skipped=1, most=1)
    assert [entry.request_id for entry in page.requests] == ["r3"]
    assert page.next is not None
    assert await reports.names_of_keys(["k1", "k2", "k1"]) == {"k1": "mine"}
    assert await reports.names_of_keys([]) == {}


async def test_habits_are_those_of_the_newest(database: Database) -> None:
    told = [request(f"a{n:02}", prefix=7, max_tokens=1000 + n, at_s=NOON_S + n) for n in range(25)]
    told += [request(f"b{n:02}", prefix=n, max_tokens=None, key_id="k2", at_s=NOON_S) for n in range(25)]
    told += [request(f"c{n}", prefix=7, max_tokens=1, error_code="timeout", at_s=NOON_S) for n in range(3)]
    told += [request(f"d{n:02}", prefix=None, model=None, max_tokens=9, at_s=NOON_S) for n in range(25)]
    await Ledger(database).settle("a", [], told)
    habits, span = Habits(database), (NOON_S, NOON_S + 100)
    (beginning,) = await habits.beginnings(*span, least=20)
    assert beginning == Beginning(
        key_id="k1", model="m1", provider="v1", num_requests=28, prompt_tokens=280, cached_tokens=112
    )
    assert await habits.beginnings(*span, least=29) == []
    (allowance,) = await habits.allowances(*span, least=20)
    assert allowance == Allowance(
        key_id="k1", model="m1", num_requests=25, least_max_tokens=1000, most_completion_tokens=20
    )
    assert await habits.allowances(NOON_S + 50, NOON_S + 100, least=1) == []


async def plan_of(database: Database, query: Select[Any]) -> str:
    compiled = query.compile(database.engine, compile_kwargs={"literal_binds": True})
    prefix = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"

    async def work(connection: AsyncConnection) -> str:
        rows = await connection.exec_driver_sql(f"{prefix} {compiled}")
        return "\n".join(str(row[-1]) for row in rows)

    return await database.read(work)


async def test_no_report_reads_a_whole_table(database: Database) -> None:
    """With as many rows as it takes for a plan to be what it is for many more."""
    num_hours = 200
    await store.fill(database, 20_000, num_hours)
    plans = {name: await plan_of(database, query) for name, query in store.queries(num_hours).items()}
    # A month is the whole of what is there, and its sums are few.
    assert {name: plan for name, plan in plans.items() if is_full_scan(plan) and "of a month" not in name} == {}


def is_full_scan(plan: str) -> bool:
    """In the words of SQLite and of PostgreSQL. An index that is read in its order ends with the page, and `newest` has
    no more to be sorted than was read."""
    lines = plan.splitlines()
    return any(
        "Seq Scan" in line
        or (line.startswith("SCAN") and not line.startswith("SCAN newest") and "USING INDEX" not in line)
        for line in lines
    ) or ("USE TEMP B-TREE FOR ORDER BY" in plan and "SCAN requests" in plan and "SCAN newest" not in plan)
