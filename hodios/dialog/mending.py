"""Calls of tools as models that nothing constrains make them: held against the tools, and mended where that is safe.

Safe is what can only have been meant one way. What is right stays as it was written, byte for byte.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from hodios.dialog import careless_json
from hodios.dialog.leading_json import leading_value
from hodios.errors import InvalidRequest
from hodios.types import Tool

if TYPE_CHECKING:
    from hodios.dialog.schema import SchemaCheck

_DEEPEST = 64
_PREFIXES = ("functions.", "function.", "tools.")


class Verdict(Struct, frozen=True):
    """A call after it was looked at."""

    name: str
    arguments: str
    """The text of a JSON object where `is_object`."""
    mended: str = ""
    """What was changed; "" where nothing was."""
    problem: str = ""
    """Why the call cannot be made, as a sentence for the model; "" where it can."""
    is_object: bool = True


class CallCheck:
    """The tools of one request. What a call may be mended to depends on them alone."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._schemas: dict[str, SchemaCheck | None] = {}

    def judge(self, name: str, arguments: str, *, is_whole: bool = True) -> Verdict:
        """`is_whole`: the answer was not cut off, so that missing brackets were forgotten."""
        mended: list[str] = []
        known = self._known(name)
        text, how = _object_text(arguments, is_whole=is_whole)
        if known is None:
            return Verdict(name, text or arguments, problem=self._unknown(name), is_object=text is not None)
        if known != name:
            mended.append(f"the name {name!r} was taken for {known!r}")
        if text is None:
            problem = f"the arguments of {known} are not a JSON object"
            return Verdict(known, arguments, problem=problem, is_object=False)
        if how:
            mended.append(f"the arguments of {known} {how}")
        return self._fit(known, text, mended)

    def _fit(self, name: str, text: str, mended: list[str]) -> Verdict:
        schema = self._schema(name)
        value: Any = json.loads(text)
        problem = schema.problem(value) if schema is not None else None
        if problem is not None and schema is not None:
            changed: list[str] = []
            value = _coerce(value, self._tools[name].parameters, "$", changed, 0)
            if not changed or schema.problem(value) is not None:
                return Verdict(name, text, problem=f"the arguments of {name} do not fit its schema: {problem}")
            text = json.dumps(value, ensure_ascii=False)
            mended += [f"the arguments of {name}: {change}" for change in changed]
        return Verdict(name, text, "; ".join(mended))

    def _known(self, name: str) -> str | None:
        """The tool that `name` can only mean, if there is one."""
        if name in self._tools:
            return name
        bare = name.strip()
        for prefix in _PREFIXES:
            bare = bare.removeprefix(prefix)
        alike = [known for known in self._tools if known.casefold() == bare.casefold()]
        return bare if bare in self._tools else alike[0] if len(alike) == 1 else None

    def _unknown(self, name: str) -> str:
        known = list(self._tools)
        nearest = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"there is no tool {name[:100]!r}; the tools are {', '.join(known[:100])}{hint}"

    def _schema(self, name: str) -> SchemaCheck | None:
        """None where the client's schema cannot be checked: then any object will do."""
        if name not in self._schemas:
            # Imported here because few requests have tools, and the library for schemas is large.
            from hodios.dialog.schema import SchemaCheck

            parameters = self._tools[name].parameters
            try:
                self._schemas[name] = SchemaCheck(parameters, param="tools") if parameters else None
            except InvalidRequest:
                self._schemas[name] = None
        return self._schemas[name]


def _object_text(text: str, *, is_whole: bool) -> tuple[str | None, str]:
    """(the text of a JSON object, how it was mended); (None, "") where it holds none."""
    stripped = text.strip()
    if not stripped:
        return "{}", ""
    value = leading_value(stripped, is_whole=is_whole)
    if value is None or value.end < len(stripped):
        return None, ""
    found = careless_json.read_arguments(value.text, is_strict=value.is_strict)
    if found is None or _read(found) is None:
        return None, ""
    if value.closers:
        return found, "lacked closing brackets"
    return found, "" if found == stripped else "were not written as a JSON object"


def _read(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _coerce(value: Any, schema: Any, path: str, changed: list[str], depth: int) -> Any:
    """`value` with what is surely of the wrong type made right, by plain `properties`, `items` and `type` alone."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return value
    types = schema.get("type")
    accepted = (types,) if isinstance(types, str) else tuple(types) if isinstance(types, list) else ()
    if isinstance(value, str) and accepted and "string" not in accepted:
        value = _from_string(value, accepted, path, changed)
    if isinstance(value, dict) and isinstance(schema.get("properties"), Mapping):
        return _coerce_members(value, schema, path, changed, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [
            _coerce(entry, schema["items"], f"{path}[{number}]", changed, depth + 1)
            for number, entry in enumerate(value)
        ]
    return value


def _coerce_members(
    value: dict[str, Any], schema: Mapping[str, Any], path: str, changed: list[str], depth: int
) -> dict[str, Any]:
    properties = schema["properties"]
    required = schema.get("required")
    members = {}
    for name, entry in value.items():
        subschema = properties.get(name)
        is_optional = name in properties and not (isinstance(required, list) and name in required)
        if entry is None and is_optional and not _takes_null(subschema):
            changed.append(f"{path}.{name} was null and was left out")
            continue
        members[name] = _coerce(entry, subschema, f"{path}.{name}", changed, depth + 1)
    return members


def _takes_null(schema: Any) -> bool:
    """Or may take it: only a plain type rules null out."""
    if not isinstance(schema, Mapping) or "type" not in schema:
        return True
    types = schema["type"]
    return types == "null" or (isinstance(types, list) and "null" in types)


def _from_string(text: str, accepted: Sequence[str], path: str, changed: list[str]) -> Any:
    """The value that a string spells, where it is of an accepted type."""
    stripped = text.strip()
    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(stripped, stripped))
    except (ValueError, RecursionError):
        return text
    if not any(_is_of(value, kind) for kind in accepted):
        return text
    changed.append(f"{path} was a string")
    return value


def _is_of(value: Any, kind: str) -> bool:
    match value:
        case None:
            return kind == "null"
        case bool():
            return kind == "boolean"
        case int():
            return kind in ("integer", "number")
        case float():
            return kind == "number" or (kind == "integer" and value.is_integer())
        case dict():
            return kind == "object"
        case list():
            return kind == "array"
    return False
