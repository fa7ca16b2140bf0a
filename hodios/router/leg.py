"""One provider being asked: its events as far as they are held back, and what its track learns from how it ends."""

from __future__ import annotations

import functools
from typing import Literal, cast

from hodios.errors import HodiosError, NotAvailable, Overloaded, ProviderError, TimedOut
from hodios.events import Event, Finish, Reasoning, Text, ToolCall
from hodios.providers.base import Counting, Provider
from hodios.router.course import Course
from hodios.router.payer import Payer
from hodios.router.plan import Stop, for_seat
from hodios.types import Attempt, Request

Outcome = Literal["answered", "refused", "failed", "overloaded", "broke_off", "cancelled"]
RATE_LIMITED = 429


class Leg:
    """From the first look at a provider to its last event. `open`, then read `held` and `events`, then `settle`."""

    def __init__(
        self, stop: Stop, request: Request, size: int, now_s: float, *, number: int = 1, payer: Payer | None = None
    ) -> None:
        seat, track = stop.seat, stop.track
        self.number = number
        """Of the attempt; the first one is 1."""
        self.seat = seat
        self.track = track
        self.course = Course(seat.provider.name, request)
        self.events = seat.provider.generate(for_seat(request, seat))
        self.held: list[Event] = []
        """What came before there was anything to show, and the first that is shown."""
        self.finish: Finish | None = None
        self.began_s = now_s
        self.first_s: float | None = None
        self.outcome: Outcome | None = None
        """None while it is on its way."""
        self._must_say = request.max_tokens != 0 and request.beginning is None
        """Whether an answer without a token is none: what somebody else began may be whole already."""
        self._size = size
        self._payer = payer
        self._request = request
        self._is_paid = True
        self._ticket = track.load.begin(now_s, stop.num_tokens, stop.num_uncached, stop.num_answers)
        self._is_probe = track.breaker.begin(now_s)

    async def open(self, *, is_only: bool) -> None:
        """Waits for something to show, or for the end of an answer that has nothing. Raises HodiosError.

        Until then another provider can be asked without the client noticing; for the only one, any event will do.
        """
        if self._payer is not None:
            await self._reserve(self._payer)
        check = self.course.check
        async for event in self.events:
            check(event)
            if type(event) is Finish:
                self.finish = event
                continue
            self.held.append(event)
            if is_only or _is_content(event):
                return
        self.course.check_end()

    async def _reserve(self, payer: Payer) -> None:
        """Where the provider can count, the prompt is read before anything is paid, and not read again."""
        provider, num_prompt_tokens = self.seat.provider, None
        if _can_count(type(provider)):
            reading = await cast(Counting, provider).read(for_seat(self._request, self.seat))
            num_prompt_tokens = reading.num_prompt_tokens
            self.events = reading.answer()
        self._is_paid = False
        await payer.reserve(self.number, self.seat.card, self._request, num_prompt_tokens)
        self._is_paid = True

    def is_short(self) -> bool:
        """Whether nothing is at hand to pay what would come next; `has_more` says whether it can be had."""
        course = self.course
        if self._payer is None or not course.open_choices:
            return False
        counts = (course.num_prompt_tokens, course.num_cached_tokens, course.num_tokens)
        if course.is_whole:
            self._payer.came(self.number, *counts)
            return False
        return not self._payer.progress(self.number, *counts)

    async def has_more(self) -> bool:
        return self._payer is not None and await self._payer.more(self.number)

    def begin_to_show(self, now_s: float) -> None:
        """Its first token has come."""
        self.first_s = now_s
        self.track.load.prefilled(self._ticket)
        self.track.stats.waited(now_s - self.began_s, self._size, now_s)
        if self._is_probe:
            self.track.breaker.succeed(self.began_s, now_s)

    @property
    def is_empty(self) -> bool:
        """Whether the answer is whole and the provider generated nothing, which nobody asked for."""
        finish = self.finish
        if finish is None or not self._must_say or finish.usage.completion_tokens:
            return False
        return not any(_is_content(event) for event in self.held)

    def settle(self, outcome: Outcome, now_s: float, error: HodiosError | None = None) -> None:
        """It is over."""
        self.outcome = outcome
        track = self.track
        track.load.end(self._ticket)
        match outcome:
            case "answered":
                track.breaker.succeed(self.began_s, now_s)
                track.load.answered()
                if self.first_s is not None:
                    track.output.add(self.course.num_tokens)
                    # What came, not what the provider says came: speeds are to be compared.
                    track.stats.wrote(self.course.num_tokens, now_s - self.first_s, self._size)
            case "failed" | "broke_off":
                track.breaker.fail(self.began_s, now_s, _reason(outcome, error))
            case "overloaded":
                self._turned_away(error, now_s)
            case "refused" | "cancelled":
                self._release()
        if self.first_s is None and (outcome == "cancelled" or isinstance(error, TimedOut)):
            # Nobody knows how much longer it would have taken: as long again is the usual guess.
            track.stats.wait.add_at_least(2 * (now_s - self.began_s), now_s)

    def outcome_of(self, error: HodiosError) -> Outcome:
        """What an error before the first token says of the provider."""
        if not self._is_paid:
            return "refused"
        if isinstance(error, Overloaded):
            return "overloaded"
        if error.status < 500 or isinstance(error, NotAvailable):
            return "refused"
        if isinstance(error, ProviderError) and _status(error) == Overloaded.status:
            # Some servers that have no room say no more than that. One that still serves others is not out of order.
            return "failed" if self.track.load.is_oldest(self._ticket) else "overloaded"
        return "failed"

    def attempt(self, since_s: float, now_s: float, outcome: Outcome, error: HodiosError | None) -> Attempt:
        """For the record, in seconds since `since_s`."""
        usage = None if self.finish is None else self.finish.usage
        return Attempt(
            provider=self.seat.provider.name,
            model=self.seat.card.id,
            began_s=self.began_s - since_s,
            first_token_s=None if self.first_s is None else self.first_s - since_s,
            ended_s=now_s - since_s,
            outcome=outcome,
            error="" if error is None else error.message,
            status=None if error is None else _status(error),
            prompt_tokens=self.course.num_prompt_tokens if usage is None else usage.prompt_tokens,
            cached_tokens=self.course.num_cached_tokens if usage is None else usage.cached_tokens,
            completion_tokens=self.course.num_tokens if usage is None else usage.completion_tokens,
            price=self.seat.card.price,
            version=self.seat.card.fingerprint,
        )

    def _turned_away(self, error: HodiosError | None, now_s: float) -> None:
        self._release()
        retry_after_s = None if error is None else error.retry_after
        if error is not None and _status(error) == RATE_LIMITED:
            self.track.breaker.hold(now_s, now_s + (retry_after_s or 1))
        else:
            self.track.load.turned_away(now_s, retry_after_s)

    def _release(self) -> None:
        if self._is_probe:
            self.track.breaker.release(self.began_s)


def _reason(outcome: Outcome, error: HodiosError | None) -> str:
    """For everybody to read, so nothing that the provider said."""
    if outcome == "broke_off":
        return "its answers broke off"
    if isinstance(error, TimedOut):
        return "it did not answer in time"
    status = None if error is None else _status(error)
    return "it could not be reached, or made no sense" if status is None else f"it answered with HTTP {status}"


@functools.cache
def _can_count(kind: type[Provider]) -> bool:
    """Asked once of each class, since Python looks through all that it has."""
    return issubclass(kind, Counting)


def _is_content(event: Event) -> bool:
    if isinstance(event, Text):
        return bool(event.text or event.logprobs)
    return isinstance(event, (Reasoning, ToolCall))


def _status(error: HodiosError) -> int | None:
    """Of the provider's own answer."""
    status = (error.metadata or {}).get("status")
    return status if isinstance(status, int) else None
