"""What is old goes and nothing else, and who is to be forgotten is, while all money stays where it was."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Text, func, or_, select
from store_entries import DAY, NOON_S, TOTAL, attempt, request

from hodios.store.connection import AsyncConnection
from hodios.store.contents import Contents
from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.records import Balance, StoredContent
from hodios.store.reports import Chosen, Reports, Wanted
from hodios.store.retention import Cutoffs, Retention
from hodios.store.schema import metadata

ALWAYS = Chosen(since_s=0, until_s=2 * NOON_S)
NUM = 25


def retention(database: Database) -> Retention:
    return Retention(database, pause_s=0, batch=10)


async def settle_some(database: Database) -> None:
    told = [attempt(f"r{n:02}", user="ann" if n % 5 else "bob", at_s=NOON_S + 3600 * n, cost=1) for n in range(NUM)]
    logged = [request(f"r{n:02}", user="ann" if n % 5 else "bob", at_s=NOON_S + 3600 * n) for n in range(NUM)]
    await Ledger(database).settle("a", told, logged)


async def test_what_is_older_goes(database: Database) -> None:
    await settle_some(database)
    reports, limit_s = Reports(database), NOON_S + 3600 * 12
    gone = await retention(database).purge(Cutoffs(requests_s=limit_s))
    assert gone == {"contents": 0, "requests": 12}
    gone = await retention(database).purge(Cutoffs(attempts_s=limit_s, sums_s=limit_s))
    assert gone == {"attempts": 12, "hourly": 12, "hourly_users": 12}
    kept = [f"r{n}" for n in range(12, NUM)]
    assert [entry.request_id async for entry in reports.all_attempts(Wanted())] == kept
    assert [entry.request_id async for entry in reports.all_requests(Wanted())] == kept[::-1]
    assert [spend.num_attempts for spend in await reports.spend([], ALWAYS)] == [13]
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(NUM, 0)}
    assert await retention(database).purge(Cutoffs()) == {}


def content(request_id: str, **changes: Any) -> StoredContent:
    ordinary: dict[str, Any] = {"key_id": "k1", "project_id": "p1", "user": None, "at_s": NOON_S}
    ordinary |= {"request": b"{}", "answer": b"{}", "is_request_cut": False, "is_answer_cut": False}
    return StoredContent(request_id=request_id, **(ordinary | changes))


async def test_content_goes_before_its_requests_or_with_them(database: Database) -> None:
    told = [content(f"r{n:02}", at_s=NOON_S + n) for n in range(NUM)]
    contents = Contents(database)
    await contents.add(told)
    await contents.add([told[0], content("r01", request=b"another")])
    assert await contents.of("r01") == told[1]
    assert await retention(database).purge(Cutoffs(contents_s=NOON_S + 12)) == {"contents": 12}
    assert await contents.of("r11") is None
    gone = await retention(database).purge(Cutoffs(contents_s=NOON_S, requests_s=NOON_S + 20))
    assert gone == {"contents": 8, "requests": 0}
    assert await contents.of("r20") == told[20]


async def test_content_of_whom_is_forgotten_is_gone(database: Database) -> None:
    contents = Contents(database)
    await contents.add(content(f"r{n:02}", user="ann" if n < NUM - 1 else "bob\0\ud800") for n in range(NUM))
    assert await retention(database).delete_user("ann", "p2") == 0
    assert await retention(database).delete_user("ann") == NUM - 1
    assert await contents.of("r00") is None
    kept = await contents.of(f"r{NUM - 1}")
    assert kept is not None
    assert kept.user == "bob\ufffd?"


async def test_accounts_of_periods_that_are_over_go_unless_something_is_leased(database: Database) -> None:
    leases = Leases(database)
    await settle_some(database)
    await leases.grant("a", DAY, 1000, 1, 5)
    over = Cutoffs(accounts=date(2026, 11, 22))
    assert await retention(database).purge(over) == {"accounts": 0, "leases": 0}
    await leases.give_back("a", DAY, 5)
    assert await retention(database).purge(over) == {"accounts": 1, "leases": 1}
    assert await leases.balances([DAY, TOTAL]) == {DAY: Balance(0, 0), TOTAL: Balance(NUM, 0)}


async def test_nothing_names_who_was_deleted(database: Database) -> None:
    await settle_some(database)
    reports = Reports(database)
    before = await reports.spend(["hour"], ALWAYS)
    assert await retention(database).delete_user("ann") == 20 * 3
    assert await retention(database).delete_user("ann") == 0
    assert await mentions(database, "ann") == []
    assert await mentions(database, "bob") == ["attempts", "hourly_users", "requests"]
    assert await reports.spend(["hour"], ALWAYS) == before
    by_user = {spend.group: spend.cost for spend in await reports.spend(["user"], ALWAYS)}
    assert by_user == {("bob",): 5, (None,): 20}
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(NUM, 0)}


async def mentions(database: Database, user: str) -> list[str]:
    """Tables in which any text is the user's name."""

    async def work(connection: AsyncConnection) -> list[str]:
        found = []
        for table in metadata.sorted_tables:
            texts = [column == user for column in table.columns if type(column.type) is Text]
            if await connection.scalar(select(func.count()).select_from(table).where(or_(False, *texts))):
                found.append(table.name)
        return sorted(found)

    return await database.read(work)


async def test_who_is_called_the_same_elsewhere_stays(database: Database) -> None:
    others = attempt("r2", user="ann", project_id="p2")
    await Ledger(database).settle("a", [attempt("r1", user="ann"), others])
    assert await retention(database).delete_user("ann", "p1") == 2
    assert [entry.user async for entry in Reports(database).all_attempts(Wanted())] == [None, "ann"]
    by_project = await Reports(database).spend(["project_id", "user"], ALWAYS)
    assert [spend.group for spend in by_project] == [("p1", None), ("p2", "ann")]


async def test_nobody_is_no_user(database: Database) -> None:
    with pytest.raises(ValueError, match="must name somebody"):
        await retention(database).delete_user("")


async def test_sums_stay_right_while_a_user_is_deleted(database: Database) -> None:
    async def settle() -> None:
        for n in range(20):
            await Ledger(database).settle("a", [attempt(f"r{n}", user="ann", cost=1, at_s=NOON_S + n % 3 * 3600)])

    async def forget() -> None:
        for _ in range(10):
            await retention(database).delete_user("ann")

    await asyncio.gather(settle(), forget(), forget())
    await forget()
    by_user = {spend.group: spend.cost for spend in await Reports(database).spend(["user"], ALWAYS)}
    assert by_user == {(None,): 20}
