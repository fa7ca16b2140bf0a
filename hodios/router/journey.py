"""The way of one request: whom it has asked, whom it may still ask, and what there is to tell of it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from hodios.errors import HodiosError, InvalidRequest, Overloaded
from hodios.router.leg import Leg, Outcome
from hodios.router.payer import Payer
from hodios.router.plan import Plan, Stop, candidates_of
from hodios.router.seat import Seat
from hodios.types import Attempt, Request, Route


class Journey:
    """Lives as long as its request."""

    def __init__(
        self,
        request: Request,
        plan: Plan,
        now_s: float,
        on_attempt: Callable[[Seat], None],
        payer: Payer | None = None,
    ) -> None:
        self.request = request
        self.payer = payer
        self.plan = plan
        self.began_s = now_s
        self.anew_s = now_s
        """When the answer that is on its way was begun."""
        self.legs: list[Leg] = []
        self._on_attempt = on_attempt
        self._attempts: list[Attempt] = []
        self._numbers: list[int] = []
        """Of the attempts, in the order in which they ended."""
        self._errors: list[HodiosError] = []
        self._outcome: Outcome | None = None

    @property
    def has_next(self) -> bool:
        return self._next_stop() is not None

    @property
    def is_free_to_retry(self) -> bool:
        """Whether the last attempt cost its provider nothing that a budget would have to bound."""
        return self._outcome == "refused"

    def begin_anew(self, now_s: float) -> None:
        """What came so far is thrown away: the client has nothing of it, and pays nothing for it."""
        self.anew_s = now_s
        self._attempts = [
            replace(
                attempt, outcome="failed" if attempt.outcome == "broke_off" else attempt.outcome, first_token_s=None
            )
            for attempt in self._attempts
        ]

    def next_leg(self, now_s: float) -> Leg:
        stop = self._next_stop()
        assert stop is not None, "whoever asks for the next one has looked whether there is one"
        return self.leg_to(stop, self.request, now_s)

    def _next_stop(self) -> Stop | None:
        """The first who was not asked yet: whoever went on with an answer was asked out of turn."""
        if not self.legs:
            return self.plan.stops[0] if self.plan.stops else None
        asked = {id(leg.seat) for leg in self.legs}
        return next((stop for stop in self.plan.stops if id(stop.seat) not in asked), None)

    def leg_to(self, stop: Stop, request: Request, now_s: float) -> Leg:
        leg = Leg(stop, request, self.plan.size, now_s, number=len(self.legs) + 1, payer=self.payer)
        self.legs.append(leg)
        self._on_attempt(leg.seat)
        return leg

    async def end(self, leg: Leg, outcome: Outcome, now_s: float, error: HodiosError | None = None) -> None:
        """Close what is left of it, and note how it ended."""
        if leg.outcome is not None:
            return
        leg.settle(outcome, now_s, error)
        self._attempts.append(leg.attempt(self.began_s, now_s, outcome, error))
        self._numbers.append(leg.number)
        self._outcome = outcome
        if error is not None:
            self._errors.append(error)
        await leg.events.aclose()

    async def fail(self, leg: Leg, now_s: float, error: HodiosError) -> None:
        """Before its first token."""
        await self.end(leg, leg.outcome_of(error), now_s, error)

    async def close(self, outcome: Outcome, now_s: float) -> None:
        """End whatever is still on its way."""
        for leg in self.legs:
            await self.end(leg, outcome, now_s)

    def error(self) -> HodiosError:
        """What the client is told where nobody answered: a refusal only if all refuse, else when to come back."""
        refusals = [error for error in self._errors if isinstance(error, InvalidRequest)]
        overloads = [error for error in self._errors if isinstance(error, Overloaded)]
        if len(refusals) == len(self._errors):
            return self._told(refusals[0])
        if overloads:
            return self._told(min(overloads, key=lambda error: error.retry_after or 1))
        return self._told([error for error in self._errors if error not in refusals][-1])

    def _told(self, error: HodiosError) -> HodiosError:
        if len(self._attempts) > 1:
            attempts = [
                {"provider": attempt.provider, "model": attempt.model, "error": attempt.error}
                for attempt in self._attempts
            ]
            error.metadata = {**(error.metadata or {}), "attempts": attempts}
        return error

    def settled(self) -> Route:
        """What has become of it, once nothing more will; whoever pays is told."""
        if self.payer is not None:
            for number, attempt in zip(self._numbers, self._attempts, strict=True):
                self.payer.settle(number, attempt)
        return self.route()

    def route(self) -> Route:
        attempts = sorted(self._attempts, key=lambda attempt: attempt.began_s)
        return Route(policy=self.plan.rule, candidates=candidates_of(self.plan), attempts=tuple(attempts))
