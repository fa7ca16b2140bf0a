"""What a provider accepts of single parameters: whether a value is within it, what is nearest to it, and how to say so.

Of a table, such as `logit_bias`, the range is that of each entry. Sans-IO.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from hodios.types import Range


def fitted(value: Any, accepted: Range) -> Any:
    """`value` where it is accepted, else what is nearest to it and is. None where nothing is nearest: next to a
    fraction that is itself refused."""
    if isinstance(value, dict):
        entries = {key: fitted(entry, accepted) for key, entry in value.items()}
        kept = [(key, entry) for key, entry in entries.items() if entry is not None]
        return dict(kept[: accepted.max_items]) or None
    if isinstance(value, list):
        return value[: accepted.max_items]
    return _nearest(value, accepted) if _is_number(value) else value


def refusal(name: str, value: Any, accepted: Range) -> str:
    """ "accepts temperature from 0 to 1, not 1.5"; "" where all of `value` is accepted."""
    wrong = _misfit(value, accepted)
    return f"accepts {name} {_words(accepted)}, not {wrong}" if wrong else ""


def _misfit(value: Any, accepted: Range) -> str:
    entries = list(value.values()) if isinstance(value, dict) else [value]
    for entry in entries:
        if _is_number(entry) and _nearest(entry, accepted) != entry:
            return _written(Decimal(str(entry)))
    if isinstance(value, dict | list) and accepted.max_items is not None and len(value) > accepted.max_items:
        return f"{len(value)}"
    return ""


def _words(accepted: Range) -> str:
    low = "" if accepted.min is None else f"{'above' if accepted.is_above_min else 'from'} {_written(accepted.min)}"
    to = "to" if low and not accepted.is_above_min else "up to"
    high = "" if accepted.max is None else f"{to} {_written(accepted.max)}"
    items = "" if accepted.max_items is None else f"with at most {accepted.max_items} entries"
    return " ".join(part for part in (low, high, items) if part)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nearest(value: float, accepted: Range) -> float | None:
    exact, low, high = Decimal(str(value)), accepted.min, accepted.max
    if low is not None and (exact < low or (accepted.is_above_min and exact == low)):
        if isinstance(value, int):
            return math.floor(low) + 1 if accepted.is_above_min else math.ceil(low)
        return None if accepted.is_above_min else float(low)
    if high is not None and exact > high:
        return math.floor(high) if isinstance(value, int) else float(high)
    return value


def _written(number: Decimal) -> str:
    return format(number.normalize(), "f")
