"""No budget is ever exceeded: whoever asks, gives back and settles, in whatever order and however often."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from store_entries import DAY, PROJECT, TOTAL, attempt

from hodios.store.connection import AsyncConnection, transaction
from hodios.store.database import Database
from hodios.store.failures import StoreUnavailable
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.records import AccountId, Balance, SettledAttempt
from hodios.store.schema import accounts, attempts
from hodios.store.schema import leases as leases_table


async def test_a_grant_takes_what_is_wanted_or_what_is_left(database: Database) -> None:
    leases = Leases(database)
    assert (await leases.grant("a", TOTAL, 100, 10, 60)).amount == 60
    grant = await leases.grant("b", TOTAL, 100, 10, 60)
    assert (grant.amount, grant.balance) == (40, Balance(0, 100))
    refused = await leases.grant("b", TOTAL, 100, 1, 1)
    assert (refused.amount, refused.balance) == (0, Balance(0, 100))
    assert await leases.held("a") == {TOTAL: 60}
    assert await leases.processes() == ["a", "b"]


async def test_less_than_the_least_is_not_granted(database: Database) -> None:
    leases = Leases(database)
    assert (await leases.grant("a", TOTAL, 100, 101, 200)).amount == 0
    assert await leases.balances([TOTAL, DAY]) == {TOTAL: Balance(0, 0), DAY: Balance(0, 0)}
    with pytest.raises(ValueError, match="least = 0"):
        await leases.grant("a", TOTAL, 100, 0, 1)


async def test_no_limit_is_too_large(database: Database) -> None:
    leases = Leases(database)
    for process in ("a", "b"):
        await leases.grant(process, TOTAL, 10**30, 1, 10**29)
    assert await leases.balances([TOTAL]) == {TOTAL: Balance(0, 2**62)}
    await Ledger(database).settle("a", [attempt(cost=10**15)])
    assert await leases.balances([TOTAL]) == {TOTAL: Balance(10**15, 2**62 - 10**15)}


async def test_what_is_given_back_can_be_granted_again(database: Database) -> None:
    leases = Leases(database)
    await leases.grant("a", TOTAL, 100, 1, 100)
    await leases.give_back("a", TOTAL, 30)
    assert (await leases.grant("b", TOTAL, 100, 1, 100)).amount == 30
    await leases.give_back("a", TOTAL, 1000)
    await leases.give_back("c", DAY, 1000)
    assert await leases.balances([TOTAL, DAY]) == {TOTAL: Balance(0, 30), DAY: Balance(0, 0)}


async def test_costs_use_up_what_their_own_process_has(database: Database) -> None:
    leases, ledger = Leases(database), Ledger(database)
    for process in ("a", "b"):
        await leases.grant(process, TOTAL, 1000, 1, 300)
    await ledger.settle("a", [attempt("r1"), attempt("r2", cost=250)])
    assert await leases.balances([TOTAL]) == {TOTAL: Balance(350, 300)}, "350 cost more than 300 that were leased"
    assert await leases.balances([DAY]) == {DAY: Balance(350, 0)}, "nothing was leased"
    assert await leases.held("a") == {TOTAL: 0}
    assert await leases.held("b") == {TOTAL: 300}


async def test_leases_of_the_dead_are_released_once(database: Database) -> None:
    leases, ledger = Leases(database), Ledger(database)
    for account in (TOTAL, PROJECT):
        await leases.grant("a", account, 1000, 1, 300)
    await ledger.settle("a", [attempt()])
    both = await asyncio.gather(leases.release("a"), leases.release("a"))
    assert sorted(both, key=len) == [{}, {TOTAL: 200, PROJECT: 200}]
    assert await leases.balances([TOTAL, PROJECT]) == {TOTAL: Balance(100, 0), PROJECT: Balance(100, 0)}
    assert await leases.processes() == []


class Slow:
    """A database to which somebody has said `commit` who is dead by now."""

    def __init__(self, database: Database) -> None:
        self.is_sqlite, self.insert, self.read = database.is_sqlite, database.insert, database.read
        self.has_said_so, self.goes_on = asyncio.Event(), asyncio.Event()
        self._engine = database.engine

    async def write(self, work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        async with transaction(self._engine, {}) as connection:
            done = await work(connection)
            self.has_said_so.set()
            await self.goes_on.wait()
        return done


async def test_what_is_granted_after_the_death_of_who_asked_is_released(postgresql_url: str) -> None:
    database = Database.open(postgresql_url)
    leases, slow = Leases(database), Slow(database)
    account = AccountId("key", "asked-by-the-dead", "total")
    asking = asyncio.create_task(Leases(slow).grant("dead", account, 100, 10, 60))  # type: ignore[arg-type]
    await slow.has_said_so.wait()
    releasing = asyncio.create_task(leases.release("dead"))
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while not releasing.done() and not await database.read(lambda connection: connection.scalar(waiting)):
        pass
    slow.goes_on.set()
    assert (await asking).amount == 60
    assert await releasing == {account: 60}
    assert await leases.processes() == []
    assert await leases.balances([account]) == {account: Balance(0, 0)}
    await database.close()


@pytest.fixture
async def databases(store_url: str) -> AsyncIterator[list[Database]]:
    """The same one, as two processes have it."""
    opened = [Database.open(store_url) for _ in range(2)]
    yield opened
    for database in opened:
        await database.close()


async def test_many_who_ask_at_once_get_no_more_than_there_is(databases: list[Database]) -> None:
    asked = (Leases(databases[number % 2]).grant(f"process-{number % 5}", TOTAL, 1000, 1, 70) for number in range(30))
    grants = await asyncio.gather(*asked)
    assert sum(grant.amount for grant in grants) == 1000
    assert sorted(Counter(grant.amount for grant in grants).items()) == [(0, 15), (20, 1), (70, 14)]
    assert await Leases(databases[0]).discrepancies() == []


NUM_PROCESSES = 3
LIMITS = (500, 2000)
_names = itertools.count()
choices = st.tuples(
    st.sampled_from(["grant", "give back", "settle", "settle", "tell again"]),
    st.integers(0, NUM_PROCESSES - 1),
    st.integers(1, 400),
    st.integers(0, 1),
)


class World:
    """What processes know of their leases, and what was settled: the model that the store is held against."""

    def __init__(self, databases: list[Database], name: str) -> None:
        self.leases = [Leases(database) for database in databases]
        self.ledgers = [Ledger(database) for database in databases]
        self.name = name
        self.accounts = [AccountId("key", f"k{name}", "total"), AccountId("project", f"p{name}", "total")]
        self.held = [[0, 0] for _ in range(NUM_PROCESSES)]
        self.settled: list[tuple[int, SettledAttempt]] = []

    def process(self, number: int) -> str:
        return f"{self.name}/{number}"

    async def grant(self, process: int, amount: int, which: int) -> None:
        leases, account = self.leases[process % 2], self.accounts[which]
        grant = await leases.grant(self.process(process), account, LIMITS[which], max(1, amount // 2), amount)
        self.held[process][which] += grant.amount

    def give_back(self, process: int, amount: int, which: int) -> Awaitable[object]:
        amount = min(amount, self.held[process][which])
        self.held[process][which] -= amount
        return self.leases[process % 2].give_back(self.process(process), self.accounts[which], amount)

    def settle(self, process: int, amount: int, which: int) -> Awaitable[object]:
        """Of one account, or of both."""
        accounts = self.accounts[: which + 1]
        cost = min(amount, *self.held[process][: which + 1])
        for at in range(which + 1):
            self.held[process][at] -= cost
        told = attempt(f"{self.name}-{len(self.settled)}", cost=cost, accounts=tuple(accounts))
        self.settled.append((process, told))
        return self.ledgers[process % 2].settle(self.process(process), [told, told])

    def tell_again(self, process: int, amount: int, which: int) -> Awaitable[object]:
        """As happens when two replay the journal of a third, or one of them is not answered."""
        told = [told for teller, told in self.settled if teller == process]
        return self.ledgers[which].settle(self.process(process), told[-amount:])

    async def check(self) -> None:
        balances = await self.leases[0].balances(self.accounts)
        for which, account in enumerate(self.accounts):
            balance = balances[account]
            assert balance.settled == sum(told.cost or 0 for _, told in self.settled if account in told.accounts)
            assert balance.leased == sum(held[which] for held in self.held)
            assert balance.settled + balance.leased <= LIMITS[which]
        for number, held in enumerate(self.held):
            found = await self.leases[1].held(self.process(number))
            assert [found.get(account, 0) for account in self.accounts] == held


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rounds=st.lists(st.lists(choices, min_size=1, max_size=8), max_size=6))
async def test_books_are_right_under_any_interleaving(
    databases: list[Database], rounds: list[list[tuple[str, int, int, int]]]
) -> None:
    world = World(databases, str(next(_names)))
    for choices_of_round in rounds:
        await asyncio.gather(*(getattr(world, name.replace(" ", "_"))(*choice) for name, *choice in choices_of_round))
        await world.check()


async def test_books_are_right_though_connections_are_lost(postgresql_url: str) -> None:
    """Whatever was committed though nobody was told so, and the other way round."""
    limit, cost = 2000, 7
    watcher = Database.open(postgresql_url)
    for table in (accounts, leases_table, attempts):
        await watcher.write(lambda connection, table=table: connection.execute(table.delete()))
    unlucky = Database.open(f"{postgresql_url}&application_name=unlucky")
    leases, ledger = Leases(unlucky), Ledger(unlucky)
    told: list[SettledAttempt] = []
    num_lost = 0
    # Whoever is cut off all the time gets nowhere: the next cut waits until something has gone well.
    goes_well = asyncio.Event()

    async def spend(process: str) -> None:
        nonlocal num_lost
        for number in range(15):
            try:
                grant = await leases.grant(process, TOTAL, limit, cost, 4 * cost)
                if not grant.amount:
                    return
            except StoreUnavailable:
                num_lost += 1
                continue
            goes_well.set()
            entry = attempt(f"{process}-{number}", cost=cost, accounts=(TOTAL,))
            told.append(entry)
            while True:
                try:
                    await ledger.settle(process, [entry])
                    goes_well.set()
                    break
                except StoreUnavailable:
                    num_lost += 1
            with contextlib.suppress(StoreUnavailable):
                await leases.give_back(process, TOTAL, grant.amount - cost)

    async def cut() -> None:
        kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'unlucky'")
        while True:
            await watcher.read(lambda connection: connection.execute(kill))
            balance = (await Leases(watcher).balances([TOTAL]))[TOTAL]
            assert balance.settled + balance.leased <= limit
            await goes_well.wait()
            goes_well.clear()

    cutting = asyncio.create_task(cut())
    processes = [f"process-{number}" for number in range(4)]
    await asyncio.gather(*map(spend, processes))
    cutting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cutting
    assert num_lost > 0
    assert told
    assert await Leases(watcher).discrepancies() == []
    for process in processes:
        await Leases(watcher).release(process)
    assert await Leases(watcher).balances([TOTAL]) == {TOTAL: Balance(cost * len(told), 0)}
    for database in (unlucky, watcher):
        await database.close()
