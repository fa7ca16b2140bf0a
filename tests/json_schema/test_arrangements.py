"""Arrays without repetition: which are written out, and which cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hodios.json_schema.simplify import simplify

COLOURS = {"type": "string", "enum": ["red", "green", "blue"]}


def unique(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "uniqueItems": True} | more


def said(schema: dict[str, Any]) -> Iterator[Any]:
    """Every value that an enumeration names, where it is one."""
    found = simplify(schema)
    assert found.faults == ()
    yield from found.schema["enum"]


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        (unique(COLOURS), 16),
        (unique(COLOURS, minItems=1, maxItems=2), 9),
        (unique({"enum": list("abcde")}), 326),
        (unique({"enum": list(range(20))}, maxItems=2), 401),
        (unique({"const": None}), 2),
        (unique({"type": ["boolean", "null"]}), 16),
        (unique({"enum": [1, True, "1", None]}), 65),
        (unique({"enum": [1, True, "1", None], "type": "number"}), 2),
        (unique({"$ref": "#/$defs/x"}, **{"$defs": {"x": {"$ref": "#/$defs/y"}, "y": COLOURS}}), 16),
    ],
)
def test_few_values_are_written_out_in_every_order(schema: dict[str, Any], count: int) -> None:
    arrays = list(said(schema))
    assert len(arrays) == len({json.dumps(array) for array in arrays}) == count
    validator = Draft202012Validator(schema)
    assert all(map(validator.is_valid, arrays))


@pytest.mark.parametrize(
    "schema",
    [
        {"uniqueItems": True},
        unique({"type": "string"}),
        unique({"enum": list("abcdef")}),
        unique({"enum": list(range(100_000))}),
        unique({"enum": ["x" * 10_000, "y", "z"]}),
        unique({"enum": [[1], [2]]}),
        unique({"enum": [1, 1.0]}),
        unique(COLOURS, minItems=4),
        unique(COLOURS) | {"type": ["array", "null"]},
        unique(COLOURS, prefixItems=[{"const": 1}]),
        unique(COLOURS | {"minLength": 4}),
        {"items": COLOURS, "uniqueItems": True},
        unique(True),
    ],
)
def test_others_are_refused(schema: dict[str, Any]) -> None:
    assert [fault.path for fault in simplify(schema).faults] == ["#/uniqueItems"]


@pytest.mark.parametrize("items", [{"$ref": 7}, {"$ref": "#/$defs/y"}, {"type": [{}]}, {"type": 3}, {"enum": 5}])
def test_nonsense_is_a_fault_of_its_own(items: Any) -> None:
    assert [fault.path.partition("/items")[1] for fault in simplify(unique(items)).faults] == ["/items", ""]


def test_references_in_a_circle_end() -> None:
    schema = unique({"$ref": "#/$defs/x"}, **{"$defs": {"x": {"$ref": "#/$defs/x"}}})
    assert "#/uniqueItems" in [fault.path for fault in simplify(schema).faults]
