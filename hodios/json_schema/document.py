"""One JSON schema document: its subschemas, by JSON pointer, `$id` and anchor. Knows no meaning of other keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin

Schema = dict[str, Any] | bool

_OF_ONE = frozenset(
    (
        *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    )
)
_OF_A_LIST = frozenset(("allOf", "anyOf", "items", "oneOf", "prefixItems"))
_OF_A_MAP = frozenset(("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"))
_MOST_DEEP = 100
"""JSON readers in native code give up soon after."""


class TooDeep(Exception):
    """Schemas lie in schemas in schemas, more than anybody reads."""


class Unresolved(Exception):
    """A reference leads nowhere, or out of the document."""


class Document:
    """Finds what references point to. The schema itself is never changed."""

    def __init__(self, root: Schema) -> None:
        """Raises TooDeep."""
        self.root = root
        self.dynamic_anchors: dict[str, list[str]] = {}
        """Pointers of every `$dynamicAnchor`, by name."""
        self._resources: dict[str, str] = {"": ""}
        self._anchors: dict[tuple[str, str], str] = {}
        self._bases: dict[str, str] = {}
        self._index(root, "", "", 0)

    def _index(self, schema: object, pointer: str, base: str, depth: int) -> None:
        if depth > _MOST_DEEP:
            raise TooDeep
        if not isinstance(schema, dict):
            return
        if isinstance(id := schema.get("$id"), str):
            base = urljoin(base, id).removesuffix("#")
            self._resources.setdefault(base, pointer)
        self._bases[pointer] = base
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := schema.get(keyword), str):
                self._anchors.setdefault((base, name), pointer)
        if isinstance(name := schema.get("$dynamicAnchor"), str):
            self.dynamic_anchors.setdefault(name, []).append(pointer)
        for step, child in _children(schema):
            self._index(child, pointer + step, base, depth + step.count("/"))

    def resolve(self, reference: str, pointer: str) -> str:
        """The pointer of the schema that `reference` means where it stands at `pointer`. Raises Unresolved."""
        base = self._base_of(pointer)
        # Bases such as urn:… cannot be joined, but may be pointed into.
        address = base + reference if reference.startswith("#") else urljoin(base, reference)
        uri, _, fragment = address.partition("#")
        if uri not in self._resources:
            raise Unresolved
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            anchored = self._anchors.get((uri, fragment))
            if anchored is None:
                raise Unresolved
            return anchored
        target = self._resources[uri] + fragment
        self.at(target)
        return target

    def at(self, pointer: str) -> Schema:
        """The schema at `pointer`. Raises Unresolved."""
        found: Any = self.root
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise Unresolved
        if not isinstance(found, dict | bool):
            raise Unresolved
        return found

    def _base_of(self, pointer: str) -> str:
        while pointer not in self._bases and pointer:
            pointer = pointer.rpartition("/")[0]
        return self._bases.get(pointer, "")

    def pointers(self) -> Iterator[str]:
        """Where schemas that are objects lie, outer ones first."""
        return iter(self._bases)


def step_to(key: str | int) -> str:
    """The end of a JSON pointer."""
    return f"/{key}" if isinstance(key, int) else "/" + key.replace("~", "~0").replace("/", "~1")


def _children(schema: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for keyword, value in schema.items():
        if keyword in _OF_ONE and isinstance(value, dict | bool):
            yield f"/{keyword}", value
        elif keyword in _OF_A_LIST and isinstance(value, list):
            yield from ((f"/{keyword}/{i}", each) for i, each in enumerate(value))
        elif keyword in _OF_A_MAP and isinstance(value, dict):
            yield from ((f"/{keyword}{step_to(name)}", each) for name, each in value.items())
