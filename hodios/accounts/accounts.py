"""The one door to accounts: who asks, whether it may ask now, what that may cost, and what it did cost.

Puts the parts together and keeps their background tasks. What is held here outlives the process in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from hodios.accounts.background import repeat
from hodios.accounts.budgets import Charging, charging_of
from hodios.accounts.drain import Bookkeeper, Drain
from hodios.accounts.entries import Opening, Spent, packed
from hodios.accounts.idempotency import Idempotency
from hodios.accounts.journal import Journal
from hodios.accounts.journal_format import Outcome
from hodios.accounts.keyring import Admitted, Keyring, KeyShelf, ProjectShelf
from hodios.accounts.limits import FREE, Limiter, Permit, Refusal, Scope, Standing, scopes_of
from hodios.accounts.purse import Lender, Purse
from hodios.accounts.replay import Releaser, replay
from hodios.accounts.reservations import Reservation, Reservations, Wanted
from hodios.accounts.waiting import WaitingRoom
from hodios.store.failures import StoreUnavailable
from hodios.store.records import LoggedRequest, SettledAttempt
from hodios.types import Price

COMMIT_S = 0.1
"""What a loss of power may cost at most."""
GIVE_BACK_S = 10.0
REPLAY_S = 60.0
"""How often dead neighbours are looked for."""
DAY_S = 86_400
MOST_STANDINGS = 4096
FLUSH_S = 10.0
"""At the end, for what the store does not have yet."""
LONGEST_USER = 1000
"""Characters of what clients call the person on whose behalf they ask; the store keeps no more of it."""
_log = logging.getLogger(__name__)


class Leaser(Lender, Releaser, Protocol):
    """As `store.leases.Leases`."""


class Store(Struct, frozen=True):
    """What accounts need of it."""

    keys: KeyShelf
    projects: ProjectShelf
    version: Callable[[], Awaitable[int]]
    leases: Leaser
    ledger: Bookkeeper


class Offer(Struct, frozen=True, kw_only=True):
    """Whom an attempt would ask, for what."""

    model: str
    provider: str
    price: Price
    prompt_tokens: int
    """As counted, or no fewer than there are; of a key without budgets it may be 0."""
    most_completion_tokens: int
    """Of all choices together."""
    num_choices: int = 1
    has_progress: bool = False
    """Whether `progress` is told piece by piece. Only then less than the worst case may be reserved."""
    user: str | None = None


class _Standing(Struct, frozen=True):
    """What follows from the records of a key and its project on one day."""

    admitted: Admitted
    """Held here, since it is found by its identity."""
    since_s: float
    until_s: float
    charging: Charging
    scopes: tuple[Scope, ...]
    limits_tokens: bool


class Figures(Struct, frozen=True, kw_only=True):
    """For health and metrics. Money in nano-dollars."""

    num_held: int
    num_waiting: int
    num_undrained: int
    journal_bytes: int
    num_failed_commits: int
    leased: int
    is_degraded: bool
    """Whether the store could not be reached last."""
    limits: Standing
    num_sharing: int
    """Processes that have limits in common, as counted last."""


class Accounts:
    """Of one process and one event loop; `keeping` makes it and ends it. `clock_s` gives Unix seconds."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        limiter: Limiter,
        secret: bytes,
        *,
        clock_s: Callable[[], float] = time.time,
        rng: random.Random,
    ) -> None:
        self.idempotency = Idempotency()
        self._journal = journal
        self._store = store
        self._limiter = limiter
        self._clock_s = clock_s
        self._purse = Purse(journal.process, store.leases)
        self._drain = Drain(journal.process, store.ledger, self._purse, rng)
        self._keyring = Keyring(secret, store.keys, store.projects, store.version, clock_s)
        self._room = WaitingRoom(limiter.release)
        self._reservations = Reservations(journal, self._purse, self._pass_on)
        self._standings: dict[int, _Standing] = {}

    @property
    def process(self) -> str:
        """The name by which this process is known to the store."""
        return self._journal.process

    async def admit(self, text: str) -> Admitted:
        """Whose key it is. Raises AuthenticationError, and Overloaded where nobody can tell."""
        return await self._keyring.admit(text)

    def remembered(self, text: bytes) -> bytes | None:
        """The digest of a key that was good once, for `admit_remembered`; None of every other text."""
        return self._keyring.remembered(text)

    def admit_remembered(self, digest: bytes) -> Coroutine[None, None, Admitted]:
        """As `admit`."""
        return self._keyring.admit_remembered(digest)

    async def admit_current(self, text: str) -> Admitted:
        """As `admit`, but not of a key that was replaced."""
        return await self._keyring.admit_current(text)

    async def admit_again(self, digest: bytes) -> Admitted:
        """As `admit_current`, of a key that was shown before."""
        return await self._keyring.admit_again(digest)

    async def permit(
        self, admitted: Admitted, request_id: str, count_tokens: Callable[[], int], timeout_s: float
    ) -> Permit | Refusal:
        """Let the request pass the limits; keys that queue wait for so long. How many tokens it expects is counted only
        where somebody limits them. Whoever gets a permit ends it with `leave`; `limits.refused` says what a client is
        told of a refusal."""
        standing = self._standing(admitted, self._clock_s())
        key, scopes = admitted.key, standing.scopes
        if not scopes:
            return FREE
        num_tokens = count_tokens() if standing.limits_tokens else 0
        if not key.is_queueing:
            return await self._limiter.take(request_id, scopes, num_tokens)

        async def attempt() -> Permit | Refusal:
            return await self._limiter.take(request_id, scopes, num_tokens)

        # Who comes now must not overtake those of its key who wait.
        outcome = self._room.last_refusal(key.id) or await attempt()
        if isinstance(outcome, Refusal):
            outcome = await self._room.wait(key.id, key.priority, attempt, outcome, timeout_s)
        return outcome

    def leave(self, permit: Permit, num_tokens: int | None = None) -> None:
        """The request is over; so many tokens were really used, None: as expected."""
        if permit is FREE:
            return
        if num_tokens is not None and permit.scopes and not permit.is_released:
            self._limiter.settle(permit, num_tokens)
        self._limiter.release(permit)
        self._room.nudge()

    async def reserve(self, admitted: Admitted, request_id: str, number: int, offer: Offer) -> Reservation:
        """Before each attempt, the first one is 1. Ends with `settle`, or with `release` where the attempt is not made.
        Raises InsufficientQuota, Overloaded."""
        now_s = self._clock_s()
        key = admitted.key
        charging = self._standing(admitted, now_s).charging
        opening = Opening(
            request_id=request_id,
            number=number,
            key_id=key.id,
            project_id=admitted.project.id if admitted.project else None,
            user=_bounded(offer.user),
            model=offer.model,
            provider=offer.provider,
            price=offer.price,
            accounts=charging.accounts,
        )
        wanted = Wanted(
            opening=opening,
            budgets=charging.budgets,
            prompt_tokens=offer.prompt_tokens,
            most_completion_tokens=offer.most_completion_tokens,
            num_choices=offer.num_choices,
            has_progress=offer.has_progress,
            is_open_without_store=key.on_store_error == "open",
        )
        return await self._reservations.hold(wanted, now_s)

    def _standing(self, admitted: Admitted, now_s: float) -> _Standing:
        """It changes with the day, and with the records, which are others then."""
        found = self._standings.get(id(admitted))
        if found is None or not found.since_s <= now_s < found.until_s:
            if len(self._standings) >= MOST_STANDINGS:
                self._standings.clear()
            key, project, since_s = admitted.key, admitted.project, now_s // DAY_S * DAY_S
            scopes = scopes_of(key, project)
            limits_tokens = any(scope.limits.tokens_per_minute is not None for scope in scopes)
            charging = charging_of(key, project, now_s)
            found = _Standing(admitted, since_s, since_s + DAY_S, charging, scopes, limits_tokens)
            self._standings[id(admitted)] = found
        return found

    def has_limits(self, admitted: Admitted) -> bool:
        """Whether `permit` has anything to look at; if not, `FREE` is the permit."""
        return bool(self._standing(admitted, self._clock_s()).scopes)

    def has_budget(self, admitted: Admitted) -> bool:
        """Whether `reserve` has to know how many tokens a prompt has at most."""
        return bool(self._standing(admitted, self._clock_s()).charging.budgets)

    def progress(self, reservation: Reservation, spent: Spent) -> bool:
        """After each piece of an answer. Whether it may go on; if not, `more` says whether it must end."""
        return self._reservations.progress(reservation, spent)

    def came(self, reservation: Reservation, spent: Spent) -> None:
        """The whole answer is there, and nobody has seen anything of it. `settle` follows."""
        self._reservations.came(reservation, spent)

    async def more(self, reservation: Reservation) -> bool:
        """Waits for what is to be had besides. Whether the answer may go on; if not, a budget is spent."""
        return await self._reservations.more(reservation)

    def settle(
        self, reservation: Reservation, outcome: Outcome, spent: Spent, *, is_estimated: bool = False
    ) -> int | None:
        """The attempt is over. Returns its cost in nano-dollars; None where nobody says what it costs."""
        return self._reservations.settle(reservation, outcome, spent, self._clock_s(), is_estimated=is_estimated)

    def release(self, reservation: Reservation) -> None:
        """The attempt is not made."""
        self._reservations.release(reservation)

    def log(self, request: LoggedRequest) -> None:
        """The request is over. Raises Overloaded where that cannot be written down, ValueError where its route is too
        long for that."""
        if request.user is not None and len(request.user) > LONGEST_USER:
            request = msgspec.structs.replace(request, user=_bounded(request.user))
        self._drain.add(request, self._journal.free, self._journal.log(packed(request)))

    def figures(self) -> Figures:
        return Figures(
            num_held=self._reservations.num_held,
            num_waiting=len(self._room),
            num_undrained=len(self._drain),
            journal_bytes=self._journal.num_bytes,
            num_failed_commits=self._journal.num_failed_commits,
            leased=sum(self._purse.leased.values()),
            is_degraded=self._keyring.is_degraded or self._drain.num_failures > 0,
            limits=self._limiter.standing,
            num_sharing=self._limiter.num_sharing,
        )

    async def run(self, home: Path) -> None:
        """Until it is cancelled."""

        async def look_for_dead() -> float:
            return await self._replay(home)

        async def keep_limits() -> float:
            await self._limiter.run()
            return REPLAY_S

        steps = (keep_limits, self._drain.step, self._keyring.poll, self._commit, self._give_back, look_for_dead)
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                tasks.create_task(repeat(step))

    async def close(self) -> bool:
        """After `run` has ended. Whether nothing is left; if something is, the next process to start settles it."""
        is_done = False
        try:
            await self._room.close()
            self._reservations.close()
            await self._purse.quiet()
            if await self._drain.flush(FLUSH_S) and not self._reservations.num_held:
                await self._store.leases.release(self._journal.process)
                is_done = True
            else:
                await self._journal.commit()
        except StoreUnavailable as error:
            _log.warning("leases cannot be given back now (%s): the next start does", error)
        finally:
            await asyncio.to_thread(lambda: self._journal.close(is_done=is_done))
        return is_done

    def _pass_on(self, reservation: Reservation, attempt: SettledAttempt) -> None:
        self._drain.add(attempt, self._reservations.forget, reservation)

    async def _commit(self) -> float:
        await self._journal.commit()
        return COMMIT_S

    async def _give_back(self) -> float:
        with contextlib.suppress(StoreUnavailable):
            await self._purse.give_back(self._clock_s())
        return GIVE_BACK_S

    async def _replay(self, home: Path) -> float:
        try:
            await replay(home, self._store.ledger, self._store.leases)
        except StoreUnavailable as error:
            _log.warning("what dead processes have left cannot be settled yet: %s", error)
        return REPLAY_S


def _bounded(user: str | None) -> str | None:
    return user and user[:LONGEST_USER]


@contextlib.asynccontextmanager
async def keeping(
    home: Path, store: Store, limiter: Limiter, secret: bytes, rng: random.Random | None = None
) -> AsyncGenerator[Accounts, None]:
    """Accounts at work within the block. Raises SetupError where the journal cannot be kept."""
    journal = await asyncio.to_thread(Journal, home)
    accounts = Accounts(journal, store, limiter, secret, rng=rng or random.Random())
    task = asyncio.create_task(accounts.run(home))
    try:
        yield accounts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await accounts.close()
