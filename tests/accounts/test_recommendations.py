"""Advice follows from what was used and what it costs, and is given only where there is enough of both."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hodios.accounts.advice_of_habits import PREFIX_TOKENS, of_allowances, of_beginnings
from hodios.accounts.recommendations import LEAST_SAVING, BudgetUse, recommend
from hodios.money import charge_of, dollars
from hodios.store.habits import Allowance, Beginning
from hodios.store.reports import Spend
from hodios.store.schema import LATENCY_SLOTS
from hodios.types import UNKNOWN_PRICE, Price

DOLLAR = 10**9


def spend(model: str | None = "m", provider: str | None = "dear", **changes: Any) -> Spend:
    ordinary: dict[str, Any] = {
        "num_attempts": 100,
        "num_failed_attempts": 0,
        "num_unpriced": 0,
        "prompt_tokens": 1_000_000,
        "cached_tokens": 0,
        "completion_tokens": 10_000,
        "cost": 3 * DOLLAR,
        "num_requests": 100,
        "num_errors": 0,
        "num_first_tokens": 100,
        "latency_ms": 200_000,
        "first_token_ms": 50_000,
        "num_filtered": 0,
        "most_requests": 10,
        "latency_slots": (0,) * len(LATENCY_SLOTS),
    }
    return Spend(group=(model, provider), **(ordinary | changes))


PRICES = {"m": {"dear": Price(prompt=3 * DOLLAR), "cheap": Price(prompt=DOLLAR), "secret": UNKNOWN_PRICE}}


def test_the_cheapest_is_recommended_with_what_it_saves() -> None:
    (found,) = recommend([spend()], PRICES, [])
    assert (found.kind, found.model, found.provider, found.instead) == ("cheaper_provider", "m", "dear", "cheap")
    assert found.saving == 2 * DOLLAR
    assert found.message == "m at cheap would have cost $1 instead of $3 at dear: $2 less."


def test_what_a_request_costs_counts() -> None:
    prices = {"m": {"cheap": Price(prompt=DOLLAR, request=DOLLAR // 100)}}
    (found,) = recommend([spend(num_failed_attempts=50)], prices, [])
    assert found.saving == 2 * DOLLAR - 50 * DOLLAR // 100


def test_nothing_is_said_where_it_is_not_known() -> None:
    assert recommend([spend(num_unpriced=1)], PRICES, []) == []
    assert recommend([spend(provider=None)], PRICES, []) == []
    assert recommend([spend(model="other")], PRICES, []) == []
    assert recommend([spend(provider="cheap", cost=DOLLAR)], PRICES, []) == []
    assert recommend([spend(cost=DOLLAR + LEAST_SAVING - 1)], PRICES, []) == []


@given(
    st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**8), st.integers(0, 10**11), st.integers(0, 10**11)
)
def test_savings_are_what_the_other_price_comes_to(
    prompt: int, cached: int, completion: int, price_in: int, price_out: int
) -> None:
    cached = min(cached, prompt)
    price = Price(prompt=price_in, completion=price_out)
    used = spend(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion, cost=10**12)
    cost = charge_of(price, prompt, cached, completion)
    found = [each for each in recommend([used], {"m": {"x": price}}, []) if each.kind == "cheaper_provider"]
    assert [each.saving for each in found] == ([10**12 - cost] if 10**12 - cost >= 10**12 // 20 else [])


def test_a_faster_provider_is_recommended_for_answers_of_the_same_length() -> None:
    slow = spend(provider="slow", latency_ms=400_000, first_token_ms=100_000)
    # Half as long a wait, a third of the time for each token, and answers that are three times as long.
    fast = spend(provider="fast", latency_ms=350_000, first_token_ms=50_000, completion_tokens=30_000)
    (found,) = recommend([slow, fast], {}, [])
    assert (found.kind, found.provider, found.instead) == ("faster_provider", "slow", "fast")
    assert (found.latency_s, found.latency_instead_s) == (4.0, 1.5)
    assert recommend([slow, spend(provider="fast", num_first_tokens=49, first_token_ms=1)], {}, []) == []


def beginning(**changes: Any) -> Beginning:
    ordinary: dict[str, Any] = {"key_id": "k1", "model": "m", "provider": "dear", "num_requests": 101}
    return Beginning(**(ordinary | {"prompt_tokens": 200_000, "cached_tokens": 0} | changes))


def test_prompts_that_no_cache_reads_are_named_with_what_a_cache_would_save() -> None:
    dear, cached = Price(prompt=3 * DOLLAR), Price(prompt=3 * DOLLAR, cached=DOLLAR)
    (found,) = of_beginnings([beginning()], {"m": {"dear": dear, "other": cached}}, {"k1": "mine"})
    assert (found.kind, found.instead, found.owner_id, found.num_requests) == ("repeated_prefix", "other", "k1", 101)
    assert found.saving == charge_of(Price(prompt=2 * DOLLAR), PREFIX_TOKENS * 100, 0, 0)
    assert "the key mine" in found.message
    assert f"about ${dollars(found.saving or 0)} less" in found.message
    (found,) = of_beginnings([beginning()], {"m": {"dear": dear, "secret": UNKNOWN_PRICE}}, {})
    assert (found.instead, found.saving) == (None, None)
    dearer = Price(prompt=9 * DOLLAR, cached=DOLLAR)
    (found,) = of_beginnings([beginning()], {"m": {"dear": dear, "other": dearer}}, {})
    assert found.instead is None, "all else would cost more there"
    assert [*of_beginnings([beginning(cached_tokens=40_000)], {}, {})] == []


def test_answers_that_are_allowed_far_more_than_they_need_are_named() -> None:
    def allowance(most: int) -> Allowance:
        return Allowance(key_id="k1", model="m", num_requests=60, least_max_tokens=4096, most_completion_tokens=most)

    (found,) = of_allowances([allowance(1024), allowance(1025)], {})
    assert (found.kind, found.max_tokens, found.max_tokens_instead) == ("max_tokens_too_high", 4096, 2048)
    assert "no answer had more than 1024" in found.message
    (short,) = of_allowances([allowance(3)], {})
    assert short.max_tokens_instead == 64


def test_budgets_that_are_nearly_spent_are_named() -> None:
    uses = [
        BudgetUse("key", "k1", "mine", "daily", 80, 100),
        BudgetUse("key", "k2", "", "total", 79, 100),
        BudgetUse("project", "p1", "", "total", 130, 100),
        BudgetUse("key", "k3", "", "total", 0, 0),
    ]
    found = recommend([], {}, uses)
    assert [(each.owner_kind, each.owner_id, each.spent_share) for each in found] == [
        ("key", "k1", 0.8),
        ("project", "p1", 1.3),
    ]
    assert found[0].message == "The key mine has spent $0.00000008 of its budget of $0.0000001 of today."
