"""Asks those who may answer, one after the other, until one does; what the client has not seen can be asked again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from hodios.errors import HodiosError, ProviderError, TimedOut
from hodios.events import Event, Finish, Noticed, Stopped, Usage
from hodios.router.affinity import Affinity
from hodios.router.budget import Budget
from hodios.router.journey import Journey
from hodios.router.leg import Leg, Outcome
from hodios.router.payer import Payer
from hodios.router.plan import Planner
from hodios.router.seam import Seam
from hodios.router.seat import Group, Seat
from hodios.router.track import OnBreaker, Tracks
from hodios.router_settings import RouterSettings
from hodios.types import Request, Route, Warning

Record = Callable[[Request, Route, Usage | None, HodiosError | None], None]
"""Told of every request that somebody was asked for, once, when it is over: (request, route, usage where it was
answered, error where it failed). With neither the client left."""
_SPENT = Warning("max_tokens", "budget_spent", "the answer ends here because a budget of the key is spent")
OnAttempt = Callable[[Seat], None]
_NOTHING: tuple[Usage | None, Route | None, HodiosError | None] = (None, None, None)
LEAST_SAMPLES = 20
"""Before a provider's p95 is known well enough to hedge by it."""


def _ignore(request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
    pass


def _never() -> bool:
    return False


def told(*records: Record) -> Record:
    """All of them, in this order."""

    def record(request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
        for each in records:
            each(request, route, usage, error)

    return record


class Router:
    """One for all requests of an event loop. `clock` gives seconds from anywhere, and never goes back."""

    def __init__(
        self,
        settings: RouterSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        record: Record = _ignore,
        on_breaker: OnBreaker | None = None,
    ) -> None:
        self._settings = settings or RouterSettings()
        self._clock = clock
        self._record = record
        rng = rng or random.Random()
        self.tracks = Tracks(on_breaker) if on_breaker else Tracks()
        self._affinity = Affinity(rng, saturation_tokens=self._settings.saturation_tokens)
        self._planner = Planner(self._settings, self.tracks, self._affinity, rng)
        self._retries = Budget()
        self._hedges = Budget(self._settings.hedge_share, 0.0, 1.0)

    async def generate(
        self,
        request: Request,
        groups: Sequence[Group],
        on_attempt: OnAttempt,
        payer: Payer | None = None,
        is_over: Callable[[], bool] = _never,
    ) -> AsyncGenerator[Event, None]:
        """The events of the answer. Closing it stops whoever is at work; once `is_over`, a `Finish` ends it. `groups`
        are the model and its fallbacks; `on_attempt` is told of everybody who is asked. Raises HodiosError."""
        now_s = self._clock()
        plan = self._planner.plan(request, groups, now_s)
        journey, seam = Journey(request, plan, now_s, on_attempt, payer), Seam.of(request, plan)
        usage, route, told = _NOTHING
        try:
            leg = await self._first_to_answer(journey)
            while True:
                for event in leg.held:
                    yield event if seam is None else seam.pass_on(event)
                try:
                    check = leg.course.check
                    async for event in leg.events:
                        check(event)
                        if type(event) is Finish:
                            leg.finish = event
                        else:
                            yield event if seam is None else seam.pass_on(event)
                        if is_over() or (payer is not None and leg.is_short() and not await leg.has_more()):
                            for event in () if is_over() else _cut_short(leg):
                                yield event
                            break
                    else:
                        leg.course.check_end()
                    break
                except HodiosError as error:
                    await journey.end(leg, _end_of(error), self._clock(), error)
                    if seam is not None and seam.is_at_length:
                        seam.broken(leg)
                        yield Stopped(0, "length")
                        break
                    leg, seam = await self._following(journey, seam, leg, error)
            await journey.end(leg, "answered", self._clock())
            usage, route = _usage(seam, leg), journey.settled()
            yield Finish(usage, route)
        except BaseException as error:
            told = error if isinstance(error, HodiosError) else None
            await journey.close(_outcome_of(error), self._clock())
            raise
        finally:
            self._record(request, route or journey.settled(), usage, told)

    async def _first_to_answer(self, journey: Journey) -> Leg:
        """Whoever has something to show. Raises HodiosError where nobody has."""
        if not journey.legs:
            self._retries.came(journey.began_s)
            if self._settings.hedge_share:
                self._hedges.came(journey.began_s)
        while self._may_ask(journey):
            leg = await self._opened(journey, self._next_leg(journey))
            if leg is not None:
                return leg
        raise journey.error()

    async def _following(
        self, journey: Journey, seam: Seam | None, leg: Leg, error: HodiosError
    ) -> tuple[Leg, Seam | None]:
        """Who is asked after `leg` broke off with `error`, and the seam of that answer. Raises HodiosError."""
        following = await self._continued(journey, seam, leg, error)
        if following is not None:
            return following, seam
        return await self._anew(journey, error), Seam.of(journey.request, journey.plan)

    async def _continued(self, journey: Journey, seam: Seam | None, leg: Leg, error: HodiosError) -> Leg | None:
        """Who goes on with the answer that `leg` broke off with `error`, of which the client has everything so far.
        What is `held` there comes next. None where nobody can."""
        if seam is None or not seam.can_go_on(error):
            return None
        seam.broken(leg)
        for stop in seam.stops(journey, leg):
            now_s = self._clock()
            if len(journey.legs) >= self._settings.max_attempts or not self._retries.take(now_s):
                break
            following = journey.leg_to(stop, seam.request(), now_s)
            if await self._heard(journey, following, _within(following, self._settings.timeout_s / 2)):
                seam.join(leg, following)
                return following
        return None

    async def _anew(self, journey: Journey, error: HodiosError) -> Leg:
        """Who begins the answer anew that broke off with `error`. Raises it where the client has seen some of it."""
        if not journey.request.is_shown_whole:
            raise error
        journey.begin_anew(self._clock())
        return await self._first_to_answer(journey)

    def _may_ask(self, journey: Journey) -> bool:
        if not journey.legs:
            return True
        now_s = self._clock()
        is_over = len(journey.legs) >= self._settings.max_attempts or now_s >= self._deadline_s(journey)
        if is_over or not journey.has_next:
            return False
        return journey.is_free_to_retry or self._retries.take(now_s)

    def _deadline_s(self, journey: Journey) -> float:
        return journey.anew_s + self._settings.timeout_s

    def _next_leg(self, journey: Journey) -> Leg:
        leg = journey.next_leg(self._clock())
        if journey.plan.marks and leg.seat.card.is_replica:
            self._affinity.sent(leg.seat.card.id, leg.seat.provider.name, journey.plan.marks)
        return leg

    async def _opened(self, journey: Journey, leg: Leg) -> Leg | None:
        """The leg that has something to show, which may be a second one; None where that came to nothing."""
        if len(journey.plan.stops) == 1:
            # Its own time limits are all there is to wait for.
            return leg if await self._heard(journey, leg, leg.open(is_only=True)) else None
        left_s = self._deadline_s(journey) - self._clock()
        patience_s = left_s / 2 if journey.has_next else left_s
        late_s = self._late_s(journey, leg)
        if late_s is not None and late_s < patience_s:
            return await self._race(journey, leg, late_s, patience_s)
        return leg if await self._heard(journey, leg, _within(leg, patience_s)) else None

    async def _heard(self, journey: Journey, leg: Leg, opening: Awaitable[None]) -> bool:
        """Whether it has something to show; otherwise it is over."""
        try:
            await opening
            if leg.is_empty and journey.has_next:
                raise _failure(ProviderError, leg, "gave an empty answer")
        except HodiosError as error:
            await journey.fail(leg, self._clock(), error)
            return False
        leg.begin_to_show(self._clock())
        return True

    def _late_s(self, journey: Journey, leg: Leg) -> float | None:
        """When to ask a second one at the same time; None: not at all."""
        if not self._settings.hedge_share or not journey.has_next:
            return None
        return leg.track.stats.waits.value(0.95, least_samples=LEAST_SAMPLES)

    def _may_hedge(self, journey: Journey) -> bool:
        has_room = journey.has_next and len(journey.legs) < self._settings.max_attempts
        return has_room and self._hedges.take(self._clock())

    async def _race(self, journey: Journey, leg: Leg, late_s: float, patience_s: float) -> Leg | None:
        """The first of two to have something to show; the other one is closed."""
        running = {asyncio.create_task(_within(leg, patience_s)): leg}
        try:
            done, _ = await asyncio.wait(running, timeout=late_s)
            if not done and self._may_hedge(journey):
                backup = self._next_leg(journey)
                running[asyncio.create_task(_within(backup, patience_s))] = backup
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    leg = running.pop(task)
                    if await self._heard(journey, leg, task):
                        return leg
            return None
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for loser in running.values():
                await journey.end(loser, "cancelled", self._clock())


def _usage(seam: Seam | None, leg: Leg) -> Usage:
    """Of an answer that is over, whoever gave which part."""
    last = None if leg.finish is None else leg.finish.usage
    if seam is not None:
        return seam.usage(last)
    course = leg.course
    return last or Usage(
        prompt_tokens=course.num_prompt_tokens,
        completion_tokens=course.num_tokens,
        cached_tokens=course.num_cached_tokens,
    )


def _cut_short(leg: Leg) -> list[Event]:
    """The end of an answer for which nobody pays any more."""
    return [Noticed(_SPENT), *(Stopped(index, "length") for index in sorted(leg.course.open_choices))]


def _outcome_of(error: BaseException) -> Outcome:
    """Of those that were on their way when it came."""
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "failed"


def _end_of(error: HodiosError) -> Outcome:
    """What an error after the first token says of the provider. It is not to blame for what the client did."""
    return "broke_off" if error.status >= 500 else "refused"


async def _within(leg: Leg, patience_s: float) -> None:
    """Opens it. Raises TimedOut where that takes too long."""
    try:
        async with asyncio.timeout(patience_s):
            await leg.open(is_only=False)
    except TimeoutError:
        raise _failure(TimedOut, leg, f"did not begin to answer within {patience_s:.3g} s") from None


def _failure(kind: type[HodiosError], leg: Leg, what: str) -> HodiosError:
    name = leg.seat.provider.name
    return kind(f"{name} {what}", metadata={"provider": name})
