"""JSON Schema's keywords: what a value of each must be, which of them are kept, and which cannot be honoured."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
)
"""Those that are enforced. Others say something to readers only, as they do in the standard."""

MOST_EXACT = 1 << 53
"""Whole numbers are exact up to here."""


def _is_count(value: object) -> bool:
    return _is_number(value) and float(value).is_integer() and value >= 0


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_map_of_names(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_names, value.values()))


def _is_type(value: object) -> bool:
    types = value if isinstance(value, list) else [value]
    return bool(types) and all(isinstance(each, str) and each in TYPES for each in types)


Check = tuple[Callable[[object], bool], str]

_COUNT: Check = (_is_count, "a whole number from 0")
_NUMBER: Check = (_is_number, "a number")
_SCHEMA: Check = (_is_schema, "a schema, that is an object, true or false")
_SCHEMAS: Check = (_is_schemas, "a list of schemas, at least one")
_MAP: Check = (_is_map, "an object whose values are schemas")
_TEXT: Check = (lambda value: isinstance(value, str), "a string")

CHECKS: Mapping[str, Check] = {
    "type": (_is_type, f"one or several of {', '.join(TYPES)}"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values, at least one"),
    "const": (lambda value: True, "any value"),
    "$ref": _TEXT,
    "$dynamicRef": _TEXT,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "not": _SCHEMA,
    "if": _SCHEMA,
    "then": _SCHEMA,
    "else": _SCHEMA,
    "properties": _MAP,
    "patternProperties": _MAP,
    "dependentSchemas": _MAP,
    "dependentRequired": (_is_map_of_names, "an object whose values are lists of names"),
    "additionalProperties": _SCHEMA,
    "unevaluatedProperties": _SCHEMA,
    "propertyNames": _SCHEMA,
    "required": (_is_names, "a list of names"),
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
    "prefixItems": _SCHEMAS,
    "items": _SCHEMA,
    "unevaluatedItems": _SCHEMA,
    "contains": _SCHEMA,
    "minContains": _COUNT,
    "maxContains": _COUNT,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _TEXT,
    "format": _TEXT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
}

COUNTS = frozenset(keyword for keyword, check in CHECKS.items() if check is _COUNT)
BOUNDS = frozenset(keyword for keyword, check in CHECKS.items() if check is _NUMBER)

_UNSUPPORTED_IN_PATTERNS = re.compile(
    r"(?P<escaped>\\[^bBk1-9])|(?P<boundary>\\[bB])|(?P<back>\\[k1-9])|(?P<look>\(\?<?[=!])", re.DOTALL
)
_PATTERN_FAULTS = {
    "boundary": r"word boundaries (\b, \B)",
    "back": r"references to groups (\1)",
    "look": "looking ahead or behind",
}


def pattern_fault(pattern: str) -> str:
    """What of a regular expression is known not to be supported; "" for nothing. Not every expression that passes is
    a valid one."""
    for found in _UNSUPPORTED_IN_PATTERNS.finditer(pattern):
        if found.lastgroup in _PATTERN_FAULTS:
            return f"{_PATTERN_FAULTS[found.lastgroup]}"
    return ""


_CONTROL = re.compile("[\x00-\x07\x0b\x0e-\x1f]")
_CONTROL_IN_PATTERN = re.compile(r"\\(?:x[01]|u00[01]|u\{|[0avc])")


def has_control_characters(value: Any) -> bool:
    """Whether a constant can be written only with \\u escapes."""
    match value:
        case str():
            return _CONTROL.search(value) is not None
        case list():
            return any(map(has_control_characters, value))
        case dict():
            return any(map(has_control_characters, value)) or any(map(has_control_characters, value.values()))
        case _:
            return False


def names_control_characters(pattern: str) -> bool:
    return _CONTROL.search(pattern) is not None or _CONTROL_IN_PATTERN.search(pattern) is not None
