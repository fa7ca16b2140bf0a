"""Calls are mended where they can only have meant one thing; what is right stays as it was, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.mending import CallCheck
from hodios.types import Tool

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "is_long": {"type": "boolean"},
        "ratio": {"type": ["number", "null"]},
        "where": {"type": "object", "properties": {"x": {"type": "number"}}},
        "list": {"type": "array", "items": {"type": "integer"}},
        "anything": {},
    },
    "required": ["city"],
    "additionalProperties": False,
}
CHECK = CallCheck((Tool("get_weather", "", PARAMETERS), Tool("clock"), Tool("Clock2"), Tool("CLOCK2")))


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city":"x"}', '{ "city" : "x" }', '{"city": "\\u00e9"}', '{"city":"x","ratio":1.50}',
        '{"city":"x","days":10000000000000000000000}', '{"city":"{}[]","anything":null}', '{"city":"x","ratio":null}',
    ],
)  # fmt: skip
def test_what_is_right_stays(arguments: str) -> None:
    verdict = CHECK.judge("get_weather", arguments)
    assert (verdict.arguments, verdict.mended, verdict.problem) == (arguments, "", "")


@pytest.mark.parametrize(
    ("arguments", "mended"),
    [
        ('{"city":"x","days":"3"}', {"city": "x", "days": 3}),
        ('{"city":"x","days":" 3 "}', {"city": "x", "days": 3}),
        ('{"city":"x","is_long":"True"}', {"city": "x", "is_long": True}),
        ('{"city":"x","ratio":"0.5"}', {"city": "x", "ratio": 0.5}),
        ('{"city":"x","ratio":"None"}', {"city": "x", "ratio": None}),
        ('{"city":"x","where":"{\\"x\\": 1}"}', {"city": "x", "where": {"x": 1}}),
        ('{"city":"x","where":{"x":"1e3"}}', {"city": "x", "where": {"x": 1000.0}}),
        ('{"city":"x","list":["1",2]}', {"city": "x", "list": [1, 2]}),
        ('{"city":"x","list":"[1, 2]"}', {"city": "x", "list": [1, 2]}),
        ('{"city":"x","days":null}', {"city": "x"}),
        ("{'city': 'x', 'is_long': True}", {"city": "x", "is_long": True}),
        ('{"city": "x",}', {"city": "x"}),
        ('{"city": "x", "where": {"x": 1', {"city": "x", "where": {"x": 1}}),
        ('"{\\"city\\": \\"x\\"}"', {"city": "x"}),
        (' {"city": "x"} ', {"city": "x"}),
    ],
)
def test_what_can_only_mean_one_thing(arguments: str, mended: Any) -> None:
    verdict = CHECK.judge("get_weather", arguments)
    assert verdict.problem == ""
    assert json.loads(verdict.arguments) == mended
    assert verdict.mended or arguments.strip() == verdict.arguments


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{}", "'city' is a required property"),
        ('{"city":null}', "None is not of type 'string'"),
        ('{"city":5}', "5 is not of type 'string'"),
        ('{"city":"x","days":"three"}', "'three' is not of type 'integer'"),
        ('{"city":"x","days":"3.5"}', "'3.5' is not of type 'integer'"),
        ('{"city":"x","days":3.5}', "3.5 is not of type 'integer'"),
        ('{"city":"x","is_long":1}', "1 is not of type 'boolean'"),
        ('{"city":"x","town":"y"}', "'town' is not a property that is allowed here"),
        ('{"city":"x', "not a JSON object"),
        ('{"city":"x"} and more', "not a JSON object"),
        ('{"city":NaN}', "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("noon", "not a JSON object"),
        ("[" * 5000, "not a JSON object"),
        ('{"a":' * 200 + "1" + "}" * 200, "'city' is a required property"),
        ('{"city":"x","days":' + "9" * 5000 + "}", "not a JSON object"),
    ],
)
def test_what_cannot_be_mended(arguments: str, told: str) -> None:
    verdict = CHECK.judge("get_weather", arguments)
    assert told in verdict.problem
    assert verdict.is_object == (told != "not a JSON object")


def test_brackets_of_an_answer_that_was_cut_off_were_not_forgotten() -> None:
    assert CHECK.judge("get_weather", '{"city": "x"', is_whole=False).problem
    assert not CHECK.judge("get_weather", '{"city": "x"}', is_whole=False).problem


@pytest.mark.parametrize("arguments", ["", "  ", "{}", "null", '""'])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    assert CHECK.judge("clock", arguments).arguments == "{}"
    assert not CHECK.judge("clock", arguments).problem


@pytest.mark.parametrize(
    ("name", "known"),
    [("clock", "clock"), ("Clock", "clock"), ("functions.clock", "clock"), (" clock ", "clock"), ("CLOCK2", "CLOCK2")],
)
def test_names_that_mean_one_tool(name: str, known: str) -> None:
    verdict = CHECK.judge(name, "{}")
    assert (verdict.name, verdict.problem) == (known, "")
    assert bool(verdict.mended) == (name != known)


@pytest.mark.parametrize("name", ["clok", "", "clock2", "x" * 100_000])
def test_names_that_mean_none_or_several(name: str) -> None:
    verdict = CHECK.judge(name, "{}")
    assert verdict.problem.startswith("there is no tool ")
    assert "get_weather, clock, Clock2, CLOCK2" in verdict.problem
    assert len(verdict.problem) < 400
    assert verdict.is_object


def test_a_schema_that_cannot_be_checked_holds_nothing_up() -> None:
    check = CallCheck((Tool("f", "", {"type": "objekt"}), Tool("g", "", {"$ref": "https://elsewhere.example/schema"})))
    assert not check.judge("f", '{"a": 1}').problem
    assert "refers to" in check.judge("g", '{"a": 1}').problem


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_any_object_of_a_tool_without_schema_stays(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert CHECK.judge("clock", text).arguments == text


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    verdict = CHECK.judge("get_weather", text)
    if not verdict.problem:
        assert isinstance(json.loads(verdict.arguments)["city"], str)


@given(st.dictionaries(st.sampled_from(list(PARAMETERS["properties"])), VALUES | st.integers().map(str), max_size=4))
def test_what_is_passed_always_fits(value: dict[str, Any]) -> None:
    verdict = CHECK.judge("get_weather", json.dumps(value))
    if not verdict.problem:
        assert not CHECK.judge("get_weather", verdict.arguments).mended
