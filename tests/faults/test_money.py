"""API processes, PostgreSQL and Redis are killed at random while clients spend: no budget is exceeded, and the ledger
is what was used."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from books import Books, check_budgets, check_costs, check_counts, check_sums, check_told
from counting_upstream import CountingUpstream, Manners
from havoc import Havoc
from live_server import PATIENCE_S, until
from postgresql_server import OwnServer, own
from purses import NANO_A_TOKEN, SECRET, Purses, fill
from redis_server import RedisServer
from replicas import ADMIN_KEY, Replica, environment, sections
from spenders import Spenders

from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.migration import upgrade

PRICES = {"first": NANO_A_TOKEN, "second": 2 * NANO_A_TOKEN}
MANNERS = {
    "first": Manners(breaks=0.15, refuses=0.1),
    "second": Manners(refuses=0.02, packs=0.5),
}
Need = Callable[[str, str], str]


@dataclass(frozen=True)
class Plan:
    """How much of it. Pauses are seconds, from and to."""

    num_replicas: int
    num_clients: int
    seconds: float
    num_cohorts: int
    num_kills: int
    """Of API processes, at least."""
    kill_s: tuple[float, float]
    stop_s: tuple[float, float]


SHORT_SQLITE = Plan(1, 8, 5.0, 1, 3, (0.1, 0.5), (0.0, 0.0))
SHORT_POSTGRESQL = Plan(2, 12, 6.0, 1, 3, (0.1, 0.5), (1.0, 2.0))
FULL_SQLITE = Plan(1, 32, 90.0, 6, 10, (0.2, 2.0), (0.0, 0.0))
FULL_POSTGRESQL = Plan(4, 64, 180.0, 10, 20, (0.2, 2.0), (6.0, 12.0))


LONG = (pytest.mark.full, pytest.mark.soak)


class Term:
    """How long it goes on: for its time, until all has happened that is to be seen, while there is patience."""

    def __init__(self, seconds: float, missing: Callable[[], Sequence[str]]) -> None:
        self._seconds = seconds
        self._missing = missing
        self._began_s = asyncio.get_running_loop().time()

    @property
    def elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_s

    @property
    def share(self) -> float:
        return min(1.0, self.elapsed_s / self._seconds)

    def is_over(self) -> bool:
        is_enough = self.elapsed_s >= self._seconds and not self._missing()
        return is_enough or self.elapsed_s >= self._seconds + PATIENCE_S


@dataclass(frozen=True)
class Servers:
    """Of our own; None: SQLite, and limits that each process keeps by itself."""

    postgresql: OwnServer | None = None
    redis: RedisServer | None = None


@dataclass(frozen=True)
class Town:
    """All that is at work."""

    plan: Plan
    store_url: str
    database: Database
    purses: Purses
    upstreams: Sequence[CountingUpstream]
    replicas: Sequence[Replica]
    servers: Servers

    async def spend(self) -> tuple[Spenders, Havoc]:
        """Clients spend, and everything is killed."""

        def missing() -> list[str]:
            kinds = Counter(kind.partition(":")[0] for kind in havoc.done.elements())
            wanted = {"API process": self.plan.num_kills}
            wanted |= {"PostgreSQL": 1} if self.servers.postgresql else {}
            wanted |= {"Redis": 1} if self.servers.redis else {}
            statuses = spenders.statuses
            return [kind for kind, num in wanted.items() if kinds[kind] < num] + [
                f"an answer {status}" for status in (200, 402) if not statuses[status]
            ]

        rng, plan = random.Random(0), self.plan
        term = Term(plan.seconds, missing)
        spenders = Spenders(self.replicas, lambda: self.purses.at(term.share), term.is_over)
        havoc = Havoc(
            self.replicas,
            self.upstreams,
            rng,
            term.is_over,
            lambda: spenders.statuses[200],
            plan.kill_s,
            plan.stop_s,
            self.servers.postgresql,
            self.servers.redis,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(havoc.run())
            spending = tasks.create_task(spenders.run(plan.num_clients))
            tasks.create_task(havoc.tend(spending.done))
        assert not missing()
        return spenders, havoc


@pytest.fixture
def servers(request: pytest.FixtureRequest, need: Need, tmp_path: Path) -> Iterator[Servers]:
    if not request.param:
        yield Servers()
        return
    redis = RedisServer(need("redis-server", "redis-server"), tmp_path)
    redis.start()
    with own(need) as postgresql:
        yield Servers(postgresql, redis)
    redis.stop()


@asynccontextmanager
async def town(plan: Plan, folder: Path, servers: Servers) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        store_url = servers.postgresql.url if servers.postgresql else f"sqlite:///{folder / 'hodios.db'}"
        settings = {"HODIOS_STORE_URL": store_url}
        if servers.redis is not None:
            settings["HODIOS_LIMITS_URL"] = servers.redis.url
        database = Database.open(store_url)
        stack.push_async_callback(database.close)
        await upgrade(database)
        purses = await fill(database, plan.num_cohorts)
        upstreams = [CountingUpstream(name, MANNERS[name], random.Random(at)) for at, name in enumerate(PRICES)]
        for upstream in upstreams:
            stack.push_async_callback((await upstream.start()).cleanup)
        settings["HODIOS_REMOTE"] = sections(**{one.name: (one.url, PRICES[one.name] / 1000) for one in upstreams})
        replicas = [_replica(folder, at, settings) for at in range(plan.num_replicas)]
        for replica in replicas:
            stack.callback(replica.close)
            replica.start()
        yield Town(plan, store_url, database, purses, upstreams, replicas, servers)


def _replica(folder: Path, number: int, settings: dict[str, str]) -> Replica:
    """Every two have a home in common, and each has neighbours that see it die, and such that do not."""
    home = folder / f"home-{number // 2}"
    if not home.exists():
        home.mkdir(parents=True)
        secret = home / "keys.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
    return Replica(home, folder / f"log-{number}", settings)


@pytest.mark.parametrize(
    ("plan", "servers"),
    [
        pytest.param(SHORT_SQLITE, False, id="sqlite"),
        pytest.param(SHORT_POSTGRESQL, True, id="postgresql"),
        pytest.param(FULL_SQLITE, False, id="sqlite-full", marks=LONG),
        pytest.param(FULL_POSTGRESQL, True, id="postgresql-full", marks=LONG),
    ],
    indirect=["servers"],
)
async def test_soak_of_money(plan: Plan, servers: Servers, tmp_path: Path) -> None:
    async with town(plan, tmp_path, servers) as all_of_it:
        spenders, havoc = await all_of_it.spend()
        await asyncio.to_thread(_settle_down, all_of_it.replicas)
        await _check_leases(all_of_it)
        for replica in all_of_it.replicas:
            await asyncio.to_thread(replica.stop)
        assert [*tmp_path.glob("home-*/journal/*")] == []
        books = await Books.read(all_of_it.database)
        check_budgets(books, all_of_it.purses.limits)
        check_sums(books)
        check_costs(books, PRICES)
        counted = check_counts(books, all_of_it.upstreams)
        check_told(books, spenders, all_of_it.upstreams)
        assert any(row["is_estimated"] for row in books.attempts), "nobody was killed in the middle of an answer"
        _check_by_command(tmp_path, all_of_it.store_url)
    num_failed = sum(replica.num_failed_starts for replica in all_of_it.replicas)
    _report(
        f"done: {dict(havoc.done)}, API processes that found no store: {num_failed}",
        f"answers by status: {dict(spenders.statuses)}, sent twice: {len(spenders.twice)}",
        f"attempts: {len(books.attempts)}, {dict(Counter(row['outcome'] for row in books.attempts))}; {counted}",
    )


def _settle_down(replicas: Sequence[Replica]) -> None:
    """Until all is settled that was left by the dead, and all is in the store that the living know of."""
    for replica in replicas:
        until(lambda replica=replica: _is_at_rest(replica), replica.told)  # type: ignore[misc]
    for home in {replica.home for replica in replicas}:
        num_living = sum(replica.home == home for replica in replicas)
        journal = home / "journal"
        until(lambda: len([*journal.glob("*.lock")]) == num_living, lambda: str([*journal.iterdir()]))  # noqa: B023


def _is_at_rest(replica: Replica) -> bool:
    replica.tend()
    request = urllib.request.Request(f"{replica.url}/health", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            accounts = json.load(answer)["accounts"]
    except OSError:
        return False
    return accounts["held"] == accounts["undrained"] == 0


async def _check_leases(all_of_it: Town) -> None:
    """Nothing is leased to anybody but those that live."""
    homes = {replica.home for replica in all_of_it.replicas}
    living = {path.stem for home in homes for path in (home / "journal").glob("*.lock")}
    leases = Leases(all_of_it.database)
    assert set(await leases.processes()) <= living
    assert await leases.discrepancies() == []


def _check_by_command(home: Path, store_url: str) -> None:
    program = Path(sys.executable).with_name("hodios")
    env = environment(home, HODIOS_STORE_URL=store_url)
    checked = subprocess.run([program, "db", "check"], env=env, cwd=home, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _report(*lines: str) -> None:
    """For whoever reads what `make soak` prints."""
    for line in lines:
        sys.stdout.write(line + "\n")
