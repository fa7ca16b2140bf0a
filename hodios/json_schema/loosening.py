"""As much of a schema as grammars can follow: all values that it allows, and some more."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hodios.json_schema.document import Schema
from hodios.json_schema.simplify import Fault, Simplified, simplify

_MOST_ROUNDS = 4
"""What is left out of a schema of `oneOf` may make it one that another fits as well."""


def loosened(schema: Schema) -> tuple[Simplified, tuple[Fault, ...]]:
    """The simplified rest, and the keywords that were left out. The rest has faults where leaving out does not help."""
    simple = simplify(schema)
    left_out: list[Fault] = []
    rest = copy.deepcopy(schema) if simple.faults else schema
    for _ in range(_MOST_ROUNDS):
        left_out += simple.faults
        if not simple.faults or not all(fault.keyword for fault in simple.faults):
            break
        _leave_out(rest, simple.faults)
        simple = simplify(rest)
    return simple, tuple(left_out)


def _leave_out(schema: Schema, faults: Sequence[Fault]) -> None:
    for fault in faults:
        *steps, keyword = (step.replace("~1", "/").replace("~0", "~") for step in fault.path.split("/")[1:])
        found: Any = schema
        for step in steps:
            found = found[int(step)] if isinstance(found, list) else found.get(step, {})
        if isinstance(found, dict):
            found.pop(keyword, None)
