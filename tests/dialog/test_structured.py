"""Schemas and expressions of clients are checked safely, and answers are taken for what they can only mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.patterns import Pattern
from hodios.dialog.schema import SchemaCheck
from hodios.dialog.structured import AnswerCheck, instructions
from hodios.errors import InvalidRequest, UnsupportedParameter
from hodios.types import Grammar

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CHECK = AnswerCheck(Grammar("json_schema", json.dumps(SCHEMA)))


def problem_of(schema: Any, value: Any) -> str | None:
    return SchemaCheck(schema, param="response_format").problem(value)


@pytest.mark.parametrize(
    ("source", "text", "is_match"),
    [
        ("a+", "aaa", True), ("a+", "aab", False), ("a|b", "b", True), ("", "", True), ("", "a", False),
        ("[é😀]{2}", "é😀", True), (".", "\n", False), ("(?s).", "\n", True), (r"\d{3}-\d{4}", "555-1234", True),
        ("a/b", "a/b", True), ("(a+)+b", "a" * 5000, False),
    ],
)  # fmt: skip
def test_whole_texts_match(source: str, text: str, is_match: bool) -> None:
    assert Pattern(source).matches(text) is is_match


@pytest.mark.parametrize(
    ("source", "text", "is_match"),
    [
        ("a", "xax", True), ("^a", "xax", False), ("x$", "xax", True), ("^a|b$", "xb", True), ("^$", "", True),
        ("(a+)+$", "a" * 3000 + "b", False), ('"', 'say "x"', True), ("é", "caf\u00e9", True),
    ],
)  # fmt: skip
def test_parts_of_texts_match(source: str, text: str, is_match: bool) -> None:
    assert Pattern(source, is_search=True).matches(text) is is_match


@pytest.mark.parametrize("source", ["(?=a)b", "(", "a" * 40_000, r"(a)\1", "[", "*"])
def test_expressions_that_cannot_be_read(source: str) -> None:
    with pytest.raises(InvalidRequest, match="The regular expression cannot be honoured"):
        Pattern(source)


def test_a_pattern_is_used_many_times() -> None:
    pattern = Pattern("a+")
    assert [pattern.matches(text) for text in ("a", "b", "aa", "")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        (SCHEMA, {"n": 1}, None),
        (SCHEMA, {"n": "x"}, "at $.n: 'x' is not of type 'integer'"),
        (True, 7, None),
        (False, 7, "False schema does not allow 7"),
        ({"pattern": "^a+$"}, "ab", "'ab' does not match '^a+$'"),
        ({"pattern": "(?=a)"}, "b", None),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, {"x1": 1}, None),
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"x1": "y"}, "at $.x1: 'y' is not of type 'integer'"),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"y": 1}, "'y' is not a property"),
        ({"additionalProperties": {"type": "integer"}}, {"y": "z"}, "at $.y: 'z' is not of type 'integer'"),
        ({"propertyNames": {"pattern": "^a"}}, {"b": 1}, "'b' does not match '^a'"),
        ({"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"}, 1, "1 is not of type 'null'"),
        ({"$ref": "#/$defs/gone"}, 1, "its schema refers to"),
        ({"$ref": "https://elsewhere.example/a"}, 1, "its schema refers to"),
        ({"$ref": "file:///etc/passwd"}, 1, "its schema refers to"),
        ({"$ref": "#"}, 1, "cannot be checked"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}, 3, "3"),
    ],
)
def test_values_against_schemas(schema: Any, value: Any, told: str | None) -> None:
    problem = problem_of(schema, value)
    assert (problem is None) == (told is None)
    assert (told or "") in (problem or "")


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "int"}, "not valid at type: 'int'"),
        ({"properties": {"a": {"minimum": "3"}}}, "not valid at properties/a/minimum: '3' is not of type 'number'"),
        ({"required": "a"}, "not valid at required"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "cannot be checked"),
    ],
)
def test_what_is_no_schema_is_named(schema: Any, told: str) -> None:
    with pytest.raises(InvalidRequest, match="response_format") as refused:
        SchemaCheck(schema, param="response_format")
    assert told in str(refused.value)


def test_a_schema_may_not_be_endless() -> None:
    """Each level asks twice for the next one: 2³⁰ steps."""
    levels = {f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}] * 2} for level in range(30)}
    schema = {"$defs": {**levels, "l30": {"type": "string"}}, "$ref": "#/$defs/l0"}
    assert problem_of(schema, "x") == "the value cannot be checked: its schema takes too long"


def test_a_schema_may_not_be_endlessly_deep() -> None:
    schema: Any = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        SchemaCheck(schema, param="response_format")


def test_what_is_told_stays_short() -> None:
    assert len(problem_of({"type": "integer"}, "x" * 100_000) or "") < 700


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"n": 1}', '{"n": 1}'),
        (' {"n": 1}\n', ' {"n": 1}\n'),
        ('```json\n{"n": 1}\n```', '{"n": 1}'),
        ('Sure:\n```\n{"n":  1}\n```\nDone.', '{"n":  1}'),
        ('Here it is: {"n": 1}. Good?', '{"n": 1}'),
        ("{'n': 1,}", '{"n": 1}'),
        ('{"n": 1', '{"n": 1}'),
        ('{"n": 1} {"n": "x"}', '{"n": 1}'),
        ('{"n": 1, "s": "``` {"}', '{"n": 1, "s": "``` {"}'),
    ],
)
def test_what_was_asked_for_is_found(text: str, found: str) -> None:
    assert CHECK.read(text) == (found, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not one JSON value"),
        ("I cannot.", "not one JSON value"),
        ('{"n": NaN}', "not one JSON value"),
        ('{"n": "x"}', "at $.n: 'x' is not of type 'integer'"),
        ('Look: {"n": "x"}', "at $.n: 'x' is not of type 'integer'"),
        ("[1]", "is not of type 'object'"),
        ("{" * 10_000, "not one JSON value"),
    ],
)
def test_what_does_not_fit_stays_and_is_explained(text: str, told: str) -> None:
    found, problem = CHECK.read(text)
    assert found == text
    assert told in problem


def test_expressions_and_objects() -> None:
    digits = AnswerCheck(Grammar("regex", "[0-9]+"))
    assert digits.read("12") == ("12", "")
    assert digits.read(" 12\n") == ("12", "")
    assert digits.read("twelve") == ("twelve", "it does not match the regular expression")
    whatever = AnswerCheck(Grammar("json_object"))
    assert whatever.read('{"a": 1}') == ('{"a": 1}', "")
    assert whatever.read("[]")[1]


@given(st.text())
def test_any_answer_is_read(text: str) -> None:
    found, problem = CHECK.read(text)
    assert problem or isinstance(json.loads(found)["n"], int)


def test_instructions() -> None:
    """In the words of NousResearch/Hermes-Function-Calling, jsonmode.py."""
    assert instructions(Grammar("json_schema", '{"type":"object"}')) == (
        "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
        '<schema>\n{"type":"object"}\n</schema>'
    )
    assert "one JSON object" in instructions(Grammar("json_object"))
    assert "<regex>\na+\n</regex>" in instructions(Grammar("regex", "a+"))
    with pytest.raises(UnsupportedParameter, match="cannot follow a grammar"):
        instructions(Grammar("lark", "start: /a/"))
