from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from postgresql_server import running
from spender import PRICE, SECRET, store_of
from sqlalchemy import select

from hodios.accounts.accounts import Accounts, Offer, keeping
from hodios.accounts.entries import Spent
from hodios.accounts.keyring import NewKey, mint
from hodios.accounts.limits import LocalLimiter, Permit, Refusal
from hodios.accounts.replay import replay
from hodios.errors import AuthenticationError, InsufficientQuota
from hodios.money import charge_of
from hodios.store.database import Database
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.migration import upgrade
from hodios.store.projects import Projects
from hodios.store.records import AccountId, Balance, Budgets, KeyRecord, Limits, ProjectRecord
from hodios.store.schema import attempts

TOTAL = AccountId("key", "k", "total")
PROJECT = AccountId("project", "p", "total")
LIMIT = 8_000_000


@pytest.fixture(scope="module")
def server(need: Callable[[str, str], str]) -> Iterator[str]:
    with running(need) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/hodios.db"
        return
    server = request.getfixturevalue("server")
    schema = f"hodios_test_{uuid.uuid4().hex}"
    asyncio.run(_on_server(server, f"CREATE SCHEMA {schema}"))
    yield f"{server}?search_path={schema}"
    asyncio.run(_on_server(server, f"DROP SCHEMA {schema} CASCADE"))


async def _on_server(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    await upgrade(database)
    yield database
    await database.close()


@pytest.fixture
async def new(database: Database) -> NewKey:
    """A key with a budget and limits, in a project with a budget."""
    new = mint(SECRET, random.Random(0).randbytes)
    await Projects(database).create(ProjectRecord(id="p", budgets=Budgets(daily=10 * LIMIT), created_at_s=0))
    await Keys(database).create(
        KeyRecord(
            id="k",
            prefix=new.prefix,
            digest=new.digest,
            project_id="p",
            budgets=Budgets(total=LIMIT),
            limits=Limits(requests_per_minute=100, tokens_per_minute=100_000, parallel_requests=2),
            is_queueing=True,
            created_at_s=0,
        )
    )
    return new


@pytest.fixture
async def accounts(tmp_path: Path, database: Database) -> AsyncIterator[Accounts]:
    async with keeping(tmp_path, store_of(database), LocalLimiter(time.monotonic_ns), SECRET) as accounts:
        yield accounts
    assert list((tmp_path / "journal").iterdir()) == [], "nothing was left to do"


def offer(most: int = 100, user: str = "u") -> Offer:
    return Offer(model="m", provider="x", price=PRICE, prompt_tokens=50, most_completion_tokens=most, user=user)


def spent(tokens: int) -> Spent:
    return Spent(prompt_tokens=50, cached_tokens=0, completion_tokens=tokens)


async def test_a_request_from_key_to_ledger(tmp_path: Path, database: Database, new: NewKey) -> None:
    async with keeping(tmp_path, store_of(database), LocalLimiter(time.monotonic_ns), SECRET) as accounts:
        with pytest.raises(AuthenticationError):
            await accounts.admit(new.text + "x")
        admitted = await accounts.admit(new.text)
        permit = await accounts.permit(admitted, "r", lambda: 150, 1.0)
        assert isinstance(permit, Permit)
        failed = await accounts.reserve(admitted, "r", 1, offer())
        assert accounts.settle(failed, "failed", spent(0)) == 0
        part = await accounts.reserve(admitted, "r", 2, offer())
        assert accounts.progress(part, spent(40))
        accounts.settle(part, "broke_off", spent(40))
        rest = await accounts.reserve(admitted, "r", 3, offer(60))
        unmade = await accounts.reserve(admitted, "r", 4, offer())
        accounts.release(unmade)
        accounts.settle(rest, "answered", spent(60))
        accounts.leave(permit, 100)
    cost = charge_of(PRICE, 50, 0, 40) + charge_of(PRICE, 50, 0, 60)
    balances = await Leases(database).balances([TOTAL, PROJECT])
    assert balances == {TOTAL: Balance(cost, 0), PROJECT: Balance(cost, 0)}
    assert list((tmp_path / "journal").iterdir()) == []


async def test_whatever_clients_call_their_users_can_be_written_down(accounts: Accounts, new: NewKey) -> None:
    admitted = await accounts.admit(new.text)
    for number, user in enumerate(["", "\0", "\ud800", "ü" * 10**6, "\ud800" * 10**6]):
        accounts.settle(await accounts.reserve(admitted, "r", number, offer(user=user)), "answered", spent(1))
    # What has to be found out is that the store takes all of them.
    for _ in range(6000):
        if not accounts.figures().num_undrained:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{accounts.figures().num_undrained} wait for the store")


async def test_keys_that_queue_wait_for_a_slot(accounts: Accounts, new: NewKey) -> None:
    admitted = await accounts.admit(new.text)
    first, second = [await accounts.permit(admitted, str(at), lambda: 10, 1.0) for at in range(2)]
    third = asyncio.create_task(accounts.permit(admitted, "third", lambda: 10, 60.0))
    await asyncio.sleep(0.01)
    assert accounts.figures().num_waiting == 1
    assert isinstance(await accounts.permit(admitted, "impatient", lambda: 10, 0.01), Refusal)
    assert isinstance(first, Permit)
    accounts.leave(first)
    assert isinstance(await third, Permit)
    assert isinstance(second, Permit)


async def test_a_budget_that_is_spent_refuses(accounts: Accounts, new: NewKey) -> None:
    admitted = await accounts.admit(new.text)
    with pytest.raises(InsufficientQuota):
        await accounts.reserve(admitted, "large", 1, offer(10**6))
    held = await accounts.reserve(admitted, "small", 1, offer())
    assert accounts.figures().num_held == 1
    assert accounts.figures().leased >= held.reserved
    accounts.release(held)


async def test_what_is_held_at_the_end_is_left_to_the_next_process(
    tmp_path: Path, database: Database, new: NewKey
) -> None:
    store = store_of(database)
    async with keeping(tmp_path, store, LocalLimiter(time.monotonic_ns), SECRET) as accounts:
        held = await accounts.reserve(await accounts.admit(new.text), "r", 1, offer())
        accounts.progress(held, spent(40))
    found = await replay(tmp_path, store.ledger, store.leases)
    assert (found.num_attempts, found.num_estimated) == (1, 1)
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(charge_of(PRICE, 50, 0, 40), 0)}


