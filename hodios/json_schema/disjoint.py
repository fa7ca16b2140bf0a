"""Whether two schemas can never hold at once, where that can be told from their words. Errs towards no."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any] | bool
Find = Callable[[str], Schema]
"""The schema that a `$ref` means."""

_TYPES = frozenset(("null", "boolean", "number", "string", "array", "object"))
_MOST_DEEP = 8
_MOST_STEPS = 2_000


class Judge:
    """Compares the branches of one schema; gives up where that takes too long."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._steps = 0

    def is_one_at_most(self, branches: Sequence[Schema], context: Schema) -> bool:
        """Whether no value fits two of `branches`, given that it fits `context`."""
        return all(
            self._are_disjoint([left, context], [right, context], 0)
            for i, left in enumerate(branches)
            for right in branches[i + 1 :]
        )

    def _are_disjoint(self, left: Sequence[Schema], right: Sequence[Schema], depth: int) -> bool:
        self._steps += 1
        if depth > _MOST_DEEP or self._steps > _MOST_STEPS:
            return False
        ours, theirs = list(self._parts(left)), list(self._parts(right))
        if any(part is False for part in (*ours, *theirs)):
            return True
        one, other = _objects(ours), _objects(theirs)
        shared = self._types(one, depth) & self._types(other, depth)
        if all(self._differ(type, one, other, depth) for type in shared):
            return True
        return self._is_every_option_disjoint(one, right, depth) or self._is_every_option_disjoint(other, left, depth)

    def _parts(self, schemas: Sequence[Schema], depth: int = 0) -> Iterator[Schema]:
        """All that must hold together."""
        for schema in schemas:
            yield schema
            if isinstance(schema, Mapping) and depth < _MOST_DEEP:
                yield from self._parts(schema.get("allOf", ()), depth + 1)
                if "$ref" in schema:
                    yield from self._parts([self._find(schema["$ref"])], depth + 1)

    def _types(self, parts: Sequence[Mapping[str, Any]], depth: int) -> frozenset[str]:
        types = _TYPES
        for part in parts:
            if "type" in part:
                given = part["type"] if isinstance(part["type"], list) else [part["type"]]
                types &= {"number" if each == "integer" else each for each in given}
            if (values := _values(part)) is not None:
                types &= {_type_of(value) for value in values}
            if "anyOf" in part and depth < _MOST_DEEP:
                types &= frozenset().union(*(self._types_of(option, depth + 1) for option in part["anyOf"]))
        return types

    def _types_of(self, schema: Schema, depth: int) -> frozenset[str]:
        parts = list(self._parts([schema]))
        return frozenset() if False in parts else self._types(_objects(parts), depth)

    def _differ(
        self, type: str, one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], depth: int
    ) -> bool:
        """Whether no value of this type fits both."""
        ours, theirs = _only_values(one, type), _only_values(other, type)
        if ours is not None and theirs is not None:
            return not ours & theirs
        if type == "number":
            return _is_below(one, other) or _is_below(other, one)
        return type == "object" and self._is_told_apart_by_a_property(one, other, depth)

    def _is_told_apart_by_a_property(
        self, one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], depth: int
    ) -> bool:
        required = [{name for part in side for name in part.get("required", ())} for side in (one, other)]
        for name in sorted(required[0] | required[1]):
            ours, theirs = _property(one, name), _property(other, name)
            if self._are_disjoint(ours, theirs, depth + 1):
                return True
        return False

    def _is_every_option_disjoint(
        self, parts: Sequence[Mapping[str, Any]], right: Sequence[Schema], depth: int
    ) -> bool:
        return any(
            all(self._are_disjoint([option, *parts_without(parts, part)], right, depth + 1) for option in part["anyOf"])
            for part in parts
            if "anyOf" in part
        )


def parts_without(parts: Sequence[Mapping[str, Any]], part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in parts if each is not part]


def _objects(parts: Sequence[Schema]) -> list[Mapping[str, Any]]:
    return [part for part in parts if isinstance(part, Mapping)]


def _property(parts: Sequence[Mapping[str, Any]], name: str) -> list[Schema]:
    """What holds for the property, False where it may not be."""
    found: list[Schema] = []
    for part in parts:
        properties = part.get("properties", {})
        if name in properties:
            found.append(properties[name])
        elif not part.get("patternProperties"):
            found.append(part.get("additionalProperties", True))
    return found


def _values(part: Mapping[str, Any]) -> list[Any] | None:
    if "const" in part:
        return [part["const"]]
    values: list[Any] | None = part.get("enum")
    return values


def _only_values(parts: Sequence[Mapping[str, Any]], type: str) -> set[str] | None:
    """The only values of this type, spelled so that equal ones are equal texts; None where there may be others."""
    for part in parts:
        values = _values(part)
        if values is not None:
            return {spelled(value) for value in values if _type_of(value) == type}
    return None


def spelled(value: Any) -> str:
    """JSON in one spelling: 1 and 1.0 are the same number, and 1 and true are not."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_with_whole_numbers(each) for each in value]
        case dict():
            return {name: _with_whole_numbers(each) for name, each in value.items()}
        case _:
            return value


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _is_below(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every number of `one` is less than every number of `other`."""
    highest = min(
        ((part[k], k == "maximum") for part in one for k in ("maximum", "exclusiveMaximum") if k in part), default=None
    )
    lowest = max(
        ((part[k], k != "minimum") for part in other for k in ("minimum", "exclusiveMinimum") if k in part),
        default=None,
    )
    if highest is None or lowest is None:
        return False
    return highest[0] < lowest[0] or (highest[0] == lowest[0] and (not highest[1] or lowest[1]))
