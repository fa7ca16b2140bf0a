from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hodios.router.breaker import BASE_S, LEAST_IN_WINDOW, MOST_S, NUM_IN_A_ROW, WINDOW_S, Breaker


def fail(breaker: Breaker, num: int, at_s: float = 0.0) -> None:
    for _ in range(num):
        breaker.fail(at_s, at_s)


def test_five_failures_in_a_row_eject_for_half_a_minute() -> None:
    breaker = Breaker()
    fail(breaker, NUM_IN_A_ROW - 1)
    assert breaker.state(0) == "closed"
    fail(breaker, 1)
    assert breaker.state(0) == breaker.state(BASE_S - 0.1) == "open"
    assert breaker.state(BASE_S) == "due"


def test_a_success_between_them_keeps_it_in() -> None:
    breaker = Breaker()
    for at in range(4):
        fail(breaker, NUM_IN_A_ROW - 1, 40.0 * at)
        breaker.succeed(40.0 * at, 40.0 * at)
    assert breaker.state(200) == "closed"


def test_half_of_ten_failing_ejects() -> None:
    breaker = Breaker()
    for at in range(LEAST_IN_WINDOW // 2):
        assert breaker.state(at) == "closed"
        breaker.succeed(at, at)
        breaker.fail(at, at)
    assert breaker.state(5) == "open"


def test_what_is_longer_ago_than_the_window_does_not_count() -> None:
    breaker = Breaker()
    for at in range(20):
        now_s = at * WINDOW_S / (LEAST_IN_WINDOW - 2)
        (breaker.fail if at % 2 else breaker.succeed)(now_s, now_s)
        assert breaker.state(now_s) == "closed"


def test_only_one_probe_at_a_time() -> None:
    breaker = Breaker()
    fail(breaker, NUM_IN_A_ROW)
    assert [breaker.begin(BASE_S) for _ in range(3)] == [True, False, False]
    assert breaker.state(BASE_S) == "probing"
    breaker.release(BASE_S)
    assert breaker.state(BASE_S) == "due"
    assert breaker.begin(BASE_S + 1)
    breaker.succeed(BASE_S + 1, BASE_S + 2)
    assert breaker.state(BASE_S + 2) == "closed"
    assert not breaker.begin(BASE_S + 2)


def test_each_ejection_in_a_row_lasts_longer() -> None:
    breaker, now_s, lengths = Breaker(), 0.0, []
    fail(breaker, NUM_IN_A_ROW)
    for _ in range(13):
        lengths.append(breaker.until_s - now_s)
        now_s = breaker.until_s
        assert breaker.begin(now_s)
        breaker.fail(now_s, now_s)
    assert lengths[:3] == [BASE_S, 2 * BASE_S, 3 * BASE_S]
    assert max(lengths) == lengths[-1] == MOST_S


def test_a_long_time_without_makes_the_next_one_short_again() -> None:
    for well_s, expected_s in ((MOST_S - 1, 2 * BASE_S), (MOST_S + 1, BASE_S)):
        breaker = Breaker()
        fail(breaker, NUM_IN_A_ROW)
        breaker.begin(BASE_S)
        breaker.succeed(BASE_S, BASE_S)
        fail(breaker, NUM_IN_A_ROW, BASE_S + well_s)
        assert breaker.until_s == BASE_S + well_s + expected_s


def test_what_began_before_the_last_change_says_nothing() -> None:
    breaker = Breaker()
    fail(breaker, NUM_IN_A_ROW, 10.0)
    breaker.succeed(9.0, 11.0)
    assert breaker.state(11) == "open"
    assert breaker.begin(40.0)
    fail(breaker, 9, 20.0)
    assert breaker.state(41) == "probing"
    breaker.succeed(40.0, 42.0)
    for _ in range(9):
        breaker.fail(39.0, 43.0)
    assert breaker.state(43) == "closed"


def test_the_last_resort_that_answers_is_back_at_once() -> None:
    breaker = Breaker()
    fail(breaker, NUM_IN_A_ROW)
    breaker.succeed(1.0, 2.0)
    assert breaker.state(2) == "closed"


def test_a_hold_lasts_until_its_end_or_an_answer() -> None:
    breaker = Breaker()
    breaker.hold(10.0, 15.0)
    breaker.hold(11.0, 12.0)
    assert breaker.held_until_s == 15.0
    breaker.succeed(9.0, 12.0)
    assert breaker.held_until_s == 15.0, "that one was on its way before"
    breaker.succeed(12.0, 13.0)
    assert breaker.held_until_s < 13.0


class Attempts(RuleBasedStateMachine):
    """Attempts that begin and end at any time and in any order."""

    attempts = Bundle("attempts")

    @initialize()
    def begin_anew(self) -> None:
        self.breaker, self.now_s, self.num_probes = Breaker(), 1000.0, 0
        self.last_failures = 0

    @rule(pause_s=st.sampled_from([0.0, 0.5, 3.0, 29.9, 30.1, 301.0]))
    def wait(self, pause_s: float) -> None:
        self.now_s += pause_s

    @rule(target=attempts)
    def begin(self) -> tuple[float, bool]:
        before = self.breaker.state(self.now_s)
        is_probe = self.breaker.begin(self.now_s)
        assert is_probe == (before == "due")
        self.num_probes += is_probe
        return self.now_s, is_probe

    @rule(attempt=consumes(attempts))
    def succeed(self, attempt: tuple[float, bool]) -> None:
        self._over(attempt)
        before = self.breaker.num_ejections
        self.breaker.succeed(attempt[0], self.now_s)
        assert self.breaker.num_ejections == before
        if attempt[1] and attempt[0] == self.now_s:
            assert self.breaker.state(self.now_s) == "closed"

    @rule(attempt=consumes(attempts))
    def fail(self, attempt: tuple[float, bool]) -> None:
        self._over(attempt)
        was = self.breaker.state(self.now_s)
        before = self.breaker.num_ejections
        self.breaker.fail(attempt[0], self.now_s)
        if self.breaker.num_ejections > before:
            assert was in ("closed", "probing")
            assert self.breaker.state(self.now_s) == "open"
            assert BASE_S <= self.breaker.until_s - self.now_s <= MOST_S

    @rule(attempt=consumes(attempts))
    def leave(self, attempt: tuple[float, bool]) -> None:
        self._over(attempt)
        if attempt[1]:
            self.breaker.release(attempt[0])

    def _over(self, attempt: tuple[float, bool]) -> None:
        self.num_probes -= attempt[1]

    @invariant()
    def is_never_shut_for_good(self) -> None:
        state = self.breaker.state(self.now_s)
        assert state != "probing" or self.num_probes >= 1, "somebody is on the way who will tell"
        if state == "open":
            assert self.breaker.state(self.breaker.until_s) == "due"
            assert self.breaker.until_s - self.now_s <= MOST_S


TestAttempts = Attempts.TestCase
TestAttempts.settings = settings(max_examples=60, stateful_step_count=40)
