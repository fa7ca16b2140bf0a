"""A store in memory that does what `hodios.store` does with leases and attempts, and fails when it is told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from hodios.store.failures import StoreUnavailable
from hodios.store.records import AccountId, Balance, Grant, LoggedRequest, SettledAttempt

Fault = Literal["", "before", "after"]
"""Whether the next call fails, and whether what it asked for has been done then."""


class Book:
    def __init__(self) -> None:
        self.settled: dict[AccountId, int] = defaultdict(int)
        self.leases: dict[tuple[str, AccountId], int] = defaultdict(int)
        self.attempts: dict[tuple[str, int], SettledAttempt] = {}
        self.requests: dict[str, LoggedRequest] = {}
        self.faults: list[Fault] = []
        self.num_grants = 0

    def leased(self, account: AccountId) -> int:
        return sum(amount for (_, one), amount in self.leases.items() if one == account)

    async def grant(self, process: str, account: AccountId, limit: int, least: int, wanted: int) -> Grant:
        assert 0 < least <= wanted
        fault = self._fault()
        self.num_grants += 1
        amount = min(wanted, limit - self.settled[account] - self.leased(account))
        amount = amount if amount >= least else 0
        self.leases[process, account] += amount
        self._fail_after(fault)
        return Grant(amount, Balance(self.settled[account], self.leased(account)))

    async def give_back(self, process: str, account: AccountId, amount: int) -> None:
        fault = self._fault()
        self.leases[process, account] -= min(amount, self.leases[process, account])
        self._fail_after(fault)

    async def release(self, process: str) -> None:
        fault = self._fault()
        for name in [name for name in self.leases if name[0] == process]:
            del self.leases[name]
        self._fail_after(fault)

    async def settle(
        self, process: str, settled: Iterable[SettledAttempt], logged: Iterable[LoggedRequest] = ()
    ) -> None:
        fault = self._fault()
        for attempt in settled:
            if (attempt.request_id, attempt.number) in self.attempts:
                continue
            self.attempts[attempt.request_id, attempt.number] = attempt
            for account in attempt.accounts:
                self.settled[account] += attempt.cost or 0
                held = self.leases[process, account]
                self.leases[process, account] -= min(held, attempt.cost or 0)
        for request in logged:
            self.requests.setdefault(request.request_id, request)
        self._fail_after(fault)

    def _fault(self) -> Fault:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreUnavailable("down")
        return fault

    @staticmethod
    def _fail_after(fault: Fault) -> None:
        if fault == "after":
            raise StoreUnavailable("the answer was lost")
