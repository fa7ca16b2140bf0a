"""Money for attempts: reserved before one is made, more of it while an answer grows, and settled or released once.

A reservation is (request id, attempt number): held → settled | released. All that it comes to is in the journal before
anybody is told, so that it is settled once even if this process does not live to see it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from hodios.accounts.budgets import Budget, resets_at_s
from hodios.accounts.entries import Headings, Opening, Spent, cost_of, settled_attempt
from hodios.accounts.estimate import Lengths, has_room, likely_completion, worst_case
from hodios.accounts.journal import Handle, Journal
from hodios.accounts.journal_format import Outcome
from hodios.accounts.purse import Purse
from hodios.errors import InsufficientQuota, Overloaded
from hodios.money import dollars
from hodios.store.failures import StoreUnavailable
from hodios.store.records import SettledAttempt
from hodios.types import Price

NUM_AHEAD = 128
"""Tokens: where a reservation lasts for fewer, or for fewer than 8 pieces of the answer, more is taken."""
NUM_SPARE = 16
"""Tokens: where it lasts for fewer, or for fewer than 2 pieces, and no more is to be had, the answer must end."""
RETRY_AFTER_S = 5


class Wanted(Struct, frozen=True, kw_only=True):
    """An attempt that is to be made."""

    opening: Opening
    budgets: tuple[Budget, ...]
    prompt_tokens: int
    """As counted, or no fewer than there are."""
    most_completion_tokens: int
    """Of all choices together, which whoever answers is held to."""
    num_choices: int = 1
    has_progress: bool = False
    """Whether `progress` is told while it is answered; if not, the worst case is reserved."""
    is_open_without_store: bool = False
    """Whether it is made even where the leases are too small and the store cannot be asked."""


class Reservation:
    """Of one attempt. `cost` means something once it is settled."""

    __slots__ = (
        "budgets",
        "cost",
        "growing",
        "handle",
        "largest_piece",
        "phase",
        "reserved",
        "spent",
        "wanted",
        "worst",
    )

    def __init__(self, wanted: Wanted, worst: int, reserved: int) -> None:
        self.wanted = wanted
        self.worst = worst
        self.budgets = wanted.budgets if worst else ()
        """None where it can cost nothing."""
        self.reserved = reserved
        self.phase: Literal["held", "settled", "released"] = "held"
        self.spent = Spent(prompt_tokens=wanted.prompt_tokens, cached_tokens=0, completion_tokens=0)
        self.largest_piece = 0
        """Tokens that have come at once."""
        self.cost: int | None = None
        self.handle: Handle | None = None
        """None before it is in the journal, and when it is not there any more."""
        self.growing: asyncio.Task[None] | None = None


class Reservations:
    """Of one process. `on_settled` is told of each that was settled, once, with what the store is to be told; it calls
    `forget` when the store has it."""

    def __init__(
        self, journal: Journal, purse: Purse, on_settled: Callable[[Reservation, SettledAttempt], None]
    ) -> None:
        self._journal = journal
        self._purse = purse
        self._on_settled = on_settled
        self._known: dict[tuple[str, int], Reservation] = {}
        self._headings = Headings()
        self._lengths: dict[str, Lengths] = defaultdict(Lengths)
        self.num_held = 0

    async def hold(self, wanted: Wanted, now_s: float) -> Reservation:
        """Raises InsufficientQuota where a budget has not enough left, Overloaded where nobody can tell now or it
        cannot be written down, ValueError for an attempt that is known already."""
        opening = wanted.opening
        name = (opening.request_id, opening.number)
        if name in self._known:
            raise ValueError(f"attempt {opening.number} of request {opening.request_id} has been reserved already")
        worst = 0
        if wanted.budgets:
            _check_price(wanted)
            worst = worst_case(opening.price, wanted.prompt_tokens, wanted.most_completion_tokens)
        reservation = self._known[name] = Reservation(wanted, worst, 0)
        budgets = reservation.budgets
        self._purse.begin(budgets, worst, now_s)
        try:
            if budgets:
                reservation.largest_piece = self._lengths[opening.model].largest_piece
                amount = self._amount(reservation)
                await self._take(reservation, amount)
                reservation.reserved = amount
            reservation.handle = self._journal.hold(self._headings.text(opening), wanted.prompt_tokens, now_s)
        except BaseException:
            self._purse.put_back(budgets, reservation.reserved)
            self._purse.end(budgets, worst)
            del self._known[name]
            raise
        self.num_held += 1
        return reservation

    def progress(self, reservation: Reservation, spent: Spent) -> bool:
        """So much was generated by now. Whether the answer may go on: if not, nothing is at hand for what comes next,
        and `more` says whether there is more."""
        if reservation.phase != "held":
            raise ValueError(f"a reservation that is {reservation.phase} has no progress")
        _count(reservation, spent)
        assert reservation.handle is not None
        self._journal.progress(reservation.handle, spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens)
        if not reservation.budgets:
            return True
        price = reservation.wanted.opening.price
        if not price.is_known:
            return True
        cost = cost_of(price, spent) or 0
        num_ahead = max(NUM_AHEAD, 8 * reservation.largest_piece)
        if _missing(reservation, cost, num_ahead) <= 0 or self._grow(reservation, cost, num_ahead):
            return True
        return _missing(reservation, cost, _spare(reservation)) <= 0

    def came(self, reservation: Reservation, spent: Spent) -> None:
        """All of the answer has come at once, and nobody has seen anything of it. In most cases it is settled before
        the event loop turns; only where something is waited for before, this is written down by itself."""
        _count(reservation, spent)
        asyncio.get_running_loop().call_soon(self._write_down, reservation)

    def _write_down(self, reservation: Reservation) -> None:
        if reservation.phase == "held" and reservation.handle is not None:
            spent = reservation.spent
            self._journal.progress(
                reservation.handle, spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens
            )

    async def more(self, reservation: Reservation) -> bool:
        """After `progress` has said no: waits for what was asked for. Whether the answer may go on."""
        while reservation.growing is not None:
            before = reservation.reserved
            await asyncio.wait([reservation.growing])
            if reservation.phase != "held" or reservation.reserved == before:
                break
            if self.progress(reservation, reservation.spent):
                return True
        return False

    def settle(
        self, reservation: Reservation, outcome: Outcome, spent: Spent, now_s: float, *, is_estimated: bool = False
    ) -> int | None:
        """The attempt is over. Returns what it costs, in nano-dollars; None where nobody says. Whatever is said later
        of an attempt that is settled changes nothing. Raises ValueError for one that was released."""
        if reservation.phase == "settled":
            return reservation.cost
        if reservation.phase == "released":
            raise ValueError("a reservation that was released cannot be settled")
        opening = reservation.wanted.opening
        assert reservation.handle is not None
        _count(reservation, spent)
        self._journal.count(reservation.handle, spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens)
        cost = cost_of(opening.price, spent)
        self._journal.settle(reservation.handle, outcome, cost, is_estimated, now_s)
        self._end(reservation, "settled")
        reservation.cost = cost
        if cost:
            self._purse.spend(opening.accounts, cost)
        if outcome == "answered" and spent.completion_tokens:
            per_choice = -(-spent.completion_tokens // reservation.wanted.num_choices)
            self._lengths[opening.model].add(per_choice, reservation.largest_piece)
        self._on_settled(reservation, settled_attempt(opening, spent, outcome, cost, is_estimated, now_s))
        return cost

    def release(self, reservation: Reservation) -> None:
        """The attempt was never made. Raises ValueError for one that was settled."""
        if reservation.phase == "settled":
            raise ValueError("a reservation that was settled cannot be released")
        if reservation.phase == "held":
            self._end(reservation, "released")
            self.forget(reservation)

    def forget(self, reservation: Reservation) -> None:
        """It is over, and nothing of it need be kept here."""
        opening = reservation.wanted.opening
        if reservation.handle is not None:
            self._journal.free(reservation.handle)
            reservation.handle = None
            del self._known[opening.request_id, opening.number]

    def close(self) -> None:
        """Nothing grows any more. What is held is left to the journal."""
        for reservation in self._known.values():
            if reservation.growing is not None:
                reservation.growing.cancel()

    def _amount(self, reservation: Reservation) -> int:
        wanted, worst = reservation.wanted, reservation.worst
        headroom = self._purse.headroom(wanted.budgets) if wanted.has_progress else None
        if headroom is None or not has_room(headroom, self._purse.worst_under_way(wanted.budgets)):
            return worst
        lengths = self._lengths[wanted.opening.model]
        likely = likely_completion(lengths, wanted.most_completion_tokens, wanted.num_choices)
        return min(worst, worst_case(wanted.opening.price, wanted.prompt_tokens, likely + _spare(reservation)))

    async def _take(self, reservation: Reservation, amount: int) -> None:
        budgets = reservation.budgets
        try:
            lacking = await self._purse.reserve(budgets, amount)
        except StoreUnavailable:
            if not reservation.wanted.is_open_without_store:
                raise Overloaded(
                    "What is left of a budget cannot be found out at the moment.", retry_after=RETRY_AFTER_S
                ) from None
            self._purse.take(budgets, amount, is_forced=True)
        else:
            if lacking is not None:
                raise _exceeded(lacking, amount)

    def _grow(self, reservation: Reservation, cost: int, num_ahead: int) -> bool:
        """Whether there is more at once; if not, it is asked for."""
        for num_tokens in (4 * num_ahead, num_ahead):
            amount = _missing(reservation, cost, num_tokens)
            if self._purse.take(reservation.budgets, amount) is None:
                reservation.reserved += amount
                return True
        if reservation.growing is None:
            reservation.growing = asyncio.create_task(self._ask_for(reservation, amount))
        return False

    async def _ask_for(self, reservation: Reservation, amount: int) -> None:
        """Cancelled where the reservation ends meanwhile."""
        try:
            await self._take(reservation, amount)
            reservation.reserved += amount
        except (InsufficientQuota, Overloaded):
            pass
        finally:
            reservation.growing = None

    def _end(self, reservation: Reservation, phase: Literal["settled", "released"]) -> None:
        if reservation.growing is not None:
            reservation.growing.cancel()
        reservation.phase = phase
        self.num_held -= 1
        if reservation.budgets:
            self._purse.put_back(reservation.budgets, reservation.reserved)
            self._purse.end(reservation.budgets, reservation.worst)


def _count(reservation: Reservation, spent: Spent) -> None:
    """What a provider counts in the end besides what was told is a piece, too: others will count as much."""
    piece = spent.completion_tokens - reservation.spent.completion_tokens
    if piece > reservation.largest_piece:
        reservation.largest_piece = piece
    reservation.spent = spent


def _spare(reservation: Reservation) -> int:
    """Tokens."""
    return max(NUM_SPARE, 2 * reservation.largest_piece)


def _missing(reservation: Reservation, cost: int, num_tokens: int) -> int:
    """Nano-dollars until the reservation does for so many tokens more, or for all that may come."""
    more = worst_case(Price(completion=reservation.wanted.opening.price.completion), 0, num_tokens)
    return min(cost + more, max(cost, reservation.worst)) - reservation.reserved


def _check_price(wanted: Wanted) -> None:
    opening = wanted.opening
    if not opening.price.is_known:
        raise InsufficientQuota(
            f"Nobody says what {opening.model} costs at {opening.provider}, and this key has a budget to keep."
        )


def _exceeded(budget: Budget, amount: int) -> InsufficientQuota:
    account = budget.account
    span = "" if account.period == "total" else f" of this {account.period}"
    resets_s = resets_at_s(account)
    return InsufficientQuota(
        f"The budget of ${dollars(budget.limit)}{span} of this {account.owner_kind} has not enough left for this "
        f"request, which may cost ${dollars(amount)}.",
        metadata={
            "scope": account.owner_kind,
            "period": account.period,
            "limit": dollars(budget.limit),
            "resets_at": None if resets_s is None else int(resets_s),
        },
    )
