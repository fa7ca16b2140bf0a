from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from passing import NOON_S, attempt, failed, route
from seating import request

from hodios.router.history import MOST_PASTS, History
from hodios.router.history_file import packed, unpacked
from hodios.router.incidents import MOST_KEPT, Incident, Incidents


class Clock:
    def __init__(self, now_s: float = NOON_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def hear(history: History, *attempts: Any) -> None:
    history.record(request(), route(*attempts), None, None)


def again(history: History, clock: Clock) -> History:
    """What another process knows that reads what this one has written."""
    other = History(clock=clock)
    other.restore(unpacked(packed(history.save())))
    return other


def test_every_attempt_counts_where_it_was_made() -> None:
    clock = Clock()
    history = History(clock=clock)
    hear(history, failed(provider="a"), attempt(provider="b"))
    hear(history, attempt(provider="b", model="n"))
    found = {(provider, model): past.minutes(clock(), 5).num_judged for provider, model, past in history.pasts()}
    assert found == {("a", "m"): 1, ("b", "m"): 1, ("b", "n"): 1}
    assert history.past("a", "n") is None
    assert history.past("a", "m").minutes(clock(), 5).uptime == 0  # type: ignore[union-attr]


def test_what_was_not_heard_of_for_longest_is_forgotten() -> None:
    clock = Clock()
    history = History(clock=clock, most_pasts=3)
    for model in ("a", "b", "c", "a", "d"):
        hear(history, attempt(model=model))
    assert [model for _, model, _ in history.pasts()] == ["c", "a", "d"]
    assert len(again(history, clock).save().pasts) == 3


def test_memory_is_bounded_whatever_is_asked_for() -> None:
    history = History()
    for number in range(MOST_PASTS + 500):
        hear(history, attempt(model=f"m{number}"))
    assert len(list(history.pasts())) == MOST_PASTS


def test_a_probe_counts_until_traffic_says_more() -> None:
    clock = Clock()
    history = History(clock=clock)
    assert history.checked("p") is None
    assert history.idle_s("p") == float("inf")
    history.note_probe("p", "ill")
    assert history.checked("p").verdict == "ill"  # type: ignore[union-attr]
    clock.now_s += 1
    hear(history, attempt())
    assert history.checked("p") is None
    clock.now_s += 5
    assert history.idle_s("p") == 5
    history.note_probe("p", "well")
    assert history.checked("p").verdict == "well"  # type: ignore[union-attr]
    assert history.num_probes() == {("p", "ill"): 1, ("p", "well"): 1}


def degrade(history: History, clock: Clock, wait_s: float, minutes: int) -> None:
    for _ in range(minutes):
        for _ in range(10):
            hear(history, attempt(wait_s=wait_s))
        clock.now_s += 60
        for _ in history.review():
            pass


def test_a_warning_outlives_a_restart_and_is_logged_once(caplog: Any) -> None:
    clock = Clock()
    history = History(clock=clock)
    degrade(history, clock, 0.2, 90)
    assert history.declines("p", "m") == ()
    degrade(history, clock, 2.0, 15)
    (found,) = history.declines("p", "m")
    assert found.subject == "latency"
    history = again(history, clock)
    assert history.declines("p", "m") == (found,)
    degrade(history, clock, 2.0, 5)
    assert [decline.since_s for decline in history.declines("p", "m")] == [found.since_s]
    assert [record.message for record in caplog.records] == [f"p, m: {found.message}"]
    degrade(history, clock, 0.2, 40)
    assert history.declines("p", "m") == ()


def test_who_is_not_heard_of_any_more_has_no_warnings() -> None:
    clock = Clock()
    history = History(clock=clock)
    degrade(history, clock, 0.2, 90)
    degrade(history, clock, 2.0, 15)
    clock.now_s += 3700
    for _ in history.review():
        pass
    assert history.declines("p", "m") == ()


def test_who_is_forgotten_during_a_review_stays_forgotten() -> None:
    clock = Clock()
    history = History(clock=clock, most_pasts=2)
    degrade(history, clock, 0.2, 90)
    degrade(history, clock, 2.0, 15)
    hear(history, attempt(model="b"))
    steps = history.review()
    next(steps)
    hear(history, attempt(model="c"), attempt(model="d"))
    for _ in steps:
        pass
    assert history.past("p", "m") is None
    assert history.declines("p", "m") == ()
    assert history.save().declines == []


NOTES = st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(1, 100)), max_size=60)


@given(NOTES)
def test_incidents_are_what_happened(notes: list[tuple[str, bool, int]]) -> None:
    incidents, now_s = Incidents(), 0.0
    expected: list[list[Any]] = []
    for name, is_open, after_s in notes:
        now_s += after_s
        incidents.note(name, "m", is_open, now_s)
        ongoing = next((each for each in expected if each[0] == name and each[2] is None), None)
        if is_open and ongoing:
            ongoing[3] += 1
        elif is_open:
            expected.append([name, now_s, None, 1])
        elif ongoing:
            ongoing[2] = now_s
    found = [[each.provider, each.began_s, each.ended_s, each.num_ejections] for each in incidents.newest_first()]
    assert found == expected[::-1]
    assert incidents.num_open == sum(each[2] is None for each in expected)


def test_only_the_newest_incidents_are_kept() -> None:
    incidents = Incidents()
    for number in range(MOST_KEPT + 50):
        incidents.note("p", "m", True, number)
        incidents.note("p", "m", False, number + 0.5)
    assert len(incidents.newest_first()) == MOST_KEPT
    assert incidents.newest_first()[0].began_s == MOST_KEPT + 49


def test_an_incident_tells_why_it_began_also_after_a_restart() -> None:
    clock = Clock(100.0)
    history = History(clock=clock)
    history.note_breaker("p", "m", True, "it did not answer in time")
    history.note_breaker("p", "m", True, "it answered with HTTP 500")
    history.note_breaker("p", "m", False, "")
    other = History(clock=clock)
    other.restore(unpacked(packed(history.save())))
    assert [each.reason for each in other.incidents.newest_first()] == ["it did not answer in time"]
    assert msgspec.convert(["p", "m", 1.0, None, 1], Incident).reason == "", "as earlier versions have kept it"


def test_after_a_restart_nobody_is_out_of_order() -> None:
    clock = Clock(100.0)
    history = History(clock=clock)
    history.note_breaker("p", "m", True)
    clock.now_s = 130.0
    saved = history.save()
    clock.now_s = 500.0
    other = History(clock=clock)
    other.restore(saved)
    assert other.incidents.newest_first() == [Incident("p", "m", 100.0, 130.0)]
    assert other.incidents.num_open == 0
    other.note_breaker("p", "m", False)
    other.note_breaker("p", "m", True)
    assert [each.began_s for each in other.incidents.newest_first()] == [500.0, 100.0]
    assert history.incidents.num_open == 1


def test_what_is_restored_is_what_was_saved() -> None:
    clock, rng = Clock(), random.Random(0)
    history = History(clock=clock)
    for _ in range(3000):
        clock.now_s += rng.expovariate(0.05)
        outcome = rng.choice(["answered", "answered", "failed", "overloaded"])
        wait_s = None if outcome == "failed" else rng.lognormvariate(-1, 1)
        hear(history, attempt(outcome, wait_s, rng.lognormvariate(3, 1), model=rng.choice("abc")))
    history.note_breaker("p", "a", True)
    history.note_breaker("p", "a", False)
    assert again(history, clock).save() == history.save()
