from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hodios.accounts.limits import SLOT_RETRY_NS, Permit, RateState, Refusal
from hodios.accounts.waiting import WaitingRoom

REFUSED = Refusal("key/a", "parallel requests", 1, SLOT_RETRY_NS, RateState())
LONG_S = 60.0


class Slots:
    """So many may pass at the same time."""

    def __init__(self, num: int, **bounds: int) -> None:
        self.num = num
        self.passed: list[str] = []
        self.released: list[str] = []
        self.room = WaitingRoom(self.release, **bounds)

    def trying(self, name: str) -> Callable[[], object]:
        async def attempt() -> Permit | Refusal:
            if self.num <= 0:
                return REFUSED
            self.num -= 1
            self.passed.append(name)
            return Permit(name, (), 0, RateState())

        return attempt

    def release(self, permit: Permit) -> None:
        self.released.append(permit.id)
        self.open(1)

    def open(self, num: int) -> None:
        self.num += num
        self.room.nudge()

    def enter(self, name: str, key: str, priority: int = 0, timeout_s: float = LONG_S) -> asyncio.Task[object]:
        return asyncio.create_task(self.room.wait(key, priority, self.trying(name), REFUSED, timeout_s))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_keys_take_turns_and_higher_priorities_go_first() -> None:
    slots = Slots(0)
    tasks = [slots.enter(f"a{at}", "a") for at in range(4)]
    tasks += [slots.enter(f"b{at}", "b") for at in range(2)]
    tasks += [slots.enter("urgent", "c", priority=5)]
    await settled()
    slots.open(7)
    await asyncio.gather(*tasks)
    assert slots.passed == ["urgent", "a0", "b0", "a1", "b1", "a2", "a3"]
    assert len(slots.room) == 0
    await slots.room.close()


async def test_only_as_many_pass_as_may_and_the_rest_wait_for_the_next_end() -> None:
    slots = Slots(0)
    tasks = [slots.enter(str(at), "a") for at in range(3)]
    await settled()
    assert slots.room.last_refusal("a") == REFUSED
    assert slots.room.last_refusal("b") is None
    for num in (1, 2, 3):
        slots.open(1)
        await settled()
        assert len(slots.passed) == num
    assert slots.room.last_refusal("a") is None
    assert [type(task.result()) for task in tasks] == [Permit] * 3
    await slots.room.close()


async def test_time_over_says_why_and_leaves_no_trace() -> None:
    slots = Slots(0)
    assert await slots.enter("late", "a", timeout_s=0.01) == REFUSED
    assert len(slots.room) == 0
    slots.open(1)
    assert isinstance(await slots.enter("next", "a"), Permit)
    assert slots.passed == ["next"]
    await slots.room.close()


async def test_there_is_a_bound_for_all_and_for_each_key() -> None:
    slots = Slots(0, most=3, most_of_key=2)
    tasks = [slots.enter("1", "a"), slots.enter("2", "a")]
    await settled()
    assert await slots.enter("3", "a") == REFUSED
    tasks.append(slots.enter("4", "b"))
    await settled()
    assert await slots.enter("5", "c") == REFUSED
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(slots.room) == 0
    await slots.room.close()


async def test_who_waits_for_time_to_pass_is_tried_again_then() -> None:
    tries = 0

    async def attempt() -> Permit | Refusal:
        nonlocal tries
        tries += 1
        return Permit("x", (), 0, RateState()) if tries == 3 else Refusal("key/a", "requests", 1, 10**6, RateState())

    room = WaitingRoom(lambda permit: None)
    assert isinstance(await room.wait("a", 0, attempt, REFUSED, LONG_S), Permit)
    await room.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["enter", "open", "cancel", "run"])), max_size=40))
def test_no_slot_is_lost_and_none_given_twice(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        slots, tasks, num_opened = Slots(0), [], 0
        for at, (key, what) in enumerate(steps):
            if what == "enter":
                tasks.append(slots.enter(str(at), key))
            elif what == "open":
                num_opened += 1
                slots.open(1)
            elif what == "cancel" and tasks:
                tasks[at % len(tasks)].cancel()
            else:
                await settled()
        await settled()
        num_inside = sum(task.done() and not task.cancelled() for task in tasks)
        assert num_inside + slots.num == num_opened
        assert slots.num == 0 or len(slots.room) == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(slots.room) == 0
        await slots.room.close()

    asyncio.run(run())
