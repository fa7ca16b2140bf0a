from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seating import demand, names, option

from hodios.router.breaker import NUM_IN_A_ROW
from hodios.router.policy import Option, arrange, cost_of
from hodios.router_settings import RouterSettings
from hodios.types import UNKNOWN_PRICE, Price, Routing

NOW_S = 100.0


def arranged(
    options: list[Option], seed: int = 0, exponent: float = 2.0, policy: Any = "balanced", **routing: Any
) -> list[str]:
    settings = RouterSettings(policy=policy, price_exponent=exponent)
    return names(arrange(options, Routing(**routing), settings, demand(), NOW_S, random.Random(seed)).options)


def waited(option: Option, wait_s: float, tokens_per_s: float = 100.0, size: int = 0) -> Option:
    for _ in range(3):
        option.track.stats.waited(wait_s, size, NOW_S)
        option.track.stats.wrote(101, 100 / tokens_per_s, size)
    return option


def loaded(option: Option, num_in_flight: int) -> Option:
    for _ in range(num_in_flight):
        option.track.load.begin(NOW_S, 0, 0)
    return option


def ejected(option: Option, at_s: float = NOW_S) -> Option:
    for _ in range(NUM_IN_A_ROW):
        option.track.breaker.fail(at_s, at_s)
    return option


def test_a_price_is_that_of_the_whole_request() -> None:
    price = Price(prompt=2_000_000_000, completion=6_000_000_000, request=500)
    asked = demand(num_prompt_tokens=1000, num_answers=2)
    assert cost_of(price, asked, 100) == 2_000_000 + 1_200_000 + 500
    assert cost_of(UNKNOWN_PRICE, asked, 100) > cost_of(Price(prompt=10**15), asked, 100)


def first_shares(make: Any, num: int = 10_000, **more: Any) -> Counter[str]:
    rng = random.Random(3)
    options = make()
    firsts: Counter[str] = Counter()
    for _ in range(num):
        settings = RouterSettings(**more)
        firsts[arrange(options, Routing(), settings, demand(), NOW_S, rng).options[0].seat.provider.name] += 1
    return firsts


@pytest.mark.parametrize(("exponent", "most"), [(2.0, 1.36), (3.0, 1.18), (6.0, 1.02)])
def test_the_regret_of_the_draw_is_bounded(exponent: float, most: float) -> None:
    """Where nothing is known of anybody, and where the dearer ones would be clearly faster."""
    fast = {"p1": 1.0, "p2": 0.1, "p3": 0.1}
    for make, bound in (
        (lambda: [option(f"p{price}", price) for price in (1, 2, 3)], most),
        (lambda: [waited(option(f"p{price}", price), 0.2) for price in (1, 2, 3)], most),
        (lambda: [waited(option(f"p{price}", price), fast[f"p{price}"]) for price in (1, 2, 3)], 3.0),
    ):
        firsts = first_shares(make, price_exponent=exponent)
        regret = sum(int(name[1:]) * num for name, num in firsts.items()) / firsts.total()
        assert regret <= bound, firsts


def test_the_dearer_one_wins_only_where_it_is_clearly_better() -> None:
    def winner(dearer_s: float, in_flight: int = 0) -> str:
        return arranged([loaded(waited(option("cheap", 1), 1.0), in_flight), waited(option("dear", 2), dearer_s)])[0]

    assert [winner(wait_s) for wait_s in (2.0, 1.0, 0.81, 0.79, 0.1)] == ["cheap", "cheap", "cheap", "dear", "dear"]
    assert winner(1.0, in_flight=1) == "dear"


def test_of_the_same_price_the_better_one_wins() -> None:
    assert arranged([waited(option("a"), 1.0), waited(option("b"), 0.99)])[0] == "b"
    assert arranged([loaded(option("a"), 2), loaded(option("b"), 1)])[0] == "b"


def test_a_crowd_goes_to_the_dearer_ones_only_in_their_share() -> None:
    cheap, dear = waited(option("cheap", 1), 1.0), waited(option("dear", 3), 1.0)
    for _ in range(1000):
        first = arrange([cheap, dear], Routing(), RouterSettings(), demand(), NOW_S, random.Random(0)).options[0]
        loaded(first, 1)
    assert dear.track.load.num_in_flight <= 1000 / 9


