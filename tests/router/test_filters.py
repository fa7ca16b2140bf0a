from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs
from seating import demand, request, seat

from hodios.router.demand import demand_of
from hodios.router.filters import exclusion, names_of
from hodios.types import UNKNOWN_PRICE, Price, Range, Routing, Sampling

DOLLAR = 10**9


def reason(routing: dict[str, Any] | None = None, asked: dict[str, Any] | None = None, **card: Any) -> str:
    found = exclusion(seat("acme", **card), Routing(**(routing or {})), demand(**(asked or {})))
    return "" if found is None else f"{found.param}: {found.reason}"


def test_nothing_excludes_who_has_everything() -> None:
    everything = {"features": ("tools", "json_schema", "logprobs", "documents"), "modalities": ("text", "image")}
    needs = {"tools": "tools", "json_schema": "response_format", "logprobs": "logprobs", "image": "data"}
    routing = {"only": ("acme",), "quantizations": ("fp8",), "allows_collection": False, "requires_parameters": True}
    routing["max_price"] = Price(prompt=DOLLAR, completion=DOLLAR)
    assert reason(routing, {"needs": needs, "parameters": frozenset({"seed"})}, quantization="FP8", **everything) == ""


@pytest.mark.parametrize(
    ("routing", "card", "told"),
    [
        ({"only": ("other",)}, {}, "provider.only: is not among provider.only"),
        ({"ignore": ("acme",)}, {}, "provider.ignore: is named in provider.ignore"),
        ({"order": ("b",), "allows_fallbacks": False}, {}, "provider.order: is not in provider.order"),
        ({"order": ("b",)}, {}, ""),
        ({"quantizations": ("fp8",)}, {}, "provider.quantizations: has the quantization unknown"),
        ({"quantizations": ("unknown",)}, {}, ""),
        ({"max_price": Price(prompt=DOLLAR, completion=DOLLAR - 1)}, {}, "provider.max_price: costs more"),
        (
            {"max_price": Price(prompt=DOLLAR, completion=DOLLAR)},
            {"price": UNKNOWN_PRICE},
            "provider.max_price: does not",
        ),
        ({"is_free": True}, {}, "model: is not free"),
        ({"is_free": True}, {"price": Price(request=1)}, "model: is not free"),
        ({"is_free": True}, {"price": Price()}, ""),
        ({"is_free": True}, {"price": UNKNOWN_PRICE}, "model: does not say what it costs"),
        ({"allows_collection": False}, {"collects_data": True}, "provider.data_collection: may keep"),
    ],
)
def test_who_may_answer(routing: dict[str, Any], card: dict[str, Any], told: str) -> None:
    assert reason(routing, **card).startswith(told)
    assert bool(reason(routing, **card)) == bool(told)


@pytest.mark.parametrize(
    ("asked", "card", "told"),
    [
        ({"needs": {"tools": "tools"}}, {}, "tools: cannot call tools"),
        ({"needs": {"json_schema": "response_format"}}, {}, "response_format: cannot hold"),
        ({"needs": {"logprobs": "logprobs"}}, {}, "logprobs: gives no"),
        ({"needs": {"image": "messages[0].content[1]"}}, {}, "messages[0].content[1]: reads text only"),
        ({"num_longest": 100, "max_tokens": 901}, {"context_length": 1000}, "max_tokens: has a context of 1000"),
        ({"num_longest": 100, "max_tokens": 900}, {"context_length": 1000}, ""),
        ({"num_longest": 1000}, {"context_length": 1000}, "max_tokens: has a context of 1000"),
        ({"max_tokens": 9}, {"max_output_tokens": 8}, "max_tokens: writes at most 8"),
    ],
)
def test_what_a_request_needs(asked: dict[str, Any], card: dict[str, Any], told: str) -> None:
    assert reason({}, asked, **card).startswith(told)
    assert bool(reason({}, asked, **card)) == bool(told)


