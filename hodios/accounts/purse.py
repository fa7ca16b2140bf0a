"""What this process holds of each account: leased by the store, of which some is reserved and some is spent but not
written down there yet. Takes without waiting; waits for the store only where that is not enough.

Never holds more than the store has leased to it: what the store may or may not have done is counted as done where that
takes money away, and as not done where it brings some.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

from hodios.accounts.budgets import Budget
from hodios.store.records import AccountId, Grant

CHUNK_SHARE = 50
"""A lease is one part of so many of what the budget has left, so that it shrinks towards the limit."""
IDLE_S = 30.0
"""What nobody has touched for so long is given back."""


class Lender(Protocol):
    """As `store.leases.Leases`."""

    async def grant(self, process: str, account: AccountId, limit: int, least: int, wanted: int) -> Grant: ...

    async def give_back(self, process: str, account: AccountId, amount: int) -> None: ...


class _Pocket:
    """Of one account."""

    __slots__ = (
        "asking",
        "chunk",
        "leased",
        "left",
        "num_asking",
        "num_held",
        "reserved",
        "touched_s",
        "unsettled",
        "worst",
    )

    def __init__(self) -> None:
        self.leased = 0
        self.reserved = 0
        self.unsettled = 0
        self.worst = 0
        """Of all attempts under way, what they would cost at worst."""
        self.num_held = 0
        self.num_asking = 0
        """Who ask the store for more, or wait for their turn to do so; their attempts may be over by then."""
        self.left = 0
        """Of the budget beyond all leases, when the store was asked last."""
        self.chunk = 0
        self.touched_s = 0.0
        self.asking = asyncio.Lock()

    @property
    def free(self) -> int:
        return self.leased - self.reserved - self.unsettled

    @property
    def is_empty(self) -> bool:
        return not (self.leased or self.reserved or self.unsettled or self.num_held or self.num_asking)


class Purse:
    """Of one process. Amounts are nano-dollars."""

    def __init__(self, process: str, lender: Lender) -> None:
        self._process = process
        self._lender = lender
        self._pockets: dict[AccountId, _Pocket] = {}
        self._writing = _Order()
        self._asking: set[asyncio.Future[bool]] = set()

    @property
    def leased(self) -> dict[AccountId, int]:
        return {account: pocket.leased for account, pocket in self._pockets.items() if pocket.leased}

    def free(self, account: AccountId) -> int:
        pocket = self._pockets.get(account)
        return pocket.free if pocket else 0

    def headroom(self, budgets: Iterable[Budget]) -> int | None:
        """What the tightest of them has left, as far as is known here; None where there are none."""
        pockets = (self._pockets.get(budget.account) for budget in budgets)
        return min((max(0, pocket.free + pocket.left) if pocket else 0 for pocket in pockets), default=None)

    def worst_under_way(self, budgets: Iterable[Budget]) -> int:
        """What all attempts under way would cost at worst, on that account on which it is the most."""
        pockets = (self._pockets.get(budget.account) for budget in budgets)
        return max((pocket.worst if pocket else 0 for pocket in pockets), default=0)

    def begin(self, budgets: Iterable[Budget], worst: int, now_s: float) -> None:
        """An attempt is under way from here to `end`."""
        for budget in budgets:
            pocket = self._pocket(budget.account)
            pocket.num_held += 1
            pocket.worst += worst
            pocket.touched_s = now_s

    def take(self, budgets: tuple[Budget, ...], amount: int, *, is_forced: bool = False) -> Budget | None:
        """Reserve it on all of them or on none; returns one that has too little. Forced, it is reserved regardless."""
        if not is_forced:
            for budget in budgets:
                if self.free(budget.account) < amount:
                    return budget
        for budget in budgets:
            self._pocket(budget.account).reserved += amount
        return None

    def put_back(self, budgets: Iterable[Budget], amount: int) -> None:
        """It was reserved and is not any more."""
        for budget in budgets:
            self._pockets[budget.account].reserved -= amount

    def end(self, budgets: Iterable[Budget], worst: int) -> None:
        """The attempt that began with these is over."""
        for budget in budgets:
            pocket = self._pockets[budget.account]
            pocket.num_held -= 1
            pocket.worst -= worst

    def spend(self, accounts: Iterable[AccountId], cost: int) -> None:
        """It will be charged to these accounts, with and without a budget, once the store is told."""
        pockets = self._pockets
        for account in accounts if cost else ():
            pocket = pockets.get(account) or self._pocket(account)
            pocket.unsettled += cost

    async def reserve(self, budgets: tuple[Budget, ...], amount: int) -> Budget | None:
        """Take it, and lease what is missing, between `begin` and `end`. Returns a budget that has not as much left, or
        None. Raises StoreUnavailable where the leases are too small and the store cannot be asked."""
        while (lacking := self.take(budgets, amount)) is not None:
            # Whoever asked may leave meanwhile; what the store has granted is counted all the same.
            asking = asyncio.ensure_future(self._top_up(lacking, amount))
            self._asking.add(asking)
            asking.add_done_callback(self._asked)
            if not await asyncio.shield(asking):
                return lacking
        return None

    @contextlib.asynccontextmanager
    async def settling(self, costs: Mapping[AccountId, int]) -> AsyncIterator[None]:
        """While the store is told what these accounts are charged. It does not lease anything meanwhile, so that both
        agree on what leases have covered. Where the block raises, nothing is taken to have happened."""
        async with self._writing.alone():
            yield
            for account, cost in costs.items():
                pocket = self._pockets[account]
                pocket.unsettled -= cost
                pocket.leased = max(0, pocket.leased - cost)
                self._forget(account)

    async def give_back(self, now_s: float, idle_s: float = IDLE_S) -> None:
        """What accounts have free that nobody has touched for so long. Raises StoreUnavailable; what was to be given
        back then stays leased to the process until its end."""
        for account, pocket in list(self._pockets.items()):
            if pocket.num_held or pocket.num_asking or now_s - pocket.touched_s < idle_s:
                continue
            amount = max(0, pocket.free)
            if amount:
                pocket.leased -= amount
                async with pocket.asking, self._writing.shared():
                    await self._lender.give_back(self._process, account, amount)
            self._forget(account)

    async def _top_up(self, budget: Budget, amount: int) -> bool:
        """Lease more, so that `amount` could be taken. Whether it can now, unless others are quicker: those who want
        the same account ask one after the other, and most of them find what the one before has brought."""
        pocket = self._pocket(budget.account)
        pocket.num_asking += 1
        try:
            return await self._ask(pocket, budget, amount)
        finally:
            pocket.num_asking -= 1

    async def _ask(self, pocket: _Pocket, budget: Budget, amount: int) -> bool:
        async with pocket.asking:
            least = amount - pocket.free
            if least <= 0:
                return True
            async with self._writing.shared():
                wanted = least + pocket.chunk
                grant = await self._lender.grant(self._process, budget.account, budget.limit, least, wanted)
            balance = grant.balance
            pocket.left = max(0, budget.limit - balance.settled - balance.leased)
            pocket.chunk = pocket.left // CHUNK_SHARE
            pocket.leased += grant.amount
            return grant.amount > 0

    async def quiet(self) -> None:
        """Returns when the store is asked for nothing any more."""
        while self._asking:
            await asyncio.wait(self._asking)

    def _asked(self, asking: asyncio.Future[bool]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()

    def _pocket(self, account: AccountId) -> _Pocket:
        pocket = self._pockets.get(account)
        if pocket is None:
            pocket = self._pockets[account] = _Pocket()
        return pocket

    def _forget(self, account: AccountId) -> None:
        pocket = self._pockets.get(account)
        if pocket is not None and pocket.is_empty:
            del self._pockets[account]


class _Order:
    """Many at the same time, or one alone. Whoever wants to be alone goes before those who come after."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._num_inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._turn:
            self._num_inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._num_inside -= 1
            if not self._num_inside:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._empty.wait()
            yield
