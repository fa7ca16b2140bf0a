"""Fills a database with requests, 5 million unless told otherwise, and measures what the dashboard asks of it, how fast
batches are settled, and how long a lease takes.

Without `--url` the database is a new SQLite file that is removed in the end; a PostgreSQL database has to be empty, and
what is written stays there.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import Select, text

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.habits import allowances_query, beginnings_query
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.migration import upgrade
from hodios.store.records import AccountId, LoggedRequest, SettledAttempt
from hodios.store.reports import Chosen, Place, Wanted, attempts_query, end_query, log_query, request_query, spend_query

BEGAN_S = 1_795_219_200
"""2026-11-21 00:00 UTC, a full hour."""
NUM_ROWS = 5_000_000
NUM_HOURS = 90 * 24
NUM_ROUNDS = 5
BATCH = 100
_STEP = 100_000
_FILL = (
    """INSERT INTO requests (request_id, answer_id, key_id, project_id, "user", wanted_model, model, provider, status,
        error_code, latency_s, is_streamed, is_estimated, route, at_s)
    SELECT 'r' || n, 'chat-r' || n, 'k' || (n % 50), 'p' || (n % 5), 'user' || (n % 1000), 'm', 'm' || (n % 20),
        'v' || (n % 4), CASE WHEN n % 100 = 1 THEN 499 ELSE 200 END, CASE WHEN n % 100 = 0 THEN 'overloaded' END, 1.0,
        true, false, {nothing}, {began_s} + n * {between_s}
    FROM numbers""",
    """INSERT INTO attempts (request_id, number, key_id, project_id, "user", model, provider, outcome, cost,
        is_estimated, at_s)
    SELECT 'r' || n, 0, 'k' || (n % 50), 'p' || (n % 5), 'user' || (n % 1000), 'm' || (n % 20), 'v' || (n % 4),
        'answered', n % 1000, false, {began_s} + n * {between_s}
    FROM numbers""",
)
_FILL_SUMS = (
    """INSERT INTO hourly (hour, project_id, key_id, model, provider, cost)
    SELECT {began_s} + 3600 * (n / 50), 'p' || (n % 5), 'k' || (n % 50), 'm' || (n % 20), 'v' || (n % 4), n % 1000
    FROM numbers""",
    """INSERT INTO hourly_users (hour, project_id, key_id, "user", cost)
    SELECT {began_s} + 3600 * (n / 50), 'p' || (n % 5), 'k' || (n % 50), 'user' || (n % 1000), n % 1000
    FROM numbers""",
)


async def fill(database: Database, num_rows: int, num_hours: int = NUM_HOURS) -> None:
    """Requests and attempts in the order of time, `num_rows` of each, and sums for 50 keys in each of the hours."""
    nothing = "x''" if database.is_sqlite else "''::bytea"
    values = {"began_s": BEGAN_S, "between_s": num_hours * 3600 / num_rows, "nothing": nothing}

    async def insert(statement: str, first: int, last: int) -> None:
        numbers = f"WITH numbers(n) AS (SELECT generate_series({first}, {last - 1}))"
        if database.is_sqlite:
            more = f"SELECT n + 1 FROM numbers WHERE n + 1 < {last}"
            numbers = f"WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL {more})"
        head, _, rest = statement.format(**values).partition("SELECT")
        await database.write(lambda connection: connection.execute(text(f"{head} {numbers} SELECT {rest}")))

    for first in range(0, num_rows, _STEP):
        for statement in _FILL:
            await insert(statement, first, min(first + _STEP, num_rows))
    for statement in _FILL_SUMS:
        await insert(statement, 0, 50 * num_hours)
    if not database.is_sqlite:
        await database.write(lambda connection: connection.execute(text("ANALYZE")))


def queries(num_hours: int = NUM_HOURS) -> dict[str, Select[Any]]:
    """All that reports ask, in the last hours but one day."""
    middle_s = BEGAN_S + num_hours * 1800.0
    day: dict[str, Any] = {"since_s": middle_s, "until_s": middle_s + 86400}
    month = Chosen(since_s=middle_s, until_s=middle_s + 30 * 86400)
    log = {
        "newest": Wanted(),
        "of an hour": Wanted(since_s=middle_s, until_s=middle_s + 3600),
        "of a key": Wanted(key_id="k7", **day),
        "of a project": Wanted(project_id="p3"),
        "of a user": Wanted(user="user77"),
        "of a model": Wanted(model="m5", **day),
        "of a provider": Wanted(provider="v2"),
        "of a key and a model": Wanted(key_id="k7", model="m7"),
        "of a model at a provider": Wanted(model="m5", provider="v1"),
        "of a model at a provider that never had it": Wanted(model="m5", provider="v0"),
        "of a user at a provider he never had": Wanted(user="user77", provider="v0"),
        "of a status that a key never had": Wanted(key_id="k7", status=499),
        "of a status that a model never had": Wanted(model="m5", status=499),
        "failed": Wanted(has_failed=True),
        "with a status": Wanted(status=499),
        "with a code": Wanted(error_code="overloaded"),
    }
    found = {f"log: {name}": log_query(wanted, most=100) for name, wanted in log.items()}
    ends = {name: end_query(wanted) for name, wanted in log.items()}
    found |= {f"end of what is read: {name}": query for name, query in ends.items() if query is not None}
    found["log: far behind"] = log_query(Wanted(), behind=Place(middle_s, ""), most=100)
    found["one request"] = request_query("chat-r77")
    found["habits: beginnings"] = beginnings_query(middle_s, middle_s + 30 * 86400, least=20)
    found["habits: allowances"] = allowances_query(middle_s, middle_s + 30 * 86400, least=50)
    found["export: attempts"] = attempts_query(Wanted(), behind=(middle_s, "", 0), most=1000)
    found["export: of a user"] = attempts_query(Wanted(user="user77"), most=1000)
    for by in ("hour", "day", "key_id", "project_id", "model", "provider", "user"):
        found[f"spend of a day by {by}"] = spend_query([by], Chosen(**day))
    found["spend of a month by key"] = spend_query(["key_id"], month)
    found["spend of a month by user"] = spend_query(["user"], month, is_by_cost=True, most=20)
    return found


async def measure(database: Database) -> None:
    for name, query in queries().items():
        _show(name, [await _seconds(partial(_ask, database, query)) for _ in range(NUM_ROUNDS)])
    ledger, leases = Ledger(database), Leases(database)
    account = AccountId("key", "k0", "total")
    _show("lease", [await _seconds(partial(leases.grant, "p", account, 10**12, 1, 10**6)) for _ in range(100)])
    batches = [_batch(number, account) for number in range(50)]
    _show(f"settle {BATCH}", [await _seconds(partial(ledger.settle, "p", *batch)) for batch in batches])


def _batch(number: int, account: AccountId) -> tuple[list[SettledAttempt], list[LoggedRequest]]:
    at_s = BEGAN_S + NUM_HOURS * 3600.0
    common: dict[str, Any] = {"key_id": "k0", "project_id": "p0", "user": "user1", "model": "m0", "provider": "v0"}
    common |= {"prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 10, "cost": 1, "is_estimated": False}
    ended: dict[str, Any] = {"status": 200, "upstream_status": 200, "finish_reason": "stop", "error_code": None}
    ended |= {"latency_s": 1.0, "first_token_s": 0.1, "is_streamed": True, "route": b"{}", "wanted_model": "m0"}
    ids = [f"new-{number}-{n}" for n in range(BATCH)]
    attempt: dict[str, Any] = {"outcome": "answered", "accounts": (account,), "at_s": at_s, "number": 0}
    return (
        [SettledAttempt(request_id=id, **attempt, **common) for id in ids],
        [LoggedRequest(request_id=id, answer_id=f"chat-{id}", at_s=at_s, **common, **ended) for id in ids],
    )


async def _ask(database: Database, query: Select[Any]) -> None:
    async def work(connection: AsyncConnection) -> None:
        (await connection.execute(query)).all()

    await database.read(work)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began_s = time.perf_counter()
    await work()
    return time.perf_counter() - began_s


def _show(name: str, times_s: list[float]) -> None:
    median, most = statistics.median(times_s), max(times_s)
    print(f"{name:32} median {median * 1000:8.2f} ms   most {most * 1000:8.2f} ms", flush=True)


async def run(url: str, num_rows: int) -> None:
    database = Database.open(url, is_patient=True)
    try:
        await upgrade(database)
        filled_s = await _seconds(lambda: fill(database, num_rows))
        print(f"{num_rows:,} requests and as many attempts, written in {filled_s:.0f} s", flush=True)
        await measure(database)
    finally:
        await database.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help=f"requests (default: {NUM_ROWS})")
    parser.add_argument("--url", help="an empty PostgreSQL database (default: SQLite)")
    parser.add_argument("--folder", help="where the SQLite file is made (default: the system's)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(run(options.url or f"sqlite:///{folder}/hodios.db", options.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
