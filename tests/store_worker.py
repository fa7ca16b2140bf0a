"""A process that settles without end, and says what is settled: `python store_worker.py URL NAME`. It is there to be
killed."""

from __future__ import annotations

import asyncio
import itertools
import sys

from store_entries import TOTAL, attempt, request

from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger


async def main(url: str, name: str) -> None:
    database = Database.open(url)
    leases, ledger = Leases(database), Ledger(database)
    for number in itertools.count():
        grant = await leases.grant(name, TOTAL, 10**9, 1, 20)
        assert grant.amount == 20
        ids = [f"{name}-{number}-{n}" for n in range(3)]
        await ledger.settle(name, [attempt(id, cost=5) for id in ids], [request(id) for id in ids])
        print(number, flush=True)  # noqa: T201 - it is how it tells


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
