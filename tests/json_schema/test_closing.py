"""Objects without properties that nobody named: what stays is a part of what was allowed, and not nothing."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hodios.json_schema.closing import closed

SHUT = {"additionalProperties": False}
A = {"type": "object", "properties": {"a": {"type": "integer"}}}
B = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
HELD = {"type": "object", "properties": {"held": A}}
REF = {"$ref": "#/$defs/a"}
NODE = {"properties": {"next": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (A, A | SHUT),
        (A | {"title": "A", "default": {}}, A | {"title": "A", "default": {}} | SHUT),
        (HELD, HELD | SHUT | {"properties": {"held": A | SHUT}}),
        ({"type": "array", "items": A, "maxItems": 2}, {"type": "array", "items": A | SHUT, "maxItems": 2}),
        ({"prefixItems": [A, True]}, {"prefixItems": [A | SHUT, True]}),
        ({"anyOf": [A, B, {"type": "null"}]}, {"anyOf": [A | SHUT, B | SHUT, {"type": "null"}]}),
        ({"additionalProperties": A}, {"additionalProperties": A | SHUT}),
        (REF | {"$defs": {"a": A}}, REF | {"$defs": {"a": A | SHUT}}),
        (
            {"properties": {"x": REF, "y": {"items": REF}}, "$defs": {"a": A}},
            {"properties": {"x": REF, "y": {"items": REF}}, "$defs": {"a": A | SHUT}} | SHUT,
        ),
        ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, {"$ref": "#/$defs/node", "$defs": {"node": NODE | SHUT}}),
    ],
)
def test_what_is_closed(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        A | {"additionalProperties": True},
        A | {"additionalProperties": {"type": "string"}},
        A | {"patternProperties": {"^x": True}},
        A | {"minProperties": 1},
        {"properties": {"a": True}, "required": ["b"]},
        {"allOf": [A, B]},
        A | {"anyOf": [B, {"properties": {"c": True}, "required": ["c"]}]},
        {"patternProperties": {"^x": A, "y$": B}},
        REF | {"required": ["b"], "$defs": {"a": A}},
        {"allOf": [REF, B], "$defs": {"a": A}},
        {"allOf": [REF, B], "$defs": {"a": HELD}},
        {"allOf": [REF, B], "$defs": {"a": {"properties": {"c": {"$ref": "#/$defs/c"}}}, "c": A}},
        {"const": {"a": {"b": 1}}, "properties": {"a": A}},
    ],
)
def test_what_stays_open(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"x": {"allOf": [A, B]}, "y": A}}, {"x": {"a": 1, "b": 2}, "y": {"a": 1}}),
        ({"properties": {"x": {"allOf": [REF, B]}, "y": REF}, "$defs": {"a": A}}, {"x": {"a": 1, "b": 2}}),
        ({"properties": {"x": {"$ref": "#/$defs/a", "required": ["z"]}}, "$defs": {"a": A}}, {"x": {"z": 1}}),
    ],
)
def test_what_holds_together_can_still_be_said(schema: dict[str, Any], value: object) -> None:
    Draft202012Validator(closed(schema)).validate(value)
