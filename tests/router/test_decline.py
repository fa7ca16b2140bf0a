from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passing import NOON_S, add, attempt

from hodios.router.decline import Decline, declines, surprise, trend
from hodios.router.past import HOUR_S, SIZES, Kind, Past

DAY_S = 24 * HOUR_S
MIDNIGHT_S = NOON_S - 12 * HOUR_S


@given(st.integers(1, 60), st.floats(0.001, 0.999), st.data())
def test_the_surprise_is_a_bound_of_what_chance_does(num: int, share: float, data: st.DataObject) -> None:
    num_hits = data.draw(st.integers(0, num))
    tail = sum(math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num_hits, num + 1))
    assert math.exp(-surprise(num_hits, num, share)) >= tail - 1e-9


class Weather(NamedTuple):
    """How a provider does at some hour of its life."""

    slowness: float = 1.0
    failing: float = 0.0
    per_s: float = 0.05
    size: int = 0


class Life:
    """Traffic of one model at one provider, and the warnings that it brings."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.past = Past()
        self.now_s = MIDNIGHT_S
        self.ongoing: tuple[Decline, ...] = ()
        self.begun: list[tuple[float, str]] = []
        """(hours since it began, subject)"""
        self.ended: list[float] = []

    @property
    def hours(self) -> float:
        return (self.now_s - MIDNIGHT_S) / HOUR_S

    def live(self, until_h: float, weather: Callable[[float], Weather], *, is_reviewed: bool = True) -> None:
        """`weather` of hours since it began."""
        while self.hours < until_h:
            minute_s = self.now_s + 60
            now = weather(self.hours)
            while (next_s := self.now_s + self.rng.expovariate(now.per_s)) < minute_s:
                self.now_s = next_s
                self.ask(now)
            self.now_s = minute_s
            if is_reviewed:
                self.review()

    def ask(self, now: Weather) -> None:
        kind = Kind(now.size, 0)
        if self.rng.random() < now.failing:
            self.past.add(attempt("failed", None), kind, self.now_s)
            return
        wait_s = 0.3 * now.slowness * self.rng.lognormvariate(0, 0.5)
        speed = 50 / now.slowness * self.rng.lognormvariate(0, 0.3)
        self.past.add(attempt(wait_s=wait_s, speed=speed), kind, self.now_s)

    def review(self) -> None:
        found = declines(self.past, self.now_s, self.ongoing)
        self.begun += [(self.hours, each.subject) for each in found if each.since_s == self.now_s]
        going_on = {each.subject for each in found}
        self.ended += [self.hours for each in self.ongoing if each.subject not in going_on]
        self.ongoing = found


def between(hour: float, begin: float, end: float, usual: Weather, there: Weather) -> Weather:
    return there if begin <= hour < end else usual


DAYS: dict[str, Callable[[float], Weather]] = {
    "the same at all hours": lambda hour: Weather(),
    "busy around noon": lambda hour: Weather(1 + 2 * max(0, math.sin((hour - 6) / 12 * math.pi))),
    "busy for hours": lambda hour: between(hour, 12, 15, Weather(), Weather(4)),
    "busy at odd times": lambda hour: between(hour, 12.35, 13.8, Weather(), Weather(4)),
    "busy for half an hour": lambda hour: between(hour, 3.2, 3.7, Weather(), Weather(5)),
    "busy for a little while": lambda hour: between(hour, 9.9, 10.15, Weather(), Weather(4)),
    "crowded when it is busy": lambda hour: between(hour, 8.5, 17.5, Weather(), Weather(3, per_s=0.2)),
    "long prompts at night": lambda hour: between(hour, 1, 5, Weather(), Weather(6, size=3)),
    "failing a little": lambda hour: Weather(failing=0.03),
}


@pytest.mark.parametrize("day", ["busy around noon", "busy at odd times", "busy for a little while"])
def test_what_comes_every_day_is_no_news(day: str) -> None:
    life = Life()
    life.live(24, lambda hour: DAYS[day](hour % 24), is_reviewed=False)
    life.live(48, lambda hour: DAYS[day](hour % 24))
    assert life.begun == []


@pytest.mark.full
@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("seed", range(5))
def test_what_comes_every_day_of_a_week_is_no_news(day: str, seed: int) -> None:
    life = Life(seed + 1)
    life.live(24, lambda hour: DAYS[day](hour % 24), is_reviewed=False)
    life.live(7 * 24, lambda hour: DAYS[day](hour % 24))
    assert life.begun == []


def worse(subject: str, degree: float) -> Weather:
    return Weather(failing=degree) if subject == "failures" else Weather(1 + 4 * degree)


@pytest.mark.parametrize("day", ["the same at all hours", "busy for hours"])
@pytest.mark.parametrize("subject", ["latency", "failures"])
def test_the_warning_comes_before_the_failure_and_goes_with_its_cause(subject: str, day: str) -> None:
    """At 18 h of the second day it begins to get worse, until an hour later nothing is answered any more; from 20 h on
    it is as it was."""

    def weather(hour: float) -> Weather:
        if hour < 42 or hour >= 44:
            return DAYS[day](hour % 24)
        return worse(subject, hour - 42) if hour < 43 else Weather(failing=1)

    life = Life()
    life.live(41.5, weather, is_reviewed=False)
    life.live(45, weather)
    begun = [hour for hour, found in life.begun if found == subject]
    assert len(begun) == 1
    assert 42 < begun[0] < 42.9, "before the failure"
    if subject == "latency":
        assert "throughput" in [found for _, found in life.begun], "which gets worse in the same measure"
    assert life.ongoing == ()
    assert life.ended[-1] < 44.6


def test_longer_prompts_are_not_slower_answers() -> None:
    """Traffic of another size is compared with that of its own size the day before."""
    life = Life()
    life.live(24, lambda hour: Weather() if hour % 2 < 1 else Weather(6, size=3), is_reviewed=False)
    life.live(30, lambda hour: Weather(6, size=3))
    assert life.begun == []
    assert trend(life.past, "latency", life.now_s) == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(("num_before", "num_now", "is_told"), [(99, 30, False), (100, 9, False), (100, 30, True)])
def test_few_answers_prove_nothing(num_before: int, num_now: int, is_told: bool) -> None:
    past = Past()
    add(past, NOON_S - HOUR_S, num_before, wait_s=0.2)
    add(past, NOON_S, num_now, wait_s=2.0)
    assert bool(declines(past, NOON_S + 60)) == is_told


def test_ten_quiet_minutes_are_made_thirty() -> None:
    past = Past()
    add(past, NOON_S - HOUR_S, 200, wait_s=0.2)
    for minute in range(0, 30, 2):
        add(past, NOON_S + minute * 60, 2, wait_s=2.0)
    assert [decline.subject for decline in declines(past, NOON_S + 29 * 60)] == ["latency"]


@pytest.mark.parametrize(
    ("num_failed_before", "num_failed_now", "is_told"),
    [(0, 4, False), (0, 12, True), (60, 12, False), (60, 60, True), (0, 100, True)],
)
def test_failures_are_compared_with_the_day_before(num_failed_before: int, num_failed_now: int, is_told: bool) -> None:
    past = Past()
    add(past, NOON_S - 2 * HOUR_S, 1000 - num_failed_before)
    add(past, NOON_S - 2 * HOUR_S, num_failed_before, outcome="failed", wait_s=None)
    add(past, NOON_S, 100 - num_failed_now)
    add(past, NOON_S, num_failed_now, outcome="failed", wait_s=None)
    found = declines(past, NOON_S + 30)
    assert ("failures" in [decline.subject for decline in found]) == is_told


@pytest.mark.parametrize("outcome", ["refused", "overloaded", "cancelled"])
def test_what_is_not_the_providers_fault_is_no_failure(outcome: Any) -> None:
    past = Past()
    add(past, NOON_S - HOUR_S, 1000)
    add(past, NOON_S, 500, outcome=outcome, wait_s=None)
    assert declines(past, NOON_S + 30) == ()


def test_a_trend_is_above_one_where_figures_grow() -> None:
    past = Past()
    assert trend(past, "latency", NOON_S) is None
    for size in range(len(SIZES)):
        add(past, NOON_S - HOUR_S, 200, Kind(size, 0), wait_s=0.2 * (size + 1), speed=100.0)
        add(past, NOON_S, 20, Kind(size, 0), wait_s=0.4 * (size + 1), speed=50.0)
    assert trend(past, "latency", NOON_S) == pytest.approx(2, rel=0.1)
    assert trend(past, "throughput", NOON_S) == pytest.approx(0.5, rel=0.1)
