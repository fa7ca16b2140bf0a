from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from book import Book
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from office import NOW_S, PRICE, Process, charging, key, project, wanted

from hodios.accounts.budgets import Budget
from hodios.accounts.entries import Spent, cost_of
from hodios.accounts.estimate import LEAST_SEEN, worst_case
from hodios.accounts.journal_format import Phase, read_segment
from hodios.accounts.replay import replay
from hodios.accounts.reservations import NUM_SPARE, Reservation
from hodios.errors import InsufficientQuota, Overloaded
from hodios.store.failures import StoreUnavailable
from hodios.store.records import AccountId
from hodios.types import UNKNOWN_PRICE, Price

WORST = worst_case(PRICE, 100, 1000)
TOTAL = AccountId("key", "k", "total")


def spent(completion: int, prompt: int = 100, cached: int = 0) -> Spent:
    return Spent(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def process(tmp_path: Path, book: Book) -> Iterator[Process]:
    process = Process(tmp_path, book)
    yield process
    process.journal.close(is_done=True)


async def test_what_was_used_is_what_is_charged_and_the_rest_comes_back(process: Process, book: Book) -> None:
    where = charging(key(total=10 * WORST), project(monthly=20 * WORST))
    reservation = await process.reservations.hold(wanted(where, "r"), NOW_S)
    assert reservation.reserved == WORST
    assert process.reservations.progress(reservation, spent(10, cached=40))
    cost = process.reservations.settle(reservation, "answered", spent(20, cached=40), NOW_S)
    assert cost == 60 * 200 + 40 * 50 + 20 * 1000 + 3
    assert process.reservations.settle(reservation, "failed", spent(999), NOW_S) == cost, "settled once"
    assert await process.drain.pass_on()
    assert [attempt.cost for attempt in process.told] == [cost]
    assert {book.settled[account] for account in where.accounts} == {cost}
    assert len(where.accounts) == 8
    assert process.journal.num_bytes == 0
    assert process.purse.free(TOTAL) == book.leases[process.name, TOTAL] == WORST - cost


async def test_empty_answers_cost_nothing_and_unmade_attempts_leave_no_trace(process: Process, book: Book) -> None:
    where = charging(key(total=10 * WORST))
    failed = await process.reservations.hold(wanted(where, "r", 1), NOW_S)
    assert process.reservations.settle(failed, "failed", spent(0), NOW_S) == 0
    unmade = await process.reservations.hold(wanted(where, "r", 2), NOW_S)
    process.reservations.release(unmade)
    process.reservations.release(unmade)
    assert await process.drain.pass_on()
    assert list(book.attempts) == [("r", 1)]
    assert book.settled[TOTAL] == 0
    for misuse in (
        lambda: process.reservations.settle(unmade, "answered", spent(1), NOW_S),
        lambda: process.reservations.release(failed),
        lambda: process.reservations.progress(failed, spent(1)),
    ):
        with pytest.raises(ValueError, match="reservation that"):
            misuse()


async def test_a_whole_answer_is_written_down_once_it_has_to_wait(process: Process) -> None:
    """What is settled before the event loop turns is written once; a guard may take its time."""
    held = await process.reservations.hold(wanted(charging(key()), "r"), NOW_S)
    process.reservations.came(held, spent(20, cached=40))
    assert kept(process) == [(Phase.HELD, 100, 0, 0)]
    await asyncio.sleep(0)
    assert kept(process) == [(Phase.HELD, 100, 40, 20)]
    process.reservations.settle(held, "answered", spent(20, cached=40), NOW_S)
    soon = await process.reservations.hold(wanted(charging(key()), "s"), NOW_S)
    process.reservations.came(soon, spent(10))
    process.reservations.settle(soon, "answered", spent(11), NOW_S)
    unmade = await process.reservations.hold(wanted(charging(key()), "t"), NOW_S)
    process.reservations.came(unmade, spent(12))
    process.reservations.release(unmade)
    await asyncio.sleep(0)
    assert kept(process) == [(Phase.SETTLED, 100, 40, 20), (Phase.SETTLED, 100, 0, 11)]
    assert await process.drain.pass_on()


def kept(process: Process) -> list[tuple[Phase, int, int, int]]:
    """What the journal's file has, as whoever comes after this process would read it."""
    (path,) = process.folder.glob("*.segment")
    states = [entry.state for entry in read_segment(path.read_bytes()).entries]
    return [(each.phase, each.prompt_tokens, each.cached_tokens, each.completion_tokens) for each in states]


async def test_an_attempt_is_reserved_once(process: Process) -> None:
    where = charging(key())
    held = await process.reservations.hold(wanted(where, "r", 1), NOW_S)
    with pytest.raises(ValueError, match="already"):
        await process.reservations.hold(wanted(where, "r", 1), NOW_S)
    process.reservations.release(held)


@pytest.mark.parametrize("period", ["total", "daily", "weekly", "monthly"])
async def test_the_tightest_budget_decides_and_nothing_is_kept(process: Process, book: Book, period: str) -> None:
    where = charging(key(**{period: WORST - 1}), project(total=10 * WORST))
    with pytest.raises(InsufficientQuota) as caught:
        await process.reservations.hold(wanted(where, "r"), NOW_S)
    assert caught.value.status == 402
    assert caught.value.metadata["scope"] == "key"
    assert (caught.value.metadata["resets_at"] is None) == (period == "total")
    assert process.reservations.num_held == process.journal.num_bytes == 0
    cheaper = await process.reservations.hold(wanted(where, "r", most=900), NOW_S)
    process.reservations.release(cheaper)


async def test_a_burst_never_passes_the_budget(process: Process) -> None:
    where = charging(key(total=4 * WORST), project(daily=7 * WORST))
    holds = [process.reservations.hold(wanted(where, str(at)), NOW_S) for at in range(20)]
    outcomes = await asyncio.gather(*holds, return_exceptions=True)
    held = [outcome for outcome in outcomes if isinstance(outcome, Reservation)]
    assert len(held) == 4
    assert all(isinstance(outcome, InsufficientQuota) for outcome in outcomes if outcome not in held)
    for reservation in held:
        process.reservations.release(reservation)


async def test_what_is_spent_is_gone_before_the_store_knows_of_it(process: Process, book: Book) -> None:
    where = charging(key(total=3 * WORST))
    for at in range(3):
        reservation = await process.reservations.hold(wanted(where, str(at)), NOW_S)
        process.reservations.settle(reservation, "answered", spent(1000), NOW_S)
    for _ in range(2):
        with pytest.raises(InsufficientQuota):
            await process.reservations.hold(wanted(where, "one too many"), NOW_S)
        assert await process.drain.pass_on()
    assert book.settled[TOTAL] + book.leased(TOTAL) <= 3 * WORST


async def test_leases_are_chunks_so_that_the_store_is_asked_seldom(process: Process, book: Book) -> None:
    where = charging(key(total=100_000 * WORST))
    for at in range(500):
        reservation = await process.reservations.hold(wanted(where, str(at)), NOW_S)
        process.reservations.settle(reservation, "answered", spent(1000), NOW_S)
    assert book.num_grants <= 3
    await process.drain.pass_on()


async def test_idle_leases_are_given_back(process: Process, book: Book) -> None:
    where = charging(key(total=1000 * WORST))
    reservation = await process.reservations.hold(wanted(where, "r"), NOW_S)
    await process.purse.give_back(NOW_S + 100)
    assert book.leased(TOTAL) == WORST, "not while something is under way"
    process.reservations.release(reservation)
    await process.purse.give_back(NOW_S + 1)
    assert book.leased(TOTAL) == WORST
    await process.purse.give_back(NOW_S + 100)
    assert book.leased(TOTAL) == 0
    assert process.purse.leased == {}


async def test_without_the_store_leases_are_spent_and_then_requests_refused(process: Process, book: Book) -> None:
    where = charging(key(total=1000 * WORST))
    for at in range(2):
        process.reservations.release(await process.reservations.hold(wanted(where, str(at), most=1000 + at), NOW_S))
    book.faults = ["before"] * 100
    held = []
    while process.purse.free(TOTAL) >= WORST:
        held.append(await process.reservations.hold(wanted(where, f"held {len(held)}"), NOW_S))
    with pytest.raises(Overloaded) as caught:
        await process.reservations.hold(wanted(where, "refused"), NOW_S)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert len(held) > 10
    held.append(await process.reservations.hold(wanted(where, "open", is_open=True), NOW_S))
    assert not await process.drain.pass_on() or not process.told
    book.faults = []
    for reservation in held:
        process.reservations.settle(reservation, "answered", spent(1000), NOW_S)
    assert await process.drain.pass_on()
    assert book.settled[TOTAL] == len(held) * cost_of(PRICE, spent(1000))


async def test_who_leaves_while_the_store_is_asked_takes_no_money_with_him(process: Process, book: Book) -> None:
    where = charging(key(total=2 * WORST))
    going_on = asyncio.Event()
    grant = book.grant

    async def slow(*args: Any) -> Any:
        await going_on.wait()
        return await grant(*args)

    book.grant = slow  # type: ignore[method-assign]
    hold = asyncio.create_task(process.reservations.hold(wanted(where, "gone"), NOW_S))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hold.cancel()
    await asyncio.gather(hold, return_exceptions=True)
    going_on.set()
    await process.purse.quiet()
    assert process.purse.free(TOTAL) == book.leased(TOTAL) == WORST
    assert process.reservations.num_held == 0


async def test_who_leaves_while_money_is_given_back_takes_no_money_with_him(process: Process, book: Book) -> None:
    where = charging(key(total=2 * WORST))
    process.reservations.release(await process.reservations.hold(wanted(where, "before"), NOW_S))
    has_begun, going_on, give_back = asyncio.Event(), asyncio.Event(), book.give_back

    async def slow(*args: Any) -> None:
        has_begun.set()
        await going_on.wait()
        await give_back(*args)

    book.give_back = slow  # type: ignore[method-assign]
    giving = asyncio.create_task(process.purse.give_back(NOW_S + 100))
    await has_begun.wait()
    hold = asyncio.create_task(process.reservations.hold(wanted(where, "gone"), NOW_S))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hold.cancel()
    await asyncio.gather(hold, return_exceptions=True)
    going_on.set()
    await giving
    await process.purse.quiet()
    assert process.purse.free(TOTAL) == book.leased(TOTAL) >= WORST


async def test_nobody_with_a_budget_asks_whose_price_is_unknown(process: Process, book: Book) -> None:
    with pytest.raises(InsufficientQuota, match="Nobody says"):
        await process.reservations.hold(wanted(charging(key(total=10**12)), "r", price=UNKNOWN_PRICE), NOW_S)
    free = await process.reservations.hold(wanted(charging(key(total=0)), "free", price=Price()), NOW_S)
    assert process.reservations.progress(free, spent(100))
    assert process.reservations.settle(free, "answered", spent(100), NOW_S) == 0
    unlimited = await process.reservations.hold(wanted(charging(key()), "r", price=UNKNOWN_PRICE), NOW_S)
    assert process.reservations.progress(unlimited, spent(100))
    assert process.reservations.settle(unlimited, "answered", spent(100), NOW_S) is None
    assert await process.drain.pass_on()
    assert [attempt.cost for attempt in book.attempts.values()] == [0, None]


async def learn_lengths(process: Process, num_tokens: int, piece: int = 1) -> None:
    where = charging(key("teacher"))
    for at in range(LEAST_SEEN):
        reservation = await process.reservations.hold(wanted(where, f"lesson {at}"), NOW_S)
        for tokens in range(piece, max(piece, num_tokens) + 1, piece):
            process.reservations.progress(reservation, spent(tokens))
        process.reservations.settle(reservation, "answered", spent(num_tokens), NOW_S)
    assert await process.drain.pass_on()


async def test_where_there_is_room_less_than_the_worst_is_reserved_and_answers_grow(process: Process) -> None:
    await learn_lengths(process, 50)
    where = charging(key(total=10 * WORST))
    first = await process.reservations.hold(wanted(where, "first"), NOW_S)
    assert first.reserved == WORST, "nothing is known of the budget yet"
    process.reservations.release(first)
    silent = await process.reservations.hold(wanted(where, "silent", has_progress=False), NOW_S)
    assert silent.reserved == WORST, "whose progress nobody tells could not grow"
    process.reservations.release(silent)
    second = await process.reservations.hold(wanted(where, "second"), NOW_S)
    assert second.reserved == worst_case(PRICE, 100, 50 + NUM_SPARE)
    for tokens in range(0, 1001, 10):
        assert process.reservations.progress(second, spent(tokens))
        assert cost_of(PRICE, spent(tokens)) <= second.reserved <= WORST
        await asyncio.sleep(0)
    process.reservations.settle(second, "answered", spent(1000), NOW_S)
    await process.drain.pass_on()


@pytest.mark.parametrize("piece", [1, NUM_SPARE, 100])
async def test_an_answer_ends_where_no_more_is_to_be_had(process: Process, book: Book, piece: int) -> None:
    await learn_lengths(process, 50, piece)
    where = charging(key(total=10 * WORST))
    process.reservations.release(await process.reservations.hold(wanted(where, "first"), NOW_S))
    growing = await process.reservations.hold(wanted(where, "growing"), NOW_S)
    others = []
    with contextlib.suppress(InsufficientQuota):
        while len(others) < 1000:
            others.append(await process.reservations.hold(wanted(where, f"other {len(others)}"), NOW_S))
    tokens = piece
    while process.reservations.progress(growing, spent(tokens)) or await process.reservations.more(growing):
        tokens += piece
        await asyncio.sleep(0)
    assert cost_of(PRICE, spent(tokens)) <= growing.reserved
    assert 0 < tokens < 1000
    process.reservations.settle(growing, "broke_off", spent(tokens), NOW_S)
    for other in others:
        process.reservations.settle(other, "answered", spent(other.worst and 50), NOW_S)
    await process.drain.pass_on()
    assert book.settled[TOTAL] + book.leased(TOTAL) <= 10 * WORST


@pytest.mark.parametrize("is_left", [True, False])
async def test_an_answer_that_comes_at_once_waits_for_the_store(process: Process, book: Book, is_left: bool) -> None:
    """The first lease has exactly what the first attempt needs, and more is counted than that."""
    where = charging(key(total=10 * WORST if is_left else WORST + 10))
    held = await process.reservations.hold(wanted(where, "r"), NOW_S)
    assert process.purse.free(TOTAL) == 0
    for tokens in (1100, 1500, 4000):
        assert not process.reservations.progress(held, spent(tokens))
        assert await process.reservations.more(held) is is_left
    process.reservations.settle(held, "answered", spent(990), NOW_S)
    assert not await process.reservations.more(held)
    assert await process.drain.pass_on()
    assert book.settled[TOTAL] == cost_of(PRICE, spent(990))


async def test_an_answer_that_is_settled_while_it_waits_ends(process: Process, book: Book) -> None:
    held = await process.reservations.hold(wanted(charging(key(total=10 * WORST)), "r"), NOW_S)
    assert not process.reservations.progress(held, spent(1500))
    waiting = asyncio.create_task(process.reservations.more(held))
    await asyncio.sleep(0)
    cost = process.reservations.settle(held, "cancelled", spent(1500), NOW_S)
    assert not await waiting
    await process.purse.quiet()
    assert process.purse.free(TOTAL) == book.leased(TOTAL) - (cost or 0)
    assert await process.drain.pass_on()


async def test_what_is_only_counted_in_the_end_is_reserved_once_it_is_known(process: Process, book: Book) -> None:
    told, counted = 50, 90
    where = charging(key("teacher"))
    for at in range(LEAST_SEEN):
        lesson = await process.reservations.hold(wanted(where, f"lesson {at}"), NOW_S)
        for tokens in range(1, told + 1):
            process.reservations.progress(lesson, spent(tokens))
        process.reservations.settle(lesson, "answered", spent(counted), NOW_S)
    where = charging(key(total=10 * WORST))
    process.reservations.release(await process.reservations.hold(wanted(where, "first"), NOW_S))
    held = []
    with contextlib.suppress(InsufficientQuota):
        while len(held) < 1000:
            held.append(await process.reservations.hold(wanted(where, f"held {len(held)}"), NOW_S))
    assert any(reservation.reserved < WORST for reservation in held)
    for reservation in held:
        tokens = 1000 if reservation.reserved == WORST else 1
        while process.reservations.progress(reservation, spent(tokens)) and tokens < 500:
            tokens += 1
            await asyncio.sleep(0)
        tokens = min(1000, tokens + counted - told)
        process.reservations.settle(reservation, "answered", spent(tokens), NOW_S)
    await process.drain.pass_on()
    assert book.settled[TOTAL] + book.leased(TOTAL) <= 10 * WORST


async def test_what_comes_too_late_for_an_answer_to_grow_is_free(process: Process, book: Book) -> None:
    await learn_lengths(process, 50)
    where = charging(key(total=100 * WORST))
    process.reservations.release(await process.reservations.hold(wanted(where, "first"), NOW_S))
    growing = await process.reservations.hold(wanted(where, "growing"), NOW_S)
    rest = process.purse.free(TOTAL)
    assert process.purse.take(where.budgets, rest) is None
    going_on, grant = asyncio.Event(), book.grant

    async def slow(*args: Any) -> Any:
        await going_on.wait()
        return await grant(*args)

    book.grant = slow  # type: ignore[method-assign]
    assert process.reservations.progress(growing, spent(20))
    assert growing.growing is not None
    await asyncio.sleep(0)
    cost = process.reservations.settle(growing, "answered", spent(20), NOW_S)
    going_on.set()
    await process.purse.quiet()
    await asyncio.sleep(0)
    assert process.purse.free(TOTAL) == book.leased(TOTAL) - rest - cost
    assert await process.drain.pass_on()


class LedgerMachine(RuleBasedStateMachine):
    """Two processes spend from the same budgets, die at any point, and are replayed any number of times, over a store
    that fails before or after doing what it is asked."""

    LIMITS = ({"total": 6 * WORST}, {"total": 40 * WORST, "daily": 9 * WORST}, {})
    PROJECT = project(weekly=12 * WORST)

    @initialize(learns=st.booleans())
    def begin(self, learns: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.book = Book()
        self.home = HOME[0] / str(len(list(HOME[0].iterdir())))
        self.processes = [Process(self.home, self.book) for _ in range(2)]
        self.keys = [key(f"k{at}", "p", **limits) for at, limits in enumerate(self.LIMITS)]
        self.held: list[dict[Reservation, Spent]] = [{}, {}]
        self.must_end: set[Reservation] = set()
        self.due: dict[tuple[str, int], int] = {}
        """What each attempt has to be charged in the end."""
        self.num = self.number = 0
        if learns:
            for process in self.processes:
                self.run(learn_lengths(process, 30))
            self.book.attempts.clear()
            self.book.settled.clear()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.book.faults = []
        for which in (0, 1):
            self.die(which)
        self.replay(0, "")
        self.replay(0, "")
        for process in self.processes:
            self.run(process.purse.quiet())
            process.journal.close(is_done=True)
        assert {name: attempt.cost for name, attempt in self.book.attempts.items()} == self.due
        sums: dict[AccountId, int] = defaultdict(int)
        for attempt in self.book.attempts.values():
            for account in attempt.accounts:
                sums[account] += attempt.cost or 0
        assert {account: sum for account, sum in self.book.settled.items() if sum} == {
            account: sum for account, sum in sums.items() if sum
        }
        assert not any(self.book.leases.values())
        assert list((self.home / "journal").iterdir()) == []
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    @rule(which=st.integers(0, 1), who=st.integers(0, 2), most=st.integers(1, 1500), again=st.booleans())
    def hold(self, which: int, who: int, most: int, again: bool) -> None:
        self.num += not again
        self.number += 1
        order = wanted(charging(self.keys[who], self.PROJECT), str(self.num), self.number, most=most)
        try:
            reservation = self.run(self.processes[which].reservations.hold(order, NOW_S))
        except (InsufficientQuota, Overloaded):
            return
        self.held[which][reservation] = spent(0)

    @rule(which=st.integers(0, 1), at=st.integers(0, 99), more=st.integers(1, NUM_SPARE), times=st.integers(1, 40))
    def progress(self, which: int, at: int, more: int, times: int) -> None:
        self.run(self._progress(which, at, more, times))

    async def _progress(self, which: int, at: int, more: int, times: int) -> None:
        held = self.held[which]
        for _ in range(times if held else 0):
            reservation = list(held)[at % len(held)]
            tokens = held[reservation].completion_tokens + more
            if reservation in self.must_end or tokens > reservation.wanted.most_completion_tokens:
                return
            held[reservation] = spent(tokens)
            reservations = self.processes[which].reservations
            if not (reservations.progress(reservation, spent(tokens)) or await reservations.more(reservation)):
                self.must_end.add(reservation)
            await asyncio.sleep(0)

    @rule(which=st.integers(0, 1), at=st.integers(0, 99), outcome=st.sampled_from(["answered", "cancelled"]))
    def settle(self, which: int, at: int, outcome: Any) -> None:
        held = self.held[which]
        if held:
            reservation = list(held)[at % len(held)]
            used = held.pop(reservation)
            cost = self.run(self._settle(which, reservation, outcome, used))
            assert cost == cost_of(PRICE, used)
            self._owe(reservation, used)

    async def _settle(self, which: int, reservation: Reservation, outcome: Any, used: Spent) -> int | None:
        return self.processes[which].reservations.settle(reservation, outcome, used, NOW_S)

    @rule(which=st.integers(0, 1), at=st.integers(0, 99))
    def release(self, which: int, at: int) -> None:
        untouched = [one for one, used in self.held[which].items() if not used.completion_tokens]
        if untouched:
            reservation = untouched[at % len(untouched)]
            del self.held[which][reservation]
            self.run(self._release(which, reservation))

    async def _release(self, which: int, reservation: Reservation) -> None:
        self.processes[which].reservations.release(reservation)

    @rule(which=st.integers(0, 1))
    def drain(self, which: int) -> None:
        self.run(self.processes[which].drain.pass_on())

    @rule(which=st.integers(0, 1))
    def give_back(self, which: int) -> None:
        with contextlib.suppress(StoreUnavailable):
            self.run(self.processes[which].purse.give_back(NOW_S + 1000))

    @rule(faults=st.lists(st.sampled_from(["", "before", "after"]), max_size=4))
    def break_store(self, faults: Any) -> None:
        self.book.faults = faults

    @rule(which=st.integers(0, 1))
    def die(self, which: int) -> None:
        process = self.processes[which]
        self.run(self._end(process))
        process.die()
        for reservation, used in self.held[which].items():
            self._owe(reservation, used)
        self.held[which] = {}
        self.processes[which] = Process(self.home, self.book)

    async def _end(self, process: Process) -> None:
        process.reservations.close()
        await process.purse.quiet()

    @rule(num_done=st.integers(0, 4), fault=st.sampled_from(["", "before", "after"]))
    def replay(self, num_done: int, fault: Any) -> None:
        self.book.faults = [""] * num_done + ([fault] if fault else [])
        with contextlib.suppress(StoreUnavailable):
            self.run(replay(self.home, self.book, self.book))
        self.book.faults = []

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        if not hasattr(self, "keys"):
            return
        for owner in self.keys:
            for budget in charging(owner, self.PROJECT).budgets:
                self._is_kept(budget)

    def _is_kept(self, budget: Budget) -> None:
        assert self.book.settled[budget.account] + self.book.leased(budget.account) <= budget.limit
        for process, held in zip(self.processes, self.held, strict=True):
            reserved = sum(one.reserved for one in held if budget in one.budgets)
            leased = self.book.leases[process.name, budget.account]
            assert process.purse.free(budget.account) + reserved <= leased, "it counts on more than it was given"

    def _owe(self, reservation: Reservation, used: Spent) -> None:
        opening = reservation.wanted.opening
        assert (opening.request_id, opening.number) not in self.due
        self.due[opening.request_id, opening.number] = cost_of(PRICE, used) or 0


HOME: list[Path] = []


@pytest.fixture(autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    HOME[:] = [tmp_path_factory.mktemp("homes")]


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=40)
