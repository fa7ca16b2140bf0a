"""A program that spends a key's budget, as much of it as it can, over a real store, and says what it uses.

`python spender.py HOME URL KEY SEED`: lines `[request id, tokens]` before accounts are told of them, then
`["settled", request id, cost]`, and at the end `["spent"]`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from hodios.accounts.accounts import Accounts, Offer, Store, keeping
from hodios.accounts.entries import Spent
from hodios.accounts.keyring import Admitted
from hodios.accounts.limits import LocalLimiter
from hodios.errors import InsufficientQuota
from hodios.store import versioned
from hodios.store.database import Database
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.projects import Projects
from hodios.types import Price

SECRET = b"secret"
PRICE = Price(prompt=200_000_000, completion=1_000_000_000, request=3)
NUM_AT_ONCE = 8
NUM_REFUSALS = 6


def store_of(database: Database) -> Store:
    return Store(
        keys=Keys(database),
        projects=Projects(database),
        version=lambda: versioned.version(database),
        leases=Leases(database),
        ledger=Ledger(database),
    )


async def main() -> None:
    home, url, text, seed = sys.argv[1:]
    database = Database.open(url)
    limiter = LocalLimiter(time.monotonic_ns)
    async with keeping(Path(home), store_of(database), limiter, SECRET) as accounts:
        admitted = await accounts.admit(text)
        rng = random.Random(int(seed))
        await asyncio.gather(*(spend(accounts, admitted, rng, f"{seed}-{at}") for at in range(NUM_AT_ONCE)))
    await database.close()
    tell("spent")


async def spend(accounts: Accounts, admitted: Admitted, rng: random.Random, name: str) -> None:
    num_refusals = number = 0
    while num_refusals < NUM_REFUSALS:
        number += 1
        most = rng.choice([10, 100, 1000])
        offer = Offer(
            model="m", provider="x", price=PRICE, prompt_tokens=50, most_completion_tokens=most, has_progress=True
        )
        try:
            reservation = await accounts.reserve(admitted, f"{name}-{number}", 1, offer)
        except InsufficientQuota:
            num_refusals += 1
            await asyncio.sleep(0.05)
            continue
        num_refusals = 0
        used = Spent(prompt_tokens=50, cached_tokens=0, completion_tokens=0)
        for tokens in range(10, rng.randint(10, most) + 1, 10):
            used = Spent(prompt_tokens=50, cached_tokens=0, completion_tokens=tokens)
            tell(f"{name}-{number}", tokens)
            if not (accounts.progress(reservation, used) or await accounts.more(reservation)):
                break
            await asyncio.sleep(0)
        cost = accounts.settle(reservation, "answered", used)
        tell("settled", f"{name}-{number}", cost)


def tell(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
