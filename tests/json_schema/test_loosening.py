"""What stays of a schema without what cannot be followed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hodios.json_schema.loosening import loosened

DATE = {"type": "string", "format": "date"}


@pytest.mark.parametrize(
    ("schema", "rest", "left_out"),
    [
        ({"type": "object"}, {"type": "object"}, []),
        (
            {"properties": {"a/b": {"type": "array", "items": DATE, "uniqueItems": True}, "c": {"not": DATE}}},
            {"properties": {"a/b": {"type": "array", "items": DATE}, "c": {}}},
            ["#/properties/a~1b/uniqueItems", "#/properties/c/not"],
        ),
        (
            {"prefixItems": [True, {"type": "string", "pattern": "(?=b)"}]},
            {"prefixItems": [True, {"type": "string"}]},
            ["#/prefixItems/1/pattern"],
        ),
        (
            {"oneOf": [{"type": "string", "not": DATE}, {"type": "null"}]},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            ["#/oneOf/0/not"],
        ),
        (
            {"oneOf": [{"const": 1, "minimum": "x"}, {"type": "number", "multipleOf": 0}]},
            {},
            ["#/oneOf/0/minimum", "#/oneOf/1/multipleOf", "#/oneOf"],
        ),
        ({"type": "strin", "$ref": "http://localhost/a"}, {}, ["#/type", "#/$ref"]),
    ],
)
def test_what_is_left_out(schema: Any, rest: Any, left_out: list[str]) -> None:
    given = copy.deepcopy(schema)
    simple, faults = loosened(schema)
    assert simple.faults == ()
    assert simple.schema == rest
    assert sorted(fault.path for fault in faults) == sorted(left_out)
    assert schema == given


@pytest.mark.parametrize("schema", [False, {"properties": {"a": {"const": "\x1f"}}}])
def test_what_no_keyword_is_to_blame_for_stays_a_fault(schema: Any) -> None:
    simple, faults = loosened(schema)
    assert simple.faults == faults != ()