def test_one_who_keeps_a_request_waiting_is_judged_by_that() -> None:
    stuck = loaded(waited(option("stuck", 1), 0.1), 1)
    calm = loaded(waited(option("calm", 1), 0.1), 3)
    order = arrange([stuck, calm], Routing(), RouterSettings(), demand(), NOW_S, random.Random(0))
    assert names(order.options)[0] == "stuck"
    order = arrange([stuck, calm], Routing(), RouterSettings(), demand(), NOW_S + 5, random.Random(0))
    assert names(order.options)[0] == "stuck", "both wait as long"
    for ticket in list(calm.track.load._tickets):
        calm.track.load.prefilled(ticket)
    order = arrange([stuck, calm], Routing(), RouterSettings(), demand(), NOW_S + 5, random.Random(0))
    assert names(order.options)[0] == "calm"


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0, 1e6]), min_size=1, max_size=6), st.integers(0, 99), st.data())
def test_everybody_is_in_the_order_once(prices: list[float], seed: int, data: st.DataObject) -> None:
    options = [option(f"p{at}", price) for at, price in enumerate(prices)]
    for each in options:
        state = data.draw(st.sampled_from(["fresh", "slow", "busy", "out"]))
        if state == "slow":
            waited(each, 5.0)
        elif state == "busy":
            loaded(each, 7)
        elif state == "out":
            ejected(each)
    order = arranged(options, seed, exponent=data.draw(st.sampled_from([0.0, 2.0, 20.0])))
    assert sorted(order) == sorted(names(options))
    out = [
        name for name, each in zip(names(options), options, strict=True) if each.track.breaker.state(NOW_S) == "open"
    ]
    assert set(order[len(order) - len(out) :]) == set(out), "they are asked last"


def test_what_is_free_is_asked_before_what_costs() -> None:
    for seed in range(50):
        assert arranged([option("dear", 1), option("free", 0), option("other", 0)], seed)[2] == "dear"


def test_the_others_follow_by_price_and_those_out_of_order_last() -> None:
    options = [ejected(option("a", 1)), option("b", 4), option("c", 3), option("d", 2)]
    for seed in range(30):
        first, *others = arranged(options, seed)
        assert others == [name for name in ("d", "c", "b") if name != first] + ["a"]


def test_who_is_due_to_be_probed_goes_first_once() -> None:
    probed = ejected(option("probed", 50), NOW_S - 31)
    options = [option("a", 1), probed]
    assert arranged(options)[0] == "probed"
    probed.track.breaker.begin(NOW_S)
    assert arranged(options) == ["a", "probed"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("price", ["b", "a", "c"]),
        ("latency", ["c", "a", "b"]),
        ("throughput", ["b", "c", "a"]),
        ("perf", ["b", "c", "a"]),
        ("perf_avg", ["c", "b", "a"]),
    ],
)
def test_sorting(sort: Any, expected: list[str]) -> None:
    # (wait for short prompts, speed, wait for long prompts)
    figures = {"a": (2, 0.30, 20, 1.0), "b": (1, 0.50, 500, 9.0), "c": (3, 0.10, 100, 0.1)}
    options = []
    for name, (dollars, wait_s, speed, long_s) in figures.items():
        each = waited(waited(option(name, dollars), wait_s, speed), long_s, speed, size=2)
        options.append(each)
    assert arranged(options, sort=sort) == expected
    assert arranged(options, policy=sort) == arranged(options, sort=sort)


def test_who_is_unknown_is_tried_once_and_not_by_a_crowd() -> None:
    known, unknown = waited(option("known"), 0.1), option("unknown")
    assert arranged([known, unknown], sort="latency")[0] == "unknown"
    loaded(unknown, 1)
    assert arranged([known, unknown], sort="latency")[0] == "known"


def test_an_order_is_kept_and_may_be_all() -> None:
    options = [option(name, price) for name, price in (("a", 1), ("b", 2), ("c", 3), ("d", 4))]
    assert arranged(options, order=("d", "b", "nobody"), sort="price") == ["d", "b", "a", "c"]
    ejected(options[3])
    assert arranged(options, order=("d", "b"), sort="price") == ["b", "a", "c", "d"]
    assert len(arranged(options, allows_fallbacks=False)) == 1
    assert arranged(options[1:], order=("d", "b"), allows_fallbacks=False)[:1] == ["b"]


def test_who_is_slower_than_preferred_is_asked_later() -> None:
    slow, dear = waited(option("slow", 1), 3.0, 10.0), waited(option("dear", 9), 0.5, 50.0)
    for preference in ({"preferred_max_latency_s": 1.0}, {"preferred_min_throughput": 20.0}):
        assert arranged([slow, dear], **preference) == ["dear", "slow"]
        assert arranged([slow, dear], sort="price", **preference) == ["dear", "slow"]
    assert arranged([slow, option("new", 9)], preferred_max_latency_s=1.0) == ["new", "slow"]


def test_who_is_full_is_asked_later() -> None:
    full, dear = option("full", 1), option("dear", 9)
    loaded(full, 2)
    full.track.load.turned_away(NOW_S, None)
    assert arranged([full, dear], sort="price") == ["dear", "full"]
