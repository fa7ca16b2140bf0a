"""Lists that make sense only in part, or not at all, and numbers in every notation."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.providers.catalog_rows import Offer
from hodios.providers.listing_entries import Ask
from hodios.providers.listing_values import (
    MOST_ID,
    MOST_PRICE,
    MOST_TOKENS,
    NOVITA_UNIT,
    PER_MILLION,
    PER_TOKEN,
    decode,
    flag,
    name,
    price,
    tokens,
)
from hodios.providers.listings import KINDS, MOST_MODELS, read_listing

CONTRACTS = {
    path.stem: decode(path.read_bytes()) for path in (Path(__file__).parent.parent / "contracts").glob("*.json")
}
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 10**30, Decimal("1e400"), Decimal("-0.1"), "", " ", "free", "NaN", "inf", "-inf"),
    *("1e999999999", "0x10", "1_000", "٣", "9" * 5000, "\ud800", "\x00", "a\nb", "\x1b[31m", "x" * 10_000),
    *([], {}, [[]], {"": {}}, [1, 2], {"prompt": "0"}),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def openrouter(id: str = "a/b", **fields: Any) -> dict[str, Any]:
    return {"id": id, "context_length": 4096, "pricing": {"prompt": "0.000001", "completion": "0.000002"}, **fields}


def check(offer: Offer) -> None:
    """An offer that nothing has to be checked of any more."""
    assert 0 < len(offer.id) <= MOST_ID
    assert offer.id.isprintable()
    assert offer.id == offer.id.strip()
    for length in (offer.context_length, offer.max_output_tokens):
        assert length is None or (type(length) is int and 0 < length <= MOST_TOKENS)
    if offer.price is not None:
        amounts = (offer.price.prompt, offer.price.completion, offer.price.cached or 0, offer.price.request)
        assert all(type(amount) is int and 0 <= amount <= MOST_PRICE for amount in amounts)
    assert len(offer.quantization) + len(offer.via) < 100


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_whatever_is_listed_is_read_or_refused(data: st.DataObject, kind: Any) -> None:
    key = KINDS[kind].key
    document = data.draw(json_values | st.fixed_dictionaries({key: st.lists(json_values, max_size=3)}))
    try:
        reading = read_listing(kind, document, native=("tools", "vision"))
    except ValueError:
        return
    for offer in reading.offers:
        check(offer)


@pytest.mark.parametrize("stem", sorted(CONTRACTS))
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}")
def test_one_bad_field_spoils_one_model(stem: str, value: Any) -> None:
    """Every field of the first model in turn: all others stay as they are, and it is read, refused or left out."""
    contract = CONTRACTS[stem]
    kind, answers = contract["listing"], _answers(contract)
    whole = read_listing(kind, contract["document"], answers=answers)
    for path in _paths(_entries(kind, contract["document"])[0]):
        document = copy.deepcopy(contract["document"])
        _put(_entries(kind, document)[0], path, value)
        reading = read_listing(kind, document, answers=answers)
        others = whole.offers[1:]
        # Of a vLLM adapter the length is that of its base, which is the first.
        if kind != "vllm":
            assert set(map(_id, others)) <= set(map(_id, reading.offers)), path
        for offer in reading.offers:
            check(offer)
        assert len(reading.offers) + len(reading.refused) + reading.num_others == len(_entries(kind, document))


@pytest.mark.parametrize("stem", [stem for stem in sorted(CONTRACTS) if CONTRACTS[stem]["answers"]])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}")
def test_bad_answers_to_what_else_is_asked_do_no_harm(stem: str, value: Any) -> None:
    contract = CONTRACTS[stem]
    for ask, answer in _answers(contract).items():
        for path in [[], *_paths(answer)]:
            answers = copy.deepcopy(_answers(contract))
            if path:
                _put(answers[ask], path, value)
            else:
                answers[ask] = value
            for offer in read_listing(contract["listing"], contract["document"], answers=answers).offers:
                check(offer)


def _id(offer: Offer) -> tuple[str, str]:
    return offer.id, offer.via


def _answers(contract: dict[str, Any]) -> dict[Ask, Any]:
    pairs = ((text.partition(" "), answer) for text, answer in contract["answers"].items())
    return {Ask(path, is_at_root=True, model=model): answer for (path, _, model), answer in pairs}


def _entries(kind: str, document: Any) -> list[Any]:
    found: list[Any] = document if isinstance(document, list) else document[KINDS[kind].key]  # type: ignore[index]
    return found


def _paths(value: Any) -> list[list[Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, entry in pairs for path in ([key], *([key, *rest] for rest in _paths(entry)))]


def _put(value: Any, path: list[Any], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def test_the_first_of_two_entries_counts_and_the_second_is_told() -> None:
    dearer = openrouter("A/B", pricing={"prompt": "0.001", "completion": "0.001"})
    reading = read_listing("openrouter", {"data": [openrouter(), dearer, openrouter()]})
    assert [(offer.id, offer.price and offer.price.prompt) for offer in reading.offers] == [("a/b", 10**9)]
    assert [refusal.id for refusal in reading.refused] == ["A/B"]
    assert "twice" in reading.refused[0].reason


@pytest.mark.parametrize(
    "document", [None, True, 3, "<html>", {}, {"data": None}, {"data": {}}, {"error": "no"}, {"models": []}]
)
def test_what_is_no_list_is_refused_as_a_whole(document: object) -> None:
    with pytest.raises(ValueError, match="its list of models is"):
        read_listing("openrouter", document)


def test_a_list_without_end_is_refused_as_a_whole() -> None:
    with pytest.raises(ValueError, match=f"accepted: at most {MOST_MODELS}"):
        read_listing("openai", {"data": [{"id": str(number)} for number in range(MOST_MODELS + 1)]})


@pytest.mark.parametrize(
    "body", [b"", b"<!doctype html><html>", b"[NaN]", b"[Infinity]", b'{"a":', b"[" * 100_000, b'{"data": [}']
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the decoder's
        decode(body)


def test_one_number_beyond_reason_spoils_one_model() -> None:
    body = json.dumps({"data": [openrouter("a/1"), openrouter("a/2", context_length="HERE"), openrouter("a/3")]})
    for number in ("9" * 100_000, "1e999999999999999999999", "-" + "1" * 5000, "0." + "0" * 5000 + "1"):
        reading = read_listing("openrouter", decode(body.replace('"HERE"', number).encode()))
        assert [offer.id for offer in reading.offers] == ["a/1", "a/3"]
        assert [refusal.id for refusal in reading.refused] == ["a/2"]


@given(st.integers(1, MOST_PRICE), st.sampled_from([(PER_TOKEN, -15), (PER_MILLION, -9), (NOVITA_UNIT, -5)]))
def test_prices_are_exact_in_every_notation(nano: int, unit: tuple[int, int]) -> None:
    power, exponent = unit
    amount = Decimal(nano).scaleb(exponent)
    plain = f"{amount:f}"
    for text in (plain, f"{amount:E}", f"{plain}000" if "." in plain else f"{plain}.000", f" {plain} ", f"+{plain}"):
        assert price(text, power) == nano
    assert price(amount, power) == nano
    assert price(decode(f"[{plain}]".encode())[0], power) == nano


def test_prices_finer_than_counts_are_rounded() -> None:
    """0.1 + 0.2, as some write what costs 30 cents."""
    assert price(Decimal("0.30000000000000004"), PER_MILLION) == 300_000_000


@pytest.mark.parametrize(
    "value", ["-0.1", -1, "", "n/a", None, True, [], {}, "1e5", 20_000, "1e400", "1e-300", "0x1", "1,5", "١"]
)
def test_what_is_no_price_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"price|number"):
        price(value, PER_MILLION)


@pytest.mark.parametrize(
    ("value", "number"), [(None, None), ("", None), (0, None), ("4096", 4096), (Decimal("4096.0"), 4096), ("4e3", 4000)]
)
def test_lengths_are_read(value: object, number: int | None) -> None:
    assert tokens(value) == number


@pytest.mark.parametrize("value", [-1, Decimal("0.5"), "many", True, 10**9, "1e30", [], {}])
def test_what_is_no_length_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="number"):
        tokens(value)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\x1b[0m", "\ud800", "a" * (MOST_ID + 1), 3, None, []])
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no id"):
        name(value)


@pytest.mark.parametrize("value", [2, -1, "1", "yes", Decimal(1), []])
def test_what_is_neither_true_nor_false_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither"):
        flag(value)


@pytest.mark.parametrize(
    ("pricing", "reason"),
    [
        (None, "it has no price"),
        ({}, "it has no price"),
        ({"prompt": "0.1"}, "it has no price"),
        ({"prompt": "-1", "completion": "-1"}, "negative"),
        ({"prompt": "1", "completion": "0"}, "above $10000"),
        ({"prompt": "x", "completion": "0"}, "'x' is no number"),
        ({"prompt": "0", "completion": "0", "request": "-0.1"}, "negative"),
        ({"prompt": "0", "completion": "0", "input_cache_read": []}, "a list is no number"),
        ([], "a list is no object"),
    ],
)
def test_the_reason_is_told(pricing: object, reason: str) -> None:
    reading = read_listing("openrouter", {"data": [openrouter(pricing=pricing)]})
    assert [refusal.id for refusal in reading.refused] == ["a/b"]
    assert reason in reading.refused[0].reason


def test_an_answer_is_never_longer_than_its_context() -> None:
    top = {"context_length": 1000, "max_completion_tokens": 5000}
    (offer,) = read_listing("openrouter", {"data": [openrouter(top_provider=top)]}).offers
    assert (offer.context_length, offer.max_output_tokens) == (1000, 1000)


@pytest.mark.parametrize(
    ("caps", "features"),
    [({"supports_tools": False}, ("json_schema",)), ({"supports_tools": True}, ("tools", "json_schema"))]
    + [(caps, ("tools", "json_schema")) for caps in ({}, None, {"supports_tools": "no"})],
)
def test_a_llama_server_has_tools_unless_the_template_shows_none(caps: Any, features: tuple[str, ...]) -> None:
    answers = {Ask("/props", is_at_root=True): {"modalities": {"vision": False}, "chat_template_caps": caps}}
    native: Any = ("tools", "json_schema", "vision")
    reading = read_listing("llama_server", {"data": [{"id": "x"}]}, native=native, answers=answers)
    (offer,) = reading.offers
    assert offer.features == features
