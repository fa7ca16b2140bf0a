"""Accounts and the store together: several processes spend one budget, and no more than that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

from hodios.accounts.accounts import Accounts, Offer, Store, keeping
from hodios.accounts.entries import Spent
from hodios.accounts.keyring import mint
from hodios.accounts.limits import LocalLimiter
from hodios.errors import InsufficientQuota
from hodios.store.database import Database
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.projects import Projects
from hodios.store.records import AccountId, Balance, Budgets, KeyRecord, ProjectRecord
from hodios.store.reports import Chosen, Reports
from hodios.store.versioned import version
from hodios.types import Price

SECRET = b"a server's own secret, of 32 bytes"
PRICE = Price(prompt=200_000_000, completion=1_000_000_000)
"""200 and 1000 nano-dollars a token."""
LIMIT, MOST_TOKENS = 3_000_000, 500


def store_in(database: Database) -> Store:
    return Store(
        keys=Keys(database),
        projects=Projects(database),
        version=lambda: version(database),
        leases=Leases(database),
        ledger=Ledger(database),
    )


async def ask(accounts: Accounts, key: str, request_id: str, num_tokens: int) -> int:
    """What it cost; 0 where it was refused."""
    admitted = await accounts.admit(key)
    offer = Offer(model="m", provider="v", price=PRICE, prompt_tokens=100, most_completion_tokens=MOST_TOKENS)
    try:
        reservation = await accounts.reserve(admitted, request_id, 1, offer)
    except InsufficientQuota:
        return 0
    for told in range(0, num_tokens, 50):
        if not accounts.progress(reservation, Spent(prompt_tokens=100, cached_tokens=0, completion_tokens=told)):
            num_tokens = told
            break
        await asyncio.sleep(0)
    spent = Spent(prompt_tokens=100, cached_tokens=0, completion_tokens=num_tokens)
    return accounts.settle(reservation, "answered", spent) or 0


async def test_processes_share_a_budget_and_none_exceeds_it(store_url: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    key = mint(SECRET, os.urandom)
    databases = [Database.open(store_url) for _ in range(3)]
    await Projects(databases[0]).create(ProjectRecord(id="p1", budgets=Budgets(total=LIMIT), created_at_s=0))
    record = KeyRecord(id="k1", prefix=key.prefix, digest=key.digest, project_id="p1", created_at_s=0)
    await Keys(databases[0]).create(record)
    used = 0
    async with contextlib.AsyncExitStack() as stack:
        doors = []
        for number, database in enumerate(databases):
            limiter = LocalLimiter(time.monotonic_ns)
            kept = keeping(tmp_path / str(number), store_in(database), limiter, SECRET, random.Random(number))
            doors.append(await stack.enter_async_context(kept))
        for wave in range(5):
            asked = (ask(doors[n % 3], key.text, f"{wave}-{n}", rng.randrange(1, MOST_TOKENS)) for n in range(15))
            used += sum(await asyncio.gather(*asked))
    leases, total = Leases(databases[0]), AccountId("project", "p1", "total")
    assert LIMIT / 3 < used <= LIMIT
    assert await leases.balances([total]) == {total: Balance(used, 0)}
    assert await leases.discrepancies() == []
    (spend,) = await Reports(databases[0]).spend(["key_id"], Chosen(since_s=0, until_s=1e10))
    assert (spend.group, spend.cost) == (("k1",), used)
    for database in databases:
        await database.close()
