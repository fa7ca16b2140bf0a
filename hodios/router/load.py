"""What is on its way to one model at one provider, by our own count and by what its server says, and how much it has
said it can take. O(1).
"""

from __future__ import annotations

from typing import NamedTuple

MEMORY_S = 10.0
"""How long a refusal for want of room is remembered."""
_PAUSE_S = 1.0
"""Where a provider that serves nothing of ours has no room and does not say for how long."""


class Report(NamedTuple):
    """What the server has said last."""

    came_s: float
    num_others: int
    """Requests that it has beside ours for this model."""
    num_waiting: int
    """Requests that it has not begun, whosever they are."""
    cache_usage: float | None
    """0 to 1; None: not told."""


class Ticket:
    """One request on its way."""

    __slots__ = ("began_s", "num_answers", "num_tokens", "num_uncached")

    def __init__(self, began_s: float, num_tokens: int, num_uncached: int, num_answers: int) -> None:
        self.began_s = began_s
        self.num_tokens = num_tokens
        self.num_uncached = num_uncached
        self.num_answers = num_answers


class Load:
    """Of one model at one provider."""

    def __init__(self) -> None:
        self.num_tokens = 0
        """Of prompts and expected answers in flight."""
        self.num_uncached = 0
        """Of prompts in flight whose first token has not come, those that are not taken to be cached there."""
        self.num_answers = 0
        """In flight; servers count each of them as a request."""
        self.report: Report | None = None
        """None where there is none, or none any more."""
        self._tickets: dict[Ticket, None] = {}
        self._waiting: dict[Ticket, None] = {}
        self._limit: float | None = None
        self._limited_until_s = 0.0
        self._paused_until_s = 0.0

    @property
    def num_in_flight(self) -> int:
        return len(self._tickets)

    @property
    def num_others(self) -> int:
        """Requests that others have sent, as far as is known."""
        return 0 if self.report is None else self.report.num_others

    @property
    def has_queue(self) -> bool:
        """Whether the server says that requests wait for it to begin them."""
        return self.report is not None and self.report.num_waiting > 0

    def begin(self, now_s: float, num_tokens: int, num_uncached: int, num_answers: int = 1) -> Ticket:
        ticket = Ticket(now_s, num_tokens, num_uncached, num_answers)
        self._tickets[ticket] = self._waiting[ticket] = None
        self.num_answers += num_answers
        self.num_tokens += num_tokens
        self.num_uncached += num_uncached
        return ticket

    def prefilled(self, ticket: Ticket) -> None:
        """Its first token has come."""
        self._waiting.pop(ticket, None)
        self.num_uncached -= ticket.num_uncached
        ticket.num_uncached = 0

    def end(self, ticket: Ticket) -> None:
        """However it ended."""
        self.prefilled(ticket)
        self.num_tokens -= ticket.num_tokens
        self.num_answers -= ticket.num_answers
        del self._tickets[ticket]

    def longest_wait_s(self, now_s: float) -> float:
        """Of those whose first token has not come; 0 where there are none."""
        oldest = next(iter(self._waiting), None)
        return 0.0 if oldest is None else now_s - oldest.began_s

    def is_oldest(self, ticket: Ticket) -> bool:
        """Whether none of those that came before it is still being served."""
        return next(iter(self._tickets)) is ticket

    def turned_away(self, now_s: float, retry_after_s: float | None) -> None:
        """A request, already ended, was refused for want of room."""
        if self._tickets:
            self._limit = float(len(self._tickets))
            self._limited_until_s = now_s + MEMORY_S
        else:
            self._paused_until_s = now_s + (retry_after_s or _PAUSE_S)

    def answered(self) -> None:
        """A request, already ended, was answered: there may be room for more."""
        self._paused_until_s = 0.0
        if self._limit is not None and len(self._tickets) + 1 >= self._limit:
            self._limit += 1 / max(1.0, self._limit)

    def is_full(self, now_s: float) -> bool:
        """Whether one more would be refused as far as is known. Who is full is asked last."""
        if now_s < self._paused_until_s:
            return True
        return self._limit is not None and now_s < self._limited_until_s and len(self._tickets) >= self._limit
