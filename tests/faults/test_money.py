"""Processes that spend shared budgets are killed at random: no budget is exceeded, and the ledger is what was used."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from msgspec import Struct
from postgresql_server import running
from replicas import MODEL, NANO_A_TOKEN, CountingUpstream, Replica
from sqlalchemy import select

from hodios.accounts.keyring import mint
from hodios.store.database import Database
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.migration import upgrade
from hodios.store.projects import Projects
from hodios.store.records import Budgets, KeyRecord, ProjectRecord
from hodios.store.schema import accounts, attempts

SECRET = "0123456789abcdef" * 4
LIMITS = {
    "key/poor/total": 400 * NANO_A_TOKEN,
    "key/modest/total": 3000 * NANO_A_TOKEN,
    "project/shared/total": 5000 * NANO_A_TOKEN,
}


class Seen(Struct):
    """What one client was told."""

    status: int
    cost: float | None = None
    num_tokens: int | None = None


@pytest.fixture(scope="module")
def postgresql(need: Callable[[str, str], str]) -> Iterator[str]:
    with running(need) as url:
        yield url


@asynccontextmanager
async def _store(kind: str, server: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty store."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'hodios.db'}"
        return
    name = f"hodios_test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{server}?search_path={name}"
    finally:
        await connection.execute(f"DROP SCHEMA {name} CASCADE")
        await connection.close()


async def _make_keys(database: Database) -> list[str]:
    await upgrade(database)
    await Projects(database).create(
        ProjectRecord(id="shared", budgets=Budgets(total=LIMITS["project/shared/total"]), created_at_s=0)
    )
    rows = [
        ("poor", Budgets(total=LIMITS["key/poor/total"]), None),
        ("modest", Budgets(total=LIMITS["key/modest/total"]), None),
        ("first", Budgets(), "shared"),
        ("second", Budgets(), "shared"),
        ("free", Budgets(), None),
    ]
    texts = []
    for id, budgets, project in rows:
        new = mint(SECRET.encode(), secrets.token_bytes)
        record = KeyRecord(
            id=id, prefix=new.prefix, digest=new.digest, budgets=budgets, project_id=project, created_at_s=0
        )
        await Keys(database).create(record)
        texts.append(new.text)
    return texts


async def _ask(http: aiohttp.ClientSession, url: str, key: str, name: str, *, is_streamed: bool) -> Seen:
    body = {"model": MODEL, "messages": [{"role": "user", "content": name}], "max_tokens": 50, "user": name}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if is_streamed else {}
    async with http.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
        text = await answer.text()
        if answer.status != 200:
            return Seen(answer.status)
        found: list[dict[str, Any]] = [json.loads(text)] if not is_streamed else []
        for line in text.splitlines() if is_streamed else ():
            if line.startswith("data: {"):
                found.append(json.loads(line[6:]))
        usages = [each["usage"] for each in found if each.get("usage")]
        return Seen(200, usages[-1]["cost"], usages[-1]["completion_tokens"]) if usages else Seen(200)


async def _client(
    replicas: list[Replica], keys: list[str], seen: dict[str, Seen], rng: random.Random, until_s: float
) -> None:
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        while loop.time() < until_s:
            name = uuid.uuid4().hex
            try:
                key = rng.choice([*keys, keys[0], keys[0]])
                is_streamed = rng.random() < 0.5
                seen[name] = await _ask(http, rng.choice(replicas).url, key, name, is_streamed=is_streamed)
            except (aiohttp.ClientError, OSError, TimeoutError):
                seen[name] = Seen(0)
            if seen[name].status == 402:
                await asyncio.sleep(0.02)


async def _havoc(replicas: list[Replica], upstream: CountingUpstream, rng: random.Random, until_s: float) -> int:
    """Kills who may be in the middle of an answer, and starts it again. Returns how often."""
    loop = asyncio.get_running_loop()
    num_killed = 0
    while loop.time() < until_s - 1.0:
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        if not upstream.num_open:
            continue
        replica = rng.choice(replicas)
        replica.kill()
        replica.start()
        num_killed += 1
    return num_killed


@pytest.mark.parametrize(
    ("kind", "num_replicas", "num_clients", "seconds"),
    [
        ("sqlite", 1, 8, 6.0),
        ("postgresql", 2, 12, 8.0),
        pytest.param("sqlite", 1, 32, 60.0, marks=pytest.mark.full),
        pytest.param("postgresql", 4, 64, 180.0, marks=pytest.mark.full),
    ],
)
async def test_soak_of_money(
    kind: str,
    num_replicas: int,
    num_clients: int,
    seconds: float,
    postgresql: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    rng, seen = random.Random(0), dict[str, Seen]()
    upstream = CountingUpstream(rng, 0.002)
    async with AsyncExitStack() as stack:
        store_url = await stack.enter_async_context(_store(kind, postgresql, tmp_path))
        database = Database.open(store_url)
        stack.push_async_callback(database.close)
        keys = await _make_keys(database)
        runner = await upstream.start()
        stack.push_async_callback(runner.cleanup)
        replicas = [Replica(tmp_path / f"r{at}", store_url, upstream.url, SECRET) for at in range(num_replicas)]
        for replica in replicas:
            stack.callback(replica.close)
        until_s = asyncio.get_running_loop().time() + seconds
        clients = [_client(replicas, keys, seen, random.Random(at), until_s) for at in range(num_clients)]
        num_killed, *_ = await asyncio.gather(_havoc(replicas, upstream, rng, until_s), *clients)
        # Once more, so that all that was left by the dead is settled by the living.
        for replica in replicas:
            await asyncio.to_thread(replica.stop)
        for replica in replicas:
            replica.start()
            async with aiohttp.ClientSession() as http, http.get(f"{replica.url}/health/live") as answer:
                assert answer.status == 200
            await asyncio.to_thread(replica.stop)
        await _check(database, upstream, seen)
    record_property("kills", num_killed)
    record_property("answers", dict(Counter(told.status for told in seen.values())))


async def _check(database: Database, upstream: CountingUpstream, seen: dict[str, Seen]) -> None:
    rows = await database.read(lambda connection: _all(connection, attempts))
    balances = {row["id"]: row for row in await database.read(lambda connection: _all(connection, accounts))}
    by_user: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_user[row["user"]].append(row)
    # No budget is exceeded, no reservation is open.
    for name, limit in LIMITS.items():
        assert balances[name]["settled"] <= limit
    assert not any(row["leased"] for row in balances.values())
    assert not await Leases(database).discrepancies()
    # What was settled is the sum of the attempts.
    totals: Counter[str] = Counter()
    for row in rows:
        totals[f"key/{row['key_id']}/total"] += row["cost"]
        if row["project_id"]:
            totals[f"project/{row['project_id']}/total"] += row["cost"]
    assert {name: row["settled"] for name, row in balances.items() if name.endswith("/total")} == dict(totals)
    for name, found in by_user.items():
        assert len(found) == 1, "one server was asked once"
        (row,) = found
        if row["is_estimated"] or row["outcome"] != "answered":
            assert row["completion_tokens"] <= upstream.num_generated[name]
        else:
            assert row["completion_tokens"] == upstream.num_generated[name]
        told = seen[name]
        if told.num_tokens is not None:
            assert row["completion_tokens"] == told.num_tokens
            assert told.cost is not None
            assert row["cost"] == round(told.cost * 1e9)
    # Who was told all has paid.
    assert all(name in by_user for name, told in seen.items() if told.num_tokens)
    assert any(told.status == 402 for told in seen.values())
    assert any(row["is_estimated"] for row in rows), "nobody was killed in the middle of an answer"


async def _all(connection: Any, table: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(select(table))).mappings()]