def test_parameters_count_only_where_they_are_required() -> None:
    asked = {"parameters": frozenset({"seed", "min_p", "top_p"})}
    assert reason({}, asked, parameters=("top_p",)) == ""
    assert reason({"requires_parameters": True}, asked, parameters=("top_p",)).endswith("does not honour min_p, seed")
    assert reason({"requires_parameters": True}, asked, parameters=None) == ""


def test_a_salt_that_is_required_is_kept_from_whoever_would_ignore_it() -> None:
    """Whose cache others share would tell them of the prompt."""
    strict = Routing(requires_parameters=True)
    asked = demand_of(request(cache_salt="mine", given=frozenset({"cache_salt", "stop"}), routing=strict))
    for parameters, told in ((("top_p",), "does not honour cache_salt"), (("cache_salt",), ""), (None, "")):
        found = exclusion(seat("acme", parameters=parameters), strict, asked)
        assert ("" if found is None else found.reason) == told
        assert exclusion(seat("acme", parameters=parameters), Routing(), asked) is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("temperature", 1.5, "temperature: accepts temperature from 0 to 1, not 1.5"),
        ("temperature", 1.0, ""),
        ("top_p", 0.0, "top_p: accepts top_p above 0, not 0"),
        ("top_p", 0.1, ""),
        ("stop_token_ids", [1, 2, 3], "stop_token_ids: accepts stop_token_ids with at most 2 entries, not 3"),
        ("logit_bias", {"1": 0.5, "2": -100}, "logit_bias: accepts logit_bias from -50, not -100"),
        ("seed", 7, ""),
    ],
)
def test_values_count_only_where_parameters_are_required(name: str, value: Any, told: str) -> None:
    ranges = {
        "temperature": Range(min=Decimal(0), max=Decimal(1)),
        "top_p": Range(min=Decimal(0), is_above_min=True),
        "stop_token_ids": Range(max_items=2),
        "logit_bias": Range(min=Decimal(-50)),
    }
    card = {"parameters": ("temperature",), "ranges": ranges}
    assert reason({"requires_parameters": True}, {"values": {name: value}}, **card) == told
    assert reason({}, {"values": {name: value}}, **card) == ""


def test_a_demand_has_values_only_where_they_count() -> None:
    asked = request(
        sampling=Sampling(top_p=0.5, logprobs=3),
        max_tokens=9,
        n=3,
        stop=("x",),
        given=frozenset({"temperature", "top_p", "max_tokens", "n", "stop"}),
    )
    assert demand_of(asked).values == {}
    strict = structs.replace(asked, routing=Routing(requires_parameters=True))
    limits = {"max_tokens": 9, "max_completion_tokens": 9}
    assert demand_of(strict).values == {"temperature": 1.0, "top_p": 0.5, "top_logprobs": 3, **limits}


def test_only_what_providers_can_judge_themselves_is_lenient() -> None:
    def is_strict(routing: dict[str, Any], asked: dict[str, Any], **card: Any) -> bool:
        found = exclusion(seat("acme", **card), Routing(**routing), demand(**asked))
        assert found is not None
        return found.is_strict

    assert is_strict({}, {"needs": {"image": "data"}})
    assert not is_strict({}, {"needs": {"tools": "tools"}})
    assert is_strict({"requires_parameters": True}, {"needs": {"tools": "tools"}})
    assert not is_strict({}, {"max_tokens": 9}, max_output_tokens=8)
    assert is_strict({"only": ("b",)}, {})


@pytest.mark.parametrize(
    ("quantization", "names"),
    [
        ("Q4_K_M", {"q4_k_m", "int4"}),
        ("IQ3_XXS", {"iq3_xxs", "int3"}),
        ("Q8_0", {"q8_0", "int8"}),
        ("F16", {"f16", "fp16"}),
        ("bf16", {"bf16"}),
        ("fp8", {"fp8"}),
        ("AWQ", {"awq", "int4"}),
        ("", {"unknown"}),
    ],
)
def test_quantizations_go_by_several_names(quantization: str, names: set[str]) -> None:
    assert names_of(quantization) == names
