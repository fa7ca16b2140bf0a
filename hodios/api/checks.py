"""What a JSON value may be: each `Kind` parses a value or refuses it with its name, itself and what is accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hodios.errors import InvalidRequest

MAX_SHOWN = 60
MAX_NESTING = 256


@dataclass(frozen=True, slots=True)
class Kind:
    """A set of JSON values. `accepts` says it in words, `schema` in JSON Schema."""

    accepts: str
    schema: Mapping[str, Any]
    parse: Callable[[str, Any], Any] = field(repr=False)
    """(name, value) → what the request holds. Raises InvalidRequest naming `name` or something inside of it."""


def shown(value: Any) -> str:
    """The value for an error message: short, whatever a client sent."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            text = '"' + value[: MAX_SHOWN + 1].replace("\n", "\\n") + '"'
        case list():
            return "an empty list" if not value else f"a list of {len(value)}"
        case dict():
            return "an empty object" if not value else "an object"
        case _:
            text = str(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def refusal(name: str, value: Any, problem: str, accepts: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {shown(value)} {problem}; accepted: {accepts}", param=name)


def check_nesting(name: str, value: Any) -> None:
    """For JSON that is passed on as it is: everything below can walk it without running out of stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise InvalidRequest(f"{name}: is nested too deeply; accepted: at most {MAX_NESTING} levels", param=name)
        level = [
            inner
            for entry in level
            if type(entry) in (list, dict)
            for inner in (entry if type(entry) is list else entry.values())
        ]


def number(low: float, high: float, *, is_low_open: bool = False) -> Kind:
    accepts = f"a number above {low:g} up to {high:g}" if is_low_open else f"a number from {low:g} to {high:g}"

    def parse(name: str, value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise refusal(name, value, "is not a number", accepts)
        if not low <= value <= high or (is_low_open and value == low):
            raise refusal(name, value, "is out of range", accepts)
        return float(value)

    least = "exclusiveMinimum" if is_low_open else "minimum"
    return Kind(accepts, {"type": "number", least: low, "maximum": high}, parse)


def integer(low: int, high: int | None = None) -> Kind:
    """Whole numbers; one written as 3.0 is one too."""
    accepts = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    schema: dict[str, Any] = {"type": "integer", "minimum": low}
    if high is not None:
        schema["maximum"] = high

    def parse(name: str, value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise refusal(name, value, "is not an integer", accepts)
        if value < low or (high is not None and value > high):
            raise refusal(name, value, "is out of range", accepts)
        return value

    return Kind(accepts, schema, parse)


def _parse_boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise refusal(name, value, "is not a boolean", "true or false")
    return value


BOOLEAN = Kind("true or false", {"type": "boolean"}, _parse_boolean)


def string(max_length: int, *, min_length: int = 0) -> Kind:
    """Strings by number of characters."""
    if min_length:
        accepts = f"a string of {min_length} to {max_length} characters"
    else:
        accepts = f"a string of at most {max_length} characters"

    def parse(name: str, value: Any) -> str:
        if type(value) is not str:
            raise refusal(name, value, "is not a string", accepts)
        if not min_length <= len(value) <= max_length:
            raise refusal(name, value, f"has {len(value)} characters", accepts)
        return value

    return Kind(accepts, {"type": "string", "minLength": min_length, "maxLength": max_length}, parse)


def one_of(*values: str) -> Kind:
    accepts = " or ".join(f'"{value}"' for value in values)

    def parse(name: str, value: Any) -> str:
        if type(value) is not str or value not in values:
            raise refusal(name, value, "is not known", accepts)
        return value

    return Kind(accepts, {"type": "string", "enum": list(values)}, parse)


def list_of(item: Kind, *, plural: str, max_items: int | None = None) -> Kind:
    """A list whose items are of one kind; parsed to a tuple."""
    accepts = f"a list of {plural}" if max_items is None else f"a list of at most {max_items} {plural}"
    schema: dict[str, Any] = {"type": "array", "items": item.schema}
    if max_items is not None:
        schema["maxItems"] = max_items

    def parse(name: str, value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise refusal(name, value, "is not a list", accepts)
        if max_items is not None and len(value) > max_items:
            raise refusal(name, value, "is too long", accepts)
        return tuple([item.parse(f"{name}[{index}]", entry) for index, entry in enumerate(value)])

    return Kind(accepts, schema, parse)


def _parse_object(name: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", "an object")
    return value


OBJECT = Kind("an object", {"type": "object"}, _parse_object)


def either(*kinds: tuple[type, Kind]) -> Kind:
    """One kind or another, told apart by the JSON type of the value."""
    accepts = ", or ".join(kind.accepts for _, kind in kinds)
    by_type: dict[type, Kind] = dict(kinds)

    def parse(name: str, value: Any) -> Any:
        kind = by_type.get(type(value))
        if kind is None:
            raise refusal(name, value, "is of the wrong type", accepts)
        return kind.parse(name, value)

    return Kind(accepts, {"anyOf": [kind.schema for _, kind in kinds]}, parse)