class Spender:
    """The program, and what it has said of itself."""

    def __init__(self, home: Path, url: str, new: NewKey, seed: int) -> None:
        program = Path(__file__).with_name("spender.py")
        arguments = [sys.executable, program, home, url, new.text, str(seed)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.used: dict[str, list[int]] = {}
        """Of each request, all that it was said to have used."""
        self.costs: dict[str, int] = {}
        self.is_spent = False

    def read(self, num: int | None = None) -> None:
        assert self._process.stdout is not None
        while num is None or num > 0:
            line = self._process.stdout.readline()
            if not line.endswith("\n"):
                break
            match json.loads(line):
                case ["spent"]:
                    self.is_spent = True
                case ["settled", request_id, cost]:
                    self.costs[request_id] = cost
                case [request_id, tokens]:
                    self.used.setdefault(request_id, [0]).append(tokens)
            num = None if num is None else num - 1

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        assert self._process.stdout is not None
        self.read()
        self._process.wait()
        self._process.stdout.close()


def test_processes_that_are_killed_exceed_no_budget_and_forget_nothing(tmp_path: Path, url: str) -> None:
    new = asyncio.run(_prepare(url))
    killed = [Spender(tmp_path, url, new, seed) for seed in (1, 2)]
    for spender in killed:
        spender.read(20)
    for spender in killed:
        spender.kill()
    survivors = [Spender(tmp_path, url, new, seed) for seed in (3, 4)]
    for spender in survivors:
        spender.end()
        assert spender.is_spent
    balance, costs = asyncio.run(_ledger(url))
    assert balance.leased == 0
    # Two who give up at the same time may each hold too little for an attempt of their own.
    assert 0.97 * LIMIT <= balance.settled <= LIMIT, "nearly all of it can be used, and no more"
    assert sum(cost for _, cost in costs.values()) == balance.settled
    for spender in (*killed, *survivors):
        for request_id, cost in spender.costs.items():
            assert costs[request_id][1] == cost
        for request_id, used in spender.used.items():
            # The last piece may have been told to nobody but this test.
            assert costs[request_id][0] in used[-1 if request_id in spender.costs else -2 :]


async def _prepare(url: str) -> NewKey:
    database = Database.open(url)
    await upgrade(database)
    new = mint(SECRET, random.Random(0).randbytes)
    record = KeyRecord(id="k", prefix="", digest=new.digest, budgets=Budgets(total=LIMIT), created_at_s=0)
    await Keys(database).create(record)
    await database.close()
    return new


async def _ledger(url: str) -> tuple[Balance, dict[str, tuple[int, int]]]:
    database = Database.open(url)
    balance = (await Leases(database).balances([TOTAL]))[TOTAL]
    rows = (await database.read(lambda connection: connection.execute(select(attempts)))).mappings().all()
    await database.close()
    return balance, {row["request_id"]: (row["completion_tokens"], row["cost"]) for row in rows}
