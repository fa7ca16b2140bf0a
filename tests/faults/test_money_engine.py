"""The engine on this machine and its API process are killed while keys pay for their answers: what was generated is
charged once, and no budget is exceeded."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from books import Books, check_budgets, check_costs, check_sums
from live_server import MODEL, PATIENCE_S, LiveServer, start, until

from hodios.store.database import Database

NANO_A_TOKEN = 1000
MOST_TOKENS = 60
NUM_CLIENTS = 6
BUDGETS = {"small": 500, "large": 10_000_000}
"""Tokens."""


@dataclass(frozen=True)
class Told:
    """What a client saw of one answer."""

    status: int
    id: str = ""
    cost: float | None = None
    num_pieces: int = 0


@pytest.fixture
def server(cache_home: Path, starter_model_path: Path, tmp_path: Path) -> Iterator[LiveServer]:
    """With accounts of its own, and a price for what it generates: a dollar per million tokens."""
    home = tmp_path / "home"
    home.mkdir()
    for folder in ("models", "cache"):
        # In a fresh checkout nothing was cached yet.
        (cache_home / folder).mkdir(exist_ok=True)
        (home / folder).symlink_to(cache_home / folder)
    prices = {"local": {"prices": {MODEL: {"prompt": "1", "completion": "1"}}}}
    server = start(
        home,
        tmp_path / "log.txt",
        HODIOS_PROVIDERS=json.dumps(prices),
        HODIOS_KV_CACHE_BYTES="64MiB",
    )
    yield server
    if server.process.poll() is None:
        server.stop()


async def _new_key(http: aiohttp.ClientSession, server: LiveServer, name: str) -> tuple[str, str]:
    """(id, text)"""
    body = {"name": name, "budget": {"total": f"{BUDGETS[name] * NANO_A_TOKEN / 1e9:.9f}"}}
    async with http.post(f"{server.url}/admin/v1/keys", json=body, headers=server.headers) as answer:
        made = await answer.json()
        assert answer.status == 201, made
        return made["id"], made["key"]


async def _ask(http: aiohttp.ClientSession, server: LiveServer, key: str, rng: random.Random, begun: set[int]) -> Told:
    """It is among the `begun` while its answer is on its way."""
    number = rng.randrange(10**9)
    most = rng.randint(MOST_TOKENS // 3, MOST_TOKENS)
    body = {"model": MODEL, "prompt": f"Tell me of {number}", "max_tokens": most, "ignore_eos": True}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    id, cost, num_pieces = "", None, 0
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with http.post(f"{server.url}/v1/completions", json=body, headers=headers) as answer:
            if answer.status != 200:
                return Told(answer.status)
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    id = event.get("id", id)
                    cost = event["usage"]["cost"] if event.get("usage") else cost
                    num_pieces += any(choice.get("text") for choice in event.get("choices", ()))
                    if num_pieces > 1:
                        begun.add(number)
    except (aiohttp.ClientError, ConnectionError):
        return Told(0, id, cost, num_pieces)
    finally:
        begun.discard(number)
    return Told(200, id, cost, num_pieces)


async def _spend(
    server: LiveServer, keys: Sequence[str], told: list[Told], begun: set[int], is_over: asyncio.Event, seed: int
) -> None:
    rng = random.Random(seed)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:
        while not is_over.is_set():
            told.append(await _ask(http, server, rng.choice(keys), rng, begun))
            await asyncio.sleep(0 if told[-1].status == 200 else 0.1)


async def _kill(server: LiveServer, told: list[Told], begun: set[int], victims: Sequence[str]) -> None:
    """Each of them in turn, once answers have come since the one before, and others are on their way."""
    for victim in victims:
        before = len(told)

        def is_busy(before: int = before) -> bool:
            return bool(begun) and sum(one.status == 200 for one in told[before:]) >= NUM_CLIENTS

        await asyncio.to_thread(until, is_busy, server.told, 0.01)
        pid = server.pid_of(victim)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: server.pid_of(victim) not in (None, pid), server.told)  # noqa: B023


ENGINE, API = "hodios.engine.worker", "hodios.api"


@pytest.mark.parametrize(
    "victims",
    [
        pytest.param([ENGINE, API], id="once"),
        pytest.param([ENGINE, API, ENGINE, ENGINE, API] * 3, id="often", marks=(pytest.mark.full, pytest.mark.soak)),
    ],
)
async def test_soak_of_money_with_the_engine(server: LiveServer, victims: Sequence[str], tmp_path: Path) -> None:
    told: list[Told] = []
    begun: set[int] = set()
    is_over = asyncio.Event()
    async with aiohttp.ClientSession() as http:
        keys = dict([await _new_key(http, server, name) for name in BUDGETS])
        ids = dict(zip(keys, BUDGETS, strict=True))
    async with asyncio.TaskGroup() as tasks:
        for seed in range(NUM_CLIENTS):
            tasks.create_task(_spend(server, list(keys.values()), told, begun, is_over, seed))
        await _kill(server, told, begun, victims)
        await asyncio.to_thread(until, lambda: any(one.status == 402 for one in told), server.told)
        is_over.set()
    assert await asyncio.to_thread(server.stop) == 0
    assert [*(tmp_path / "home" / "journal").iterdir()] == []
    database = Database.open(f"sqlite:///{tmp_path}/home/hodios.db")
    books = await Books.read(database)
    await database.close()
    check_budgets(books, {f"key/{id}/total": BUDGETS[name] * NANO_A_TOKEN for id, name in ids.items()})
    check_sums(books)
    check_costs(books, {"local": NANO_A_TOKEN})
    _check_told(books, told)
    outcomes = Counter(row["outcome"] for row in books.attempts)
    num_estimated = sum(row["is_estimated"] for row in books.attempts)
    assert num_estimated > 0, "no API process was killed in the middle of an answer"
    assert outcomes["broke_off"] > 0
    told_of = Counter(one.status for one in told)
    sys.stdout.write(
        f"killed: {dict(Counter(victims))}; answers by status: {dict(told_of)}; attempts: {dict(outcomes)}, "
        f"{num_estimated} of them cut by a kill of the API\n"
    )


def _check_told(books: Books, told: Sequence[Told]) -> None:
    by_request = books.by("request_id")
    for one in told:
        rows: Sequence[Any] = by_request.get((one.id,), [])
        num_charged = sum(row["completion_tokens"] for row in rows)
        # The journal may be one piece behind what a process had sent when it was killed.
        assert one.num_pieces <= num_charged + 1, (one, rows)
        assert num_charged <= MOST_TOKENS, rows
        if one.cost is not None:
            assert round(one.cost * 1e9) == sum(row["cost"] for row in rows) > 0
