from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hodios.router.budget import Budget
from hodios.router.load import MEMORY_S, Load, Ticket


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_counts_return_to_zero(seed: int, num_steps: int) -> None:
    rng = random.Random(seed)
    load, tickets = Load(), []
    for step in range(num_steps):
        if rng.random() < 0.6:
            tickets.append(load.begin(step, rng.randrange(100), rng.randrange(100), rng.randrange(1, 4)))
        elif tickets:
            load.prefilled(rng.choice(tickets))
            if rng.random() < 0.7:
                load.end(tickets.pop(rng.randrange(len(tickets))))
        assert load.num_in_flight == len(tickets)
        assert load.num_tokens == sum(ticket.num_tokens for ticket in tickets)
        assert load.num_answers == sum(ticket.num_answers for ticket in tickets)
        waiting = [ticket.began_s for ticket in tickets if ticket in load._waiting]
        assert load.longest_wait_s(100.0) == (100.0 - min(waiting) if waiting else 0.0)
    for ticket in tickets:
        load.end(ticket)
    assert (load.num_in_flight, load.num_tokens, load.num_uncached, load.longest_wait_s(99)) == (0, 0, 0, 0)
    assert load.num_answers == 0


def begun(load: Load, num: int) -> list[Ticket]:
    return [load.begin(0.0, 0, 0) for _ in range(num)]


def test_who_refused_for_want_of_room_is_full_at_as_many() -> None:
    load = Load()
    tickets = begun(load, 3)
    assert not load.is_full(0)
    load.turned_away(0.0, None)
    assert load.is_full(1)
    load.end(tickets[0])
    assert not load.is_full(1)
    load.answered()
    begun(load, 1)
    assert not load.is_full(1), "there was room for one more"
    begun(load, 1)
    assert load.is_full(1)
    assert not load.is_full(MEMORY_S + 1)


def test_who_has_no_room_at_all_is_left_alone_for_as_long_as_it_says() -> None:
    load = Load()
    load.turned_away(0.0, 3)
    assert load.is_full(2.9)
    assert not load.is_full(3.0)
    load.turned_away(5.0, None)
    load.answered()
    assert not load.is_full(5.0)


def test_whether_somebody_came_before() -> None:
    load = Load()
    first, second = begun(load, 2)
    assert load.is_oldest(first)
    assert not load.is_oldest(second)
    load.end(first)
    assert load.is_oldest(second)


def test_a_budget_is_a_share_of_the_traffic_and_a_floor() -> None:
    budget = Budget(share=0.2, per_s=10.0, most=5.0)
    assert [budget.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    for _ in range(5):
        budget.came(0.0)
    assert [budget.take(0.0), budget.take(0.0)] == [True, False]
    assert [budget.take(0.1), budget.take(0.1)] == [True, False]
    assert [budget.take(99.0) for _ in range(6)] == [True] * 5 + [False], "no more than that is saved up"


def test_a_budget_without_a_floor_is_never_more_than_its_share() -> None:
    budget, num_taken = Budget(share=0.03, per_s=0.0, most=1.0), 0
    for at in range(10_000):
        budget.came(at)
        num_taken += budget.take(at)
    assert 290 <= num_taken <= 301
