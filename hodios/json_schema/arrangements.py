"""Arrays whose items differ (`uniqueItems`), written out one by one: a grammar cannot remember what it has said."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hodios.json_schema.keywords import CHECKS

_MOST = 512
"""Five values have 326 arrangements of any length."""
_MOST_CHARACTERS = 32_768

Scalar = str | int | bool | None


def few_values(schema: object) -> list[Scalar] | None:
    """All values that fit, where the schema names them; None where it does not, or where they are no scalars."""
    if not isinstance(schema, Mapping):
        return None
    types = schema.get("type", list(_NAMES))
    types = types if isinstance(types, list) else [types]
    match sorted(schema.keys() & CHECKS.keys() - {"type"}):
        case ["enum"]:
            named = schema["enum"]
        case ["const"]:
            named = [schema["const"]]
        case [] if all(each in ("boolean", "null") for each in types):
            named = [False, True, None]
        case _:
            return None
    if not isinstance(named, list) or any(_kind(value) is None for value in named):
        return None
    fitting = [value for value in named if _kind(value) in types or (_kind(value) == "integer" and "number" in types)]
    return list({(type(value), value): value for value in fitting}.values())


def arrangements(values: Sequence[Scalar], least: int, most: int | None) -> list[list[Scalar]] | None:
    """Every array of `least` to `most` different values, in any order; None where there are too many or none."""
    longest = len(values) if most is None else min(most, len(values))
    found: list[list[Scalar]] = []
    for length in range(least, longest + 1):
        if len(found) + math.perm(len(values), length) > _MOST:
            return None
        found += map(list, itertools.permutations(values, length))
    return found if found and len(json.dumps(found)) <= _MOST_CHARACTERS else None


_NAMES: Mapping[str, type] = {"string": str, "boolean": bool, "integer": int, "null": type(None), "number": int}


def _kind(value: Any) -> str | None:
    return next((name for name, kind in _NAMES.items() if type(value) is kind), None)
