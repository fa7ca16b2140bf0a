"""The generic cell rate algorithm: how much may pass per period, smoothly, in one whole number. Has no clock.

ITU-T I.371: a theoretical arrival time moves on with all that passes, and may be ahead of the clock by one period. It
is kept in nanoseconds times the limit, in which every step is a whole number, so that nothing is rounded.
"""

from __future__ import annotations

from msgspec import Struct

MINUTE_NS = 60 * 10**9


class Quota(Struct, frozen=True):
    """At most `num` in any instant, and `num` more in each period."""

    num: int
    period_ns: int = MINUTE_NS


class Gcra:
    """What has passed under one quota. Times are nanoseconds of any clock that never goes back."""

    __slots__ = ("_arrival", "quota")

    def __init__(self, quota: Quota) -> None:
        if quota.num < 1 or quota.period_ns < 1:
            raise ValueError(f"{quota} has to allow at least 1 in at least 1 ns")
        self.quota = quota
        self._arrival = 0

    def wait_ns(self, now_ns: int, num: int = 1) -> int:
        """Until so many may pass, 0: now. What is more than the whole quota may pass when nothing has for a while: it
        is paid off afterwards."""
        ahead = self._ahead(now_ns) + (min(num, self.quota.num) - self.quota.num) * self.quota.period_ns
        return max(0, -(-ahead // self.quota.num))

    def take(self, now_ns: int, num: int = 1) -> None:
        """So many pass, allowed or not. Less than 0: so many did not pass after all."""
        now = now_ns * self.quota.num
        self._arrival = max(now, max(now, self._arrival) + num * self.quota.period_ns)

    def remaining(self, now_ns: int) -> int:
        """How many might pass now."""
        return max(0, self.quota.num - -(-self._ahead(now_ns) // self.quota.period_ns))

    def reset_ns(self, now_ns: int) -> int:
        """Until the whole quota is there again."""
        return -(-self._ahead(now_ns) // self.quota.num)

    def is_idle(self, now_ns: int) -> bool:
        """Whether it is as if nothing had ever passed."""
        return self._ahead(now_ns) == 0

    def change(self, quota: Quota, now_ns: int) -> None:
        """From now on another quota holds; what has been used of the old one is as much, in parts of it, of the new."""
        ahead_ns = -(-self._ahead(now_ns) * quota.period_ns // (self.quota.num * self.quota.period_ns))
        self.quota = quota
        self._arrival = (now_ns + ahead_ns) * quota.num

    def _ahead(self, now_ns: int) -> int:
        return max(0, self._arrival - now_ns * self.quota.num)
