from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.accounts.budgets import charging_of, resets_at_s, since
from hodios.accounts.estimate import LEAST_SEEN, Lengths, has_room, likely_completion, worst_case
from hodios.money import charge_of
from hodios.store.records import AccountId, Budgets, KeyRecord, ProjectRecord
from hodios.types import Price

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(datetime.timestamp)


def test_a_request_counts_in_all_accounts_of_its_key_and_project() -> None:
    key = KeyRecord(id="k", prefix="", digest=b"", budgets=Budgets(daily=5, total=9), created_at_s=0)
    project = ProjectRecord(id="p", budgets=Budgets(weekly=7), created_at_s=0)
    charging = charging_of(key, project, datetime(2026, 11, 21, 15, tzinfo=UTC).timestamp())
    assert [str(account) for account in charging.accounts] == [
        "key/k/total",
        "key/k/day/2026-11-21",
        "key/k/week/2026-11-16",
        "key/k/month/2026-11-01",
        "project/p/total",
        "project/p/day/2026-11-21",
        "project/p/week/2026-11-16",
        "project/p/month/2026-11-01",
    ]
    assert [(str(budget.account), budget.limit) for budget in charging.budgets] == [
        ("key/k/day/2026-11-21", 5),
        ("key/k/total", 9),
        ("project/p/week/2026-11-16", 7),
    ]
    assert len(charging_of(key, None, 0).accounts) == 4


@given(moments, st.sampled_from(["day", "week", "month"]))
def test_each_moment_is_in_the_period_that_it_is_said_to_be_in(now_s: float, period: str) -> None:
    first = since(period, now_s)
    account = AccountId("key", "k", period, first)
    begins_s = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
    assert begins_s <= now_s < resets_at_s(account)
    assert since(period, resets_at_s(account)) > first
    assert since(period, resets_at_s(account) - 1) == first
    if period == "week":
        assert first.weekday() == 0
    if period == "month":
        assert first.day == 1


def test_the_total_never_begins_anew() -> None:
    assert since("total", 0) is None
    assert resets_at_s(AccountId("key", "k", "total")) is None
    assert (
        resets_at_s(AccountId("key", "k", "month", date(2026, 12, 1))) == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    )


prices = st.builds(
    Price,
    prompt=st.integers(0, 10**12),
    completion=st.integers(0, 10**12),
    cached=st.none() | st.integers(0, 10**12),
    request=st.integers(0, 10**9),
)


@given(prices, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_nothing_costs_more_than_its_worst_case(
    price: Price, prompt: int, completion: int, data: st.DataObject
) -> None:
    cached, generated = data.draw(st.integers(0, prompt)), data.draw(st.integers(0, completion))
    assert charge_of(price, prompt, cached, generated) <= worst_case(price, prompt, completion)


def test_what_is_free_is_free_at_worst() -> None:
    assert worst_case(Price(), 10**6, 10**6) == 0


def test_lengths_of_answers_are_believed_once_enough_were_seen() -> None:
    lengths = Lengths()
    for tokens in range(LEAST_SEEN):
        assert likely_completion(lengths, 1000) == 1000
        lengths.add(tokens)
    assert likely_completion(lengths, 1000) == LEAST_SEEN - 1
    assert likely_completion(lengths, 1000, num_choices=3) == 3 * (LEAST_SEEN - 1)
    assert likely_completion(lengths, 10) == 10
    for _ in range(1000):
        lengths.add(7)
    assert likely_completion(lengths, 1000) == 7


@pytest.mark.parametrize(("headroom", "expected"), [(400, False), (401, True)])
def test_there_is_room_where_much_more_than_everything_under_way_is_left(headroom: int, expected: bool) -> None:
    assert has_room(headroom, 100) is expected
