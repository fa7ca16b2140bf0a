"""Who is asked first among those who may answer. Pure: time and randomness come in, an order comes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hodios.router.demand import Demand
from hodios.router.seat import Seat
from hodios.router.stats import USUAL_OUTPUT, size_class
from hodios.router.track import Track
from hodios.router_settings import RouterSettings
from hodios.types import Price, Routing, Sort

MARGIN = 1.25
"""So many times better has the dearer of two to be."""
_MOST_OUTPUT = 16_384
_UNKNOWN_COST = 1e18

_RULES: dict[Sort, str] = {
    "price": "the lowest price first",
    "latency": "the lowest latency first",
    "throughput": "the highest throughput first",
    "perf": "the fastest for prompts of this size first",
    "perf_avg": "the fastest on average first",
}


class Option(NamedTuple):
    """A seat that may answer, as it is seen by one request."""

    seat: Seat
    track: Track
    cost: float
    """Expected, in nano-dollars, of the whole request."""


class Order(NamedTuple):
    options: list[Option]
    rule: str
    """For people."""


_FIT, _SLOW, _FULL, _OUT = range(4)


def cost_of(price: Price, demand: Demand, num_output_tokens: float) -> float:
    """Nano-dollars for the prompt and as many answers as are asked for, each of so many tokens. Whoever does not say
    what it costs counts as dearer than anybody who does."""
    if not price.is_known:
        return _UNKNOWN_COST
    completion = num_output_tokens * demand.num_answers * price.completion
    return (demand.num_prompt_tokens * price.prompt + completion) / 1e6 + price.request


def expected_output(track: Track, demand: Demand) -> float:
    """Tokens of one answer: as many as usual, and no more than are allowed."""
    usual = track.output.value
    most = _MOST_OUTPUT if demand.max_tokens is None else demand.max_tokens
    return min(float(most), USUAL_OUTPUT if usual is None else usual)


def option_of(seat: Seat, track: Track, demand: Demand) -> Option:
    cost = cost_of(seat.card.price, demand, expected_output(track, demand))
    return Option(seat, track, cost)


def tier(option: Option, routing: Routing, now_s: float) -> int:
    """How bad things stand: who has a higher one is asked after everybody with a lower one."""
    if option.track.breaker.state(now_s) in ("open", "probing"):
        return _OUT
    if option.track.load.is_full(now_s):
        return _FULL
    return _SLOW if _is_slow(option.track, routing) else _FIT


def arrange(
    options: Sequence[Option],
    routing: Routing,
    settings: RouterSettings,
    demand: Demand,
    now_s: float,
    rng: random.Random,
) -> Order:
    """All `options` in the order in which to ask them; only one where no second one may answer."""
    tiers = {id(option): tier(option, routing, now_s) for option in options}
    named = [option for option in options if option.seat.provider.name in routing.order]
    others = [option for option in options if option.seat.provider.name not in routing.order]
    named.sort(key=lambda option: routing.order.index(option.seat.provider.name))
    sort = routing.sort or (None if settings.policy == "balanced" else settings.policy)
    if sort is not None:
        measure = _measure(sort, demand)
        others.sort(key=lambda option: (tiers[id(option)], *measure(option)))
        rule = _RULES[sort]
    else:
        others = _balanced(others, tiers, settings.price_exponent, now_s, rng)
        rule = f"two drawn by price^-{settings.price_exponent:g}, the dearer only where clearly faster"
    if named:
        rule = "as ordered" if not others else f"as ordered, then {rule}"
    ordered = sorted((*named, *others), key=lambda option: tiers[id(option)] == _OUT)
    if not routing.allows_fallbacks and not routing.order:
        ordered = ordered[:1]
    return Order(ordered, rule)


def _is_slow(track: Track, routing: Routing) -> bool:
    """Whether the client prefers faster ones. Who is unknown is not slow."""
    if routing.preferred_max_latency_s is not None:
        median_s = track.stats.waits.value(0.5)
        if median_s is not None and median_s > routing.preferred_max_latency_s:
            return True
    speed = track.stats.throughput()
    least = routing.preferred_min_throughput
    return least is not None and speed is not None and speed < least


def _measure(sort: Sort, demand: Demand) -> Callable[[Option], tuple[float, float]]:
    """Less is better. Whoever is unknown goes first, once, so that it becomes known; then the cheaper one."""
    size = size_class(demand.num_prompt_tokens)

    def known(value: float | None, option: Option) -> tuple[float, float]:
        if value is not None:
            return value, option.cost
        return (float("inf") if option.track.load.num_in_flight else float("-inf")), option.cost

    def measure(option: Option) -> tuple[float, float]:
        stats = option.track.stats
        match sort:
            case "price":
                return option.cost, stats.latency_s() or 0.0
            case "latency":
                return known(stats.latency_s(), option)
            case "throughput":
                speed = stats.throughput()
                return known(None if speed is None else -speed, option)
            case "perf":
                return known(stats.duration_s(expected_output(option.track, demand), size), option)
            case "perf_avg":
                return known(stats.duration_s(expected_output(option.track, demand)), option)

    return measure


def _balanced(
    options: Sequence[Option], tiers: dict[int, int], exponent: float, now_s: float, rng: random.Random
) -> list[Option]:
    """The winner of the draw, then the others by price; whoever is to be probed goes first, once."""
    by_price = sorted(options, key=lambda option: (tiers[id(option)], option.cost))
    for option in by_price:
        if option.track.breaker.state(now_s) == "due":
            return [option, *(other for other in by_price if other is not option)]
    best = [option for option in by_price if tiers[id(option)] == tiers[id(by_price[0])]]
    if len(best) < 2:
        return by_price
    winner = _winner(*_drawn(best, exponent, rng), exponent, now_s)
    return [winner, *(option for option in by_price if option is not winner)]


def _drawn(options: Sequence[Option], exponent: float, rng: random.Random) -> tuple[Option, Option]:
    """Two of the options, which are in the order of price, by weight; the same one twice where only one has any."""
    weights = [_share(option.cost, options[0].cost, exponent) for option in options]
    first = rng.choices(range(len(options)), weights)[0]
    weights[first] = 0.0
    if not any(weights):
        return options[first], options[first]
    return options[first], options[rng.choices(range(len(options)), weights)[0]]


def _share(cost: float, least: float, exponent: float) -> float:
    """How many requests go there for each that goes to the cheapest. What costs nothing takes them all."""
    if cost <= least:
        return 1.0
    return float((least / cost) ** exponent) if least > 0 else 0.0


def _winner(one: Option, other: Option, exponent: float, now_s: float) -> Option:
    """Requests in flight count in units of each one's share, so that a crowd alone does not go to the dearer one."""
    cheaper, dearer = (one, other) if one.cost <= other.cost else (other, one)
    share = _share(dearer.cost, cheaper.cost, exponent)
    wait_s, dearer_wait_s = cheaper.track.wait_s(now_s), dearer.track.wait_s(now_s)
    if wait_s is None or dearer_wait_s is None:
        wait_s = dearer_wait_s = 1.0
    score = wait_s * (cheaper.track.load.num_in_flight + 1)
    dearer_score = dearer_wait_s * (dearer.track.load.num_in_flight / share + 1)
    margin = MARGIN if dearer.cost > cheaper.cost else 1.0
    return dearer if dearer_score * margin < score else cheaper
