"""A schema whose objects hold no properties but those that it names: a part of what it allows, and never nothing.

For schemas that `simplify` made, or others whose references are all to `#/$defs/…`. It leaves open what says itself
what else it may hold, and what must hold together with something else: two schemas that name different properties
would rule each other out.
"""

from __future__ import annotations

from typing import Any

from hodios.json_schema.document import Schema
from hodios.json_schema.keywords import CHECKS

_OBJECT = frozenset(("type", "properties", "required"))
"""An object of these has no way of its own to say what else it may hold."""
_PARTS = _OBJECT | {"additionalProperties", "items", "prefixItems", "minItems", "maxItems"}
"""Of these no two hold for the same value within a value."""
_ALONE = (_PARTS, frozenset(("type", "anyOf")), frozenset(("$ref",)))
_DEFINED = "#/$defs/"


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself is not changed."""
    shared: set[str] = set()
    while True:
        closer = _Closer(shared)
        definitions = {name: closer.close(each, name not in shared) for name, each in schema.get("$defs", {}).items()}
        simple = closer.close({keyword: value for keyword, value in schema.items() if keyword != "$defs"}, True)
        if closer.shared == shared:
            assert isinstance(simple, dict), "objects stay objects"
            return simple | ({"$defs": definitions} if definitions else {})
        shared = closer.shared


class _Closer:
    def __init__(self, shared: set[str]) -> None:
        """`shared`: names of definitions that hold together with something else."""
        self.shared = set(shared)

    def close(self, schema: Schema, is_alone: bool) -> Schema:
        if isinstance(schema, bool):
            return schema
        said = schema.keys() & CHECKS.keys()
        is_alone = is_alone and any(said <= keywords for keywords in _ALONE)
        if "$ref" in schema and not is_alone:
            self.shared.add(schema["$ref"].removeprefix(_DEFINED))
        simple = {keyword: self._close_within(keyword, value, is_alone) for keyword, value in schema.items()}
        if is_alone and said <= _OBJECT and _names_all(schema):
            simple["additionalProperties"] = False
        return simple

    def _close_within(self, keyword: str, value: Any, is_alone: bool) -> Any:
        match keyword:
            case "properties" | "patternProperties":
                return {name: self.close(each, is_alone) for name, each in value.items()}
            case "items" | "additionalProperties":
                return self.close(value, is_alone)
            case "prefixItems" | "anyOf" | "allOf":
                return [self.close(each, is_alone) for each in value]
        return value


def _names_all(schema: dict[str, Any]) -> bool:
    return "properties" in schema and schema["properties"].keys() >= set(schema.get("required", ()))
