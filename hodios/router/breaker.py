"""Whether a provider is fit to be asked: ejected after failures, tried again by one request at a time. Has no clock.

Decides nothing about requests: who is ejected is asked last, and may still be the last one left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

NUM_IN_A_ROW = 5
"""So many failures without a success between them eject."""
WINDOW_S = 30.0
LEAST_IN_WINDOW = 10
"""From so many attempts within the window on, half of them failing eject."""
BASE_S = 30.0
MOST_S = 300.0
"""An ejection lasts BASE_S times how often it happened in a row, at most MOST_S. Who is well for MOST_S starts anew."""
_NUM_BUCKETS = 10
_BUCKET_S = WINDOW_S / _NUM_BUCKETS

State = Literal["closed", "open", "due", "probing"]
"""`due`: the ejection is over, and the next request is the probe; `probing`: that request is on its way."""


def _tell_nobody(is_open: bool) -> None:
    pass


class Breaker:
    """Of one model at one provider. Times are seconds of any clock that never goes back.

    `on_change` is told of every ejection with True, and with False when whoever was ejected is back.
    """

    def __init__(self, on_change: Callable[[bool], None] = _tell_nobody) -> None:
        self._on_change = on_change
        self.num_ejections = 0
        self.reason = ""
        """What the last failure was, as the end of a sentence; nothing that a provider said."""
        self.held_until_s = float("-inf")
        """Until when the provider asked to be left alone (429)."""
        self.patience_s = 0.0
        """For so long after an ejection a free probe is waited for, before a request is the probe."""
        self._window = _Window()
        self._num_in_a_row = 0
        self._state: Literal["closed", "open", "probing"] = "closed"
        self._since_s = float("-inf")
        self._until_s = 0.0
        self._num_in_series = 0
        self._held_since_s = float("-inf")

    def state(self, now_s: float) -> State:
        return "due" if self.is_over(now_s - self.patience_s) else self._state

    def is_over(self, now_s: float) -> bool:
        """Whether its ejection is, and nobody has begun to find out yet how it is now."""
        return self._state == "open" and now_s >= self._until_s

    @property
    def is_open(self) -> bool:
        """Whether it is ejected and has not come back yet."""
        return self._state != "closed"

    @property
    def since_s(self) -> float:
        """When it was ejected, probed or brought back last."""
        return self._since_s

    @property
    def until_s(self) -> float:
        """When the ejection is over; meaningless where there is none."""
        return self._until_s

    def begin(self, now_s: float, *, is_free: bool = False) -> bool:
        """An attempt begins, or a free probe. Returns whether by it is found out how things are."""
        if self._state == "closed" or not self.is_over(now_s if is_free else now_s - self.patience_s):
            return False
        self._state, self._since_s = "probing", now_s
        return True

    def succeed(self, began_s: float, now_s: float) -> None:
        """The attempt that began then has been answered: whoever was ejected is back."""
        if began_s < self._since_s:
            return
        self._num_in_a_row = 0
        self._window.add(now_s, is_failure=False)
        if began_s >= self._held_since_s:
            self.held_until_s = float("-inf")
        if self._state != "closed":
            self._close(now_s)

    def readmit(self, now_s: float) -> None:
        """It is reachable again, which does not say that it answers: one failure is enough to eject it again."""
        if self._state != "closed":
            self._close(now_s)
            self._num_in_a_row = NUM_IN_A_ROW - 1

    def fail(self, began_s: float, now_s: float, reason: str = "") -> None:
        """The attempt that began then has failed by the provider's fault. What began before the last change of state
        says nothing of the present one."""
        if began_s < self._since_s or self._state == "open":
            return
        self.reason = reason
        self._num_in_a_row += 1
        self._window.add(now_s, is_failure=True)
        if self._state == "probing" or self._num_in_a_row >= NUM_IN_A_ROW or self._window.is_bad(now_s):
            self._eject(now_s)

    def release(self, began_s: float) -> None:
        """The probe that began then ended without saying anything; the next request is the probe."""
        if self._state == "probing" and began_s >= self._since_s:
            self._state = "open"

    def hold(self, now_s: float, until_s: float) -> None:
        """Asked to be left alone until then."""
        self._held_since_s = now_s
        self.held_until_s = max(self.held_until_s, until_s)

    def _close(self, now_s: float) -> None:
        self._state, self._since_s = "closed", now_s
        self._window = _Window()
        self._on_change(False)

    def _eject(self, now_s: float) -> None:
        is_anew = self._state == "closed" and now_s - self._since_s > MOST_S
        self._num_in_series = 1 if is_anew else self._num_in_series + 1
        self._state, self._since_s = "open", now_s
        self._until_s = now_s + min(MOST_S, BASE_S * self._num_in_series)
        self._num_in_a_row = 0
        self._window = _Window()
        self.num_ejections += 1
        self._on_change(True)


class _Window:
    """Attempts and failures of the last WINDOW_S, in slices."""

    def __init__(self) -> None:
        self._slices = [(-_NUM_BUCKETS, 0, 0)] * _NUM_BUCKETS
        """(number of the slice, attempts, failures)"""

    def add(self, now_s: float, *, is_failure: bool) -> None:
        number = int(now_s // _BUCKET_S)
        at = number % _NUM_BUCKETS
        held, num, num_failures = self._slices[at]
        if held != number:
            num = num_failures = 0
        self._slices[at] = (number, num + 1, num_failures + is_failure)

    def is_bad(self, now_s: float) -> bool:
        oldest = int(now_s // _BUCKET_S) - _NUM_BUCKETS
        num = num_failures = 0
        for number, some, failures in self._slices:
            if number > oldest:
                num += some
                num_failures += failures
        return num >= LEAST_IN_WINDOW and 2 * num_failures >= num
