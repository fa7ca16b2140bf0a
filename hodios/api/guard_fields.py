"""What operators may set of the guards of keys and projects: actions, and the scores from which something follows."""

from __future__ import annotations

from typing import Any

from hodios.api.checks import Kind, one_of, refusal
from hodios.errors import InvalidRequest
from hodios.guard_settings import GuardPolicy
from hodios.types import CATEGORIES

NEVER = "never"
_ACCEPTS = f'an object, some of {", ".join(CATEGORIES)} → a score from 0 to 1, or "{NEVER}"'
_PLACE = "guard"


def _parse_bars(name: str, value: Any) -> dict[str, float | str]:
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", _ACCEPTS)
    return {category: _parse_bar(name, category, bar) for category, bar in value.items()}


def _parse_bar(name: str, category: str, bar: Any) -> float | str:
    if category not in CATEGORIES:
        raise InvalidRequest(f"{name}: {category[:60]!r} is no category; accepted: {_ACCEPTS}", param=name)
    if bar == NEVER:
        return NEVER
    number = _number(bar)
    if number is None or not 0 <= number <= 1:
        raise refusal(f"{name}.{category}", bar, "is no such score", _ACCEPTS)
    return number


def _number(bar: Any) -> float | None:
    """A number, also as the text that the command line hands over."""
    if type(bar) not in (int, float, str):
        return None
    try:
        return float(bar)
    except ValueError:
        return None


BARS = Kind(
    _ACCEPTS,
    {
        "type": "object",
        "properties": {
            category: {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": NEVER}]}
            for category in CATEGORIES
        },
        "additionalProperties": False,
    },
    _parse_bars,
)
_ACTION = one_of("off", "annotate", "block")
GUARD_FIELDS: tuple[tuple[str, Kind, str, str], ...] = (
    ("guard_prompt", _ACTION, "What content filters do with prompts.", "guard.prompt"),
    ("guard_answer", _ACTION, "What they do with answers.", "guard.answer"),
    (
        "guard_when_down",
        one_of("open", "closed"),
        "Whether what may be blocked passes unjudged while they cannot judge.",
        "guard.when_down",
    ),
    ("guard_flag_at", BARS, "Scores from which categories count as detected; new ones replace all.", "guard.flag_at"),
    ("guard_block_at", BARS, "Scores from which they are blocked; new ones replace all.", "guard.block_at"),
)
"""Name, kind, meaning, place in the record."""


def guard_values(policy: GuardPolicy) -> dict[str, Any]:
    """As it is shown, by the names of the fields."""
    return {
        name: dict(value) if kind is BARS else value
        for name, kind, _, place in GUARD_FIELDS
        for value in (getattr(policy, place.removeprefix(f"{_PLACE}.")),)
    }
