"""Processes are killed in the middle of what they do: what they were told is settled is, and the books add up."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from store_entries import TOTAL

from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.records import Balance
from hodios.store.reports import Chosen, Reports, Wanted

WORKER = Path(__file__).parents[1] / "store_worker.py"
NUM_PROCESSES = 2
COST, NUM_IN_BATCH = 5, 3


async def killed(url: str, name: str, rng: random.Random) -> int:
    """How many batches the process had been told are settled when it was killed."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(WORKER), url, name, stdout=PIPE)
    assert process.stdout is not None
    told = [await process.stdout.readline() for _ in range(rng.randrange(3, 20))]
    await asyncio.sleep(rng.random() * 0.01)
    process.kill()
    rest, _ = await process.communicate()
    return len(told) + rest.count(b"\n")


async def test_nothing_is_lost_or_counted_twice(store_url: str) -> None:
    rng = random.Random(store_url.startswith("sqlite"))
    names = [f"process-{n}" for n in range(NUM_PROCESSES)]
    told = await asyncio.gather(*(killed(store_url, name, rng) for name in names))
    database = Database.open(store_url)
    reports, leases = Reports(database), Leases(database)
    entries = [entry async for entry in reports.all_attempts(Wanted())]
    for name, num_batches in zip(names, told, strict=True):
        own = [entry for entry in entries if entry.request_id.startswith(name)]
        assert len(own) in (NUM_IN_BATCH * num_batches, NUM_IN_BATCH * (num_batches + 1))
    assert len([entry async for entry in reports.all_requests(Wanted())]) == len(entries)
    (spend,) = await reports.spend([], Chosen(since_s=0, until_s=1e10))
    assert spend.cost == COST * len(entries)
    assert await leases.discrepancies() == []
    for name in names:
        await leases.release(name)
    assert await leases.balances([TOTAL]) == {TOTAL: Balance(COST * len(entries), 0)}
    await database.close()
