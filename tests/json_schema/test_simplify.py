"""What becomes of schemas before grammars are made of them: nothing that they say is lost without a fault."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hodios.json_schema.simplify import simplify

CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"]}


def simple(schema: Any) -> dict[str, Any]:
    found = simplify(schema)
    assert found.faults == ()
    return found.schema


def faults(schema: Any) -> list[str]:
    return [fault.path for fault in simplify(schema).faults]


def test_what_constrains_nothing_is_left_out() -> None:
    remarks = {"title": "A", "description": "b", "default": 1, "examples": [1], "$comment": "c", "deprecated": True}
    others = {
        "nullable": True,
        "x-guidance": {"lenient": True},
        "format": "int32",
        "readOnly": True,
        "contentEncoding": "x",
    }
    assert simple({**remarks, **others, "type": "integer"}) == {"type": "integer"}
    assert simple(True) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"items": [{"type": "null"}], "additionalItems": False}, {"prefixItems": [{"type": "null"}], "items": False}),
        ({"prefixItems": [True], "additionalItems": False}, {"prefixItems": [True]}),
        ({"minimum": 3, "exclusiveMinimum": True}, {"minimum": 3, "exclusiveMinimum": 3}),
        ({"maximum": 3, "exclusiveMaximum": False}, {"maximum": 3}),
        ({"minItems": 2.0}, {"minItems": 2}),
        ({"unevaluatedProperties": False}, {"additionalProperties": False}),
        ({"unevaluatedProperties": {}, "anyOf": [True]}, {"anyOf": [True]}),
        ({"prefixItems": [True], "unevaluatedItems": False}, {"prefixItems": [True], "items": False}),
        ({"not": False, "if": True, "uniqueItems": False, "dependencies": {}}, {}),
        ({"uniqueItems": True, "maxItems": 1}, {"maxItems": 1}),
        (
            {"type": "array", "items": {"enum": ["a", "b", "a"]}, "uniqueItems": True},
            {"enum": [[], ["a"], ["b"], ["a", "b"], ["b", "a"]]},
        ),
        (
            {"type": "array", "items": {"type": "integer", "enum": [1, "b", 2]}, "uniqueItems": True, "minItems": 2},
            {"enum": [[1, 2], [2, 1]]},
        ),
        (
            {"type": "array", "items": {"type": ["boolean"]}, "uniqueItems": True, "maxItems": 2, "minItems": 1},
            {"enum": [[False], [True], [False, True], [True, False]]},
        ),
        ({"contains": {"type": "null"}, "minContains": 0}, {}),
        ({"minContains": 3, "maxContains": 4}, {}),
        ({"minProperties": 1, "required": ["a", "b"]}, {"required": ["a", "b"]}),
        (
            {"minProperties": 2, "properties": {"b": True, "a": True}, "additionalProperties": False},
            {"properties": {"b": True, "a": True}, "additionalProperties": False, "required": ["a", "b"]},
        ),
        (
            {"maxProperties": 2, "properties": {"a": True}, "additionalProperties": False},
            {"properties": {"a": True}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {"enum": ["a", 1]}},
            {"allOf": [{"properties": {"a": True}, "additionalProperties": False}]},
        ),
        (
            {"dependentRequired": {"a": ["b"]}},
            {"allOf": [{"anyOf": [{"properties": {"a": False}}, {"required": ["b"]}]}]},
        ),
    ],
)
def test_the_same_in_words_that_are_supported(old: Any, new: Any) -> None:
    assert simple(old) == new


def test_references_lead_to_definitions_of_their_own() -> None:
    schema = {
        "$id": "http://a/root.json",
        "properties": {
            "pointer": {"$ref": "#/definitions/a~1b/items"},
            "percent": {"$ref": "#/definitions/a~1b%25"},
            "anchor": {"$ref": "#here"},
            "id": {"$ref": "other.json#/$defs/c"},
            "self": {"$ref": "#"},
        },
        "definitions": {
            "a/b": {"items": {"type": "null"}},
            "a/b%": {"type": "boolean"},
            "x": {"$anchor": "here", "const": 1},
        },
        "$defs": {"y": {"$id": "other.json", "$defs": {"c": {"const": 2}}}},
    }
    found = simple(schema)
    names = {name: each["$ref"].removeprefix("#/$defs/") for name, each in found["properties"].items()}
    targets = {name: found["$defs"][target] for name, target in names.items()}
    assert targets["pointer"] == {"type": "null"}
    assert targets["percent"] == {"type": "boolean"}
    assert targets["anchor"] == {"const": 1}
    assert targets["id"] == {"const": 2}
    assert targets["self"]["properties"] == found["properties"]
    assert "definitions" not in found


def test_references_in_values_and_unknown_keywords_are_no_references() -> None:
    assert simple({"const": {"$ref": "#/nowhere"}, "unknown": {"$ref": "#/nowhere"}}) == {
        "const": {"$ref": "#/nowhere"}
    }
    assert simple({"properties": {"$ref": {"type": "null"}}}) == {"properties": {"$ref": {"type": "null"}}}


@pytest.mark.parametrize(
    ("branches", "around"),
    [
        ([{"type": "string"}, {"type": ["integer", "null"]}], {}),
        ([CAT, DOG], {}),
        ([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], {"$defs": {"cat": CAT, "dog": DOG}}),
        ([{k: v for k, v in each.items() if k != "type"} for each in (CAT, DOG)], {"type": "object"}),
        ([{"properties": each["properties"]} for each in (CAT, DOG)], {"type": "object", "required": ["kind"]}),
        ([{"maximum": 3}, {"exclusiveMinimum": 3}], {"type": "integer"}),
        ([{"const": 1}, {"const": True}, {"const": "1"}, {"const": None}], {}),
        ([{"required": ["a"]}, {"properties": {"b": {}}, "additionalProperties": False}], {"type": "object"}),
        ([{"allOf": [CAT]}, {"anyOf": [DOG, {"type": "string"}]}], {}),
        ([{"type": "string"}], {}),
        ([{"const": {"a": 1}}, {"const": {"a": 2}}], {}),
    ],
)
def test_one_of_several_that_exclude_each_other(branches: Any, around: Any) -> None:
    assert len(simple({"oneOf": branches, **around})["anyOf"]) == len(branches)


@pytest.mark.parametrize(
    "branches",
    [
        [{"type": "number"}, {"type": "integer"}],
        [CAT, CAT],
        [{"properties": CAT["properties"]}, {"properties": DOG["properties"]}],
        [{"const": 1}, {"const": 1.0}],
        [{"maximum": 3, "type": "number"}, {"minimum": 3, "type": "number"}],
        [{"required": ["a"]}, {"required": ["b"]}],
        [{}, {"type": "string"}],
        [{"$ref": "#"}, {"$ref": "#"}],
        [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 4}],
    ],
)
def test_one_of_several_that_may_hold_at_once_is_a_fault(branches: Any) -> None:
    assert "#/properties/a/oneOf" in faults({"properties": {"a": {"oneOf": branches}}})


@pytest.mark.parametrize(
    ("schema", "places"),
    [
        ({"type": "objekt"}, ["#/type"]),
        ({"properties": {"a/b": {"type": 3}}}, ["#/properties/a~1b/type"]),
        ({"properties": []}, ["#/properties"]),
        ({"allOf": []}, ["#/allOf"]),
        ({"items": [3]}, ["#/items"]),
        ({"required": "a"}, ["#/required"]),
        ({"minimum": "3"}, ["#/minimum"]),
        ({"minLength": -1}, ["#/minLength"]),
        ({"multipleOf": 0}, ["#/multipleOf"]),
        ({"pattern": 3}, ["#/pattern"]),
        ({"enum": [1, [{"a": 2**60}]]}, ["#/enum"]),
        ({"maximum": -(2**54)}, ["#/maximum"]),
        ({"pattern": r"a\b"}, ["#/pattern"]),
        ({"pattern": r"(a)\1"}, ["#/pattern"]),
        ({"patternProperties": {"(?!a)": {}}}, ["#/patternProperties/(?!a)"]),
        ({"$ref": "other.json"}, ["#/$ref"]),
        ({"$ref": "#/$defs/none"}, ["#/$ref"]),
        ({"$ref": "#none"}, ["#/$ref"]),
        ({"items": {"if": {}, "else": {}}, "not": {}}, ["#/items/if", "#/not"]),
        (False, ["#"]),
    ],
)
def test_faults_have_their_place(schema: Any, places: list[str]) -> None:
    assert faults(schema) == places


def test_escaped_backslashes_are_no_boundaries() -> None:
    assert faults({"pattern": r"\\b\\1 \d"}) == []


def test_control_characters_need_escapes_and_closed_objects() -> None:
    assert simplify({"const": "\x00"}).needs_escapes
    assert not simplify({"const": "\n\t"}).needs_escapes
    assert faults({"properties": {"a": {"enum": ["\x1f"]}}}) == ["#"]
    assert faults({"properties": {"a": {"enum": ["\x1f"]}}, "additionalProperties": False}) == []


def test_what_is_nested_too_deeply_is_a_fault() -> None:
    schema: Any = {}
    for _ in range(5_000):
        schema = {"items": schema}
    assert faults(schema) == ["#"]
    loop: Any = {"$ref": "#/x" + "/items" * 400, "x": {}}
    inner = loop["x"]
    for _ in range(400):
        inner["items"] = {}
        inner = inner["items"]
    assert simple(loop)["$defs"] == {"s0": {}}


NAMES = st.sampled_from(["a", "b", "a/b", "~"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "", "a", "ab", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some, named = st.lists(inner, min_size=1, max_size=2), st.dictionaries(NAMES, inner, max_size=2)
    names = st.lists(NAMES, max_size=2, unique=True)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["object", "array", "string", "integer", ["number", "null"]]),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "allOf": some,
        "anyOf": some,
        "oneOf": some,
        "properties": named,
        "required": names,
        "additionalProperties": inner,
        "propertyNames": st.sampled_from([{"enum": ["a"]}, {"pattern": "^a"}, {"maxLength": 1}, {"const": "b"}, False]),
        "dependentRequired": st.dictionaries(NAMES, names, max_size=2),
        "dependentSchemas": named,
        "minProperties": st.integers(0, 3),
        "maxProperties": st.integers(0, 3),
        "unevaluatedProperties": st.booleans(),
        "unevaluatedItems": st.booleans(),
        "prefixItems": some,
        "items": inner,
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "minLength": st.integers(0, 2),
        "minimum": st.sampled_from([-1, 0, 0.5]),
        "exclusiveMaximum": st.integers(-1, 2),
        "$ref": st.just("#/$defs/x"),
    }
    return st.fixed_dictionaries({}, optional=keywords).map(lambda schema: dict(list(schema.items())[:4]))


SCHEMAS = st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=6)


@settings(max_examples=150)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=3, max_size=8))
def test_the_simplified_schema_holds_for_the_same_values(schema: Any, other: Any, values: list[Any]) -> None:
    schema = {
        "allOf": [schema],
        "$defs": {"x": {"type": ["object", "string"], **(other if isinstance(other, dict) else {})}},
    }
    found = simplify(schema)
    if found.faults:
        return
    before, after = Draft202012Validator(schema), Draft202012Validator(found.schema)
    for value in values:
        try:
            expected = before.is_valid(value)
        except RecursionError:
            continue
        assert after.is_valid(value) is expected
