from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.accounts.gcra import MINUTE_NS, Gcra, Quota


class Bucket:
    """The same by other means: a bucket that leaks evenly, in exact fractions."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.level = Fraction(0)
        self.at_ns = 0

    def leak(self, now_ns: int) -> None:
        self.level = max(
            Fraction(0), self.level - Fraction((now_ns - self.at_ns) * self.quota.num, self.quota.period_ns)
        )
        self.at_ns = now_ns

    def has_room(self, num: int) -> bool:
        return self.level + min(num, self.quota.num) <= self.quota.num


steps = st.lists(st.tuples(st.integers(0, 3 * MINUTE_NS // 7), st.integers(1, 12)), max_size=60)


@given(st.integers(1, 9), st.integers(1, 2 * MINUTE_NS), steps)
def test_it_is_a_leaking_bucket(num: int, period_ns: int, steps: list[tuple[int, int]]) -> None:
    quota = Quota(num, period_ns)
    gcra, bucket, now_ns = Gcra(quota), Bucket(quota), 0
    for elapsed_ns, many in steps:
        now_ns += elapsed_ns
        bucket.leak(now_ns)
        wait_ns = gcra.wait_ns(now_ns, many)
        assert (wait_ns == 0) == bucket.has_room(many)
        assert gcra.remaining(now_ns) == max(0, int((num - bucket.level) // 1))
        if wait_ns == 0:
            gcra.take(now_ns, many)
            bucket.level += many
        else:
            assert gcra.wait_ns(now_ns + wait_ns, many) == 0, "whoever comes back when told to may pass"
            assert gcra.wait_ns(now_ns + wait_ns - 1, many) > 0, "and not before"


@given(st.integers(1, 1000), st.lists(st.integers(0, MINUTE_NS), max_size=200))
def test_no_minute_has_more_than_twice_the_limit_and_on_average_no_more_than_it(num: int, pauses: list[int]) -> None:
    gcra, now_ns, passed = Gcra(Quota(num)), 0, []
    for pause_ns in pauses:
        now_ns += pause_ns // 50
        if gcra.wait_ns(now_ns) == 0:
            gcra.take(now_ns)
            passed.append(now_ns)
    for begin in passed:
        assert sum(begin <= at < begin + MINUTE_NS for at in passed) <= 2 * num
    assert len(passed) <= num + Fraction(now_ns * num, MINUTE_NS)


def test_the_whole_quota_may_come_at_once_and_returns_evenly() -> None:
    gcra = Gcra(Quota(60))
    for left in reversed(range(60)):
        assert gcra.wait_ns(0) == 0
        gcra.take(0)
        assert gcra.remaining(0) == left
    assert gcra.wait_ns(0) == MINUTE_NS // 60
    assert gcra.reset_ns(0) == MINUTE_NS
    assert gcra.remaining(MINUTE_NS // 2) == 30
    assert gcra.is_idle(MINUTE_NS)


def test_what_was_expected_too_high_comes_back_and_what_was_too_low_is_paid_off() -> None:
    gcra = Gcra(Quota(100))
    gcra.take(0, 100)
    gcra.take(0, -60)
    assert gcra.remaining(0) == 60
    gcra.take(0, 160)
    assert gcra.remaining(0) == 0
    assert gcra.wait_ns(0, 1) == MINUTE_NS + MINUTE_NS // 100
    gcra.take(0, -(10**6))
    assert gcra.remaining(0) == 100, "no more comes back than there is"


def test_more_than_the_whole_quota_passes_when_all_of_it_is_there() -> None:
    gcra = Gcra(Quota(10))
    assert gcra.wait_ns(0, 25) == 0
    gcra.take(0, 25)
    assert gcra.wait_ns(0, 1) == 16 * MINUTE_NS // 10


def test_a_new_quota_takes_over_what_was_used_of_the_old_one() -> None:
    gcra = Gcra(Quota(10))
    gcra.take(0, 5)
    gcra.change(Quota(100), 0)
    assert gcra.remaining(0) == 50


@pytest.mark.parametrize("quota", [Quota(0), Quota(-1), Quota(1, 0)])
def test_a_quota_allows_something(quota: Quota) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gcra(quota)
