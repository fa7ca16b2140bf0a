"""How many requests may be sent beyond those that clients send: to try again, and to hedge. Has no clock."""

from __future__ import annotations

RETRY_SHARE = 0.2
RETRIES_PER_S = 10.0
MOST_SAVED = 100.0
"""What a quiet time can save up, in requests."""


class Budget:
    """`share` of a request for each that comes, and `per_s` in any case; what is not used is saved up to `most`."""

    def __init__(self, share: float = RETRY_SHARE, per_s: float = RETRIES_PER_S, most: float = MOST_SAVED) -> None:
        self._share = share
        self._per_s = per_s
        self._most = most
        self._saved = most
        self._since_s: float | None = None

    def came(self, now_s: float) -> None:
        """A client's request has come."""
        self._fill(now_s)
        self._saved = min(self._most, self._saved + self._share)

    def take(self, now_s: float) -> bool:
        """Whether one more may be sent; if so, it counts."""
        self._fill(now_s)
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def _fill(self, now_s: float) -> None:
        if self._since_s is not None:
            self._saved = min(self._most, self._saved + self._per_s * (now_s - self._since_s))
        self._since_s = now_s
