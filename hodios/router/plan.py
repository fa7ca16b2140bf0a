"""From a request and who serves its models to the order in which they are asked. Asks nobody."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from hodios.errors import UnsupportedParameter
from hodios.router.affinity import Affinity, Mark, marks_of
from hodios.router.demand import Demand, demand_of
from hodios.router.filters import Exclusion, exclusion
from hodios.router.policy import Option, Order, arrange, option_of, tier
from hodios.router.seat import Group, Seat
from hodios.router.stats import size_class
from hodios.router.track import Track, Tracks
from hodios.router_settings import RouterSettings
from hodios.types import Candidate, Request, Routing

_NEUTRAL = Routing()
_ONLY_ONE = "the only one who has it"

_Excluded = dict[tuple[int, int], Exclusion]
"""By numbers of a group and of a seat in it."""


class Stop(NamedTuple):
    """One whom a request may ask."""

    seat: Seat
    track: Track
    num_tokens: int = 0
    """About what the request and its answer have; 0 where nobody needs to know."""
    num_uncached: int = 0
    num_answers: int = 1


class Plan(NamedTuple):
    stops: Sequence[Stop]
    rule: str
    """For people."""
    excluded: Sequence[Candidate] = ()
    size: int = 0
    """The prompt's size class."""
    marks: Sequence[Mark] = ()
    """By which replicas know the prompt again; empty where no replica is asked."""


class Planner:
    def __init__(self, settings: RouterSettings, tracks: Tracks, affinity: Affinity, rng: random.Random) -> None:
        self._settings = settings
        self._tracks = tracks
        self._affinity = affinity
        self._rng = rng

    def plan(self, request: Request, groups: Sequence[Group], now_s: float) -> Plan:
        """Raises UnsupportedParameter, which says of each why it may not answer."""
        if len(groups) == 1 and len(groups[0].seats) == 1 and groups[0].routing == _NEUTRAL:
            seat = groups[0].seats[0]
            return Plan((Stop(seat, self._tracks.of(seat)),), _ONLY_ONE)
        demand = demand_of(request)
        excluded = {
            (number, place): reason
            for number, group in enumerate(groups)
            for place, seat in enumerate(group.seats)
            if (reason := exclusion(seat, group.routing, demand)) is not None
        }
        if len(excluded) == sum(len(group.seats) for group in groups):
            strict = {place: reason for place, reason in excluded.items() if reason.is_strict}
            if len(strict) == len(excluded):
                raise _none_left(request.model, groups, excluded)
            excluded = strict
        return self._arranged(request, groups, demand, excluded, now_s)

    def _arranged(
        self,
        request: Request,
        groups: Sequence[Group],
        demand: Demand,
        excluded: _Excluded,
        now_s: float,
    ) -> Plan:
        left = [
            [
                option_of(seat, self._tracks.of(seat), demand)
                for place, seat in enumerate(group.seats)
                if (number, place) not in excluded
            ]
            for number, group in enumerate(groups)
        ]
        out = [_candidate(groups[number].seats[place], reason.reason) for (number, place), reason in excluded.items()]
        left, held = _without_held(left, now_s)
        out += held
        has_replicas = any(sum(option.seat.card.is_replica for option in options) > 1 for options in left)
        marks = marks_of(request) if has_replicas else []
        stops: list[Stop] = []
        rules: list[str] = []
        for group, options in zip(groups, left, strict=True):
            if options:
                found, rule = self._ordered(options, group.routing, demand, marks, now_s)
                stops += found
                rules.append(rule)
        # Those that are out of order may answer for a model when all of its fallbacks have failed too.
        stops.sort(key=lambda stop: stop.track.breaker.state(now_s) in ("open", "probing"))
        return Plan(stops, rules[0], out, size_class(demand.num_prompt_tokens), marks)

    def _ordered(
        self, options: Sequence[Option], routing: Routing, demand: Demand, marks: Sequence[Mark], now_s: float
    ) -> tuple[list[Stop], str]:
        """Replicas stand as one among the others, unless the client names them one by one."""
        num_output = options[0].track.output.value or 0.0
        num_tokens = demand.num_prompt_tokens + int(num_output) * demand.num_answers
        replicas = [option for option in options if option.seat.card.is_replica]
        if len(replicas) < 2 or routing.order:
            order = self._arrange(options, routing, demand, now_s)
            counts = (num_tokens, demand.num_prompt_tokens, demand.num_answers)
            return [Stop(option.seat, option.track, *counts) for option in order.options], order.rule
        replicas[0].track.size.add(num_tokens)
        for option in replicas:
            option.track.compared_s = now_s
        tiers = {id(option): tier(option, routing, now_s) for option in replicas}
        fittest = [option for option in replicas if tiers[id(option)] == min(tiers.values())]
        choice = self._affinity.choose(fittest, marks)
        led = [*choice.options, *(option for option in replicas if option not in fittest)]
        others = [option for option in options if not option.seat.card.is_replica]
        order = self._arrange([led[0], *others], routing, demand, now_s)
        stops: list[Stop] = []
        for option in order.options:
            for each in led if option is led[0] else (option,):
                num_cached = choice.num_cached if each is led[0] else 0
                uncached = max(0, demand.num_prompt_tokens - num_cached)
                stops.append(Stop(each.seat, each.track, num_tokens, uncached, demand.num_answers))
        rule = "the replica that has the prefix, else the less loaded of two"
        return stops[: None if routing.allows_fallbacks else 1], rule if not others else f"{order.rule}; {rule}"

    def _arrange(self, options: Sequence[Option], routing: Routing, demand: Demand, now_s: float) -> Order:
        if len(options) == 1:
            return Order(list(options), _ONLY_ONE)
        return arrange(options, routing, self._settings, demand, now_s, self._rng)


def _without_held(options: list[list[Option]], now_s: float) -> tuple[list[list[Option]], list[Candidate]]:
    """Whoever asked to be left alone is, as long as somebody else is left."""
    is_held = {id(option): option.track.breaker.held_until_s > now_s for group in options for option in group}
    if all(is_held.values()):
        return options, []
    held = [
        _candidate(
            option.seat, f"asked to be left alone for {math.ceil(option.track.breaker.held_until_s - now_s)} s more"
        )
        for group in options
        for option in group
        if is_held[id(option)]
    ]
    return [[option for option in group if not is_held[id(option)]] for group in options], held


def _candidate(seat: Seat, excluded: str = "") -> Candidate:
    return Candidate(provider=seat.provider.name, model=seat.card.id, price=seat.card.price, excluded=excluded)


def candidates_of(plan: Plan) -> tuple[Candidate, ...]:
    """All of them, those that may not answer last."""
    return (*(_candidate(stop.seat) for stop in plan.stops), *plan.excluded)


def _none_left(model: str, groups: Sequence[Group], excluded: _Excluded) -> UnsupportedParameter:
    params = {reason.param for reason in excluded.values()}
    reasons = [
        f"{groups[number].seats[place].provider.name} {reason.reason}" for (number, place), reason in excluded.items()
    ]
    param = params.pop() if len(params) == 1 else "provider"
    shown = "; ".join(reasons[:8]) + ("; …" if len(reasons) > 8 else "")
    return UnsupportedParameter(
        f"{param}: nobody is left to answer for {model[:256]!r}: {shown}",
        param=param,
        metadata={"excluded": reasons},
    )


def for_seat(request: Request, seat: Seat) -> Request:
    return request if request.model == seat.card.id else structs.replace(request, model=seat.card.id)
