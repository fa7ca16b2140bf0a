"""A JSON value made into what a type hint asks for. Refuses, in words for whoever wrote the JSON, what does not fit.

Numbers are the one thing that is changed: 2.0 serves as an integer, and 2 as a float. Nothing is read out of strings
but what JSON has no type for, such as dates. pydantic is imported only for hints that come from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from hodios.errors import InvalidRequest
from hodios.hints.fields import Field, fields_of
from hodios.hints.kinds import (
    ARRAYS,
    OBJECTS,
    TEXTS,
    UNIONS,
    bare,
    is_alias,
    is_enum,
    is_pydantic,
    is_record,
    is_typed_dict,
    json_value,
)

_WORDS = MappingProxyType(
    {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
)
_SHOWN_CHARACTERS = 80


def convert(value: Any, hint: Any, path: str) -> Any:
    """`path` says where in the JSON the value stands. Raises InvalidRequest, which begins with it."""
    if is_pydantic(hint):
        return _by_pydantic(value, hint, path)
    hint = bare(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin in UNIONS:
        return _first(value, arguments, path)
    if origin is Literal or is_enum(hint):
        return _member(value, list(arguments) or list(hint), path)
    if (origin or hint) in ARRAYS:
        return _array(value, origin or hint, arguments, path)
    if (origin or hint) in OBJECTS:
        return _object(value, arguments, path)
    if is_alias(hint):
        return convert(value, hint.__value__, path)
    if is_record(hint):
        given = convert_fields(value, fields_of(hint), path)
        return given if is_typed_dict(hint) else hint(**given)
    return _read(value, hint, path) if hint in TEXTS else _scalar(value, hint, path)


def convert_fields(value: Any, fields: Sequence[Field], path: str) -> dict[str, Any]:
    """The values of an object that has these fields; those that may be absent are absent here, too."""
    if not isinstance(value, dict):
        raise _refusal(path, "an object", value)
    names = [field.name for field in fields]
    if unknown := [name for name in value if name not in names]:
        raise InvalidRequest(f"{_at(path, unknown[0])} is not known; accepted: {', '.join(names) or 'nothing'}")
    if missing := [field.name for field in fields if field.is_required and field.name not in value]:
        raise InvalidRequest(f"{_at(path, missing[0])} is missing")
    return {field.name: _field(value[field.name], field, path) for field in fields if field.name in value}


def _field(value: Any, field: Field, path: str) -> Any:
    path = _at(path, field.name)
    converted = convert(value, field.hint, path)
    if field.choices and value is not None:
        for each in value if isinstance(value, list) else [value]:
            _member(each, field.choices, path)
    return converted


def is_same(one: Any, other: Any) -> bool:
    """Equal as JSON values: 1 equals 1.0, but not true."""
    return one == other and (type(one) is bool) == (type(other) is bool)


def shown(value: Any) -> str:
    """A JSON value in an error, not at any length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _refusal(path: str, wanted: str, value: Any) -> InvalidRequest:
    return InvalidRequest(f"{path or 'the arguments'} must be {wanted}, not {shown(value)}")


def _scalar(value: Any, hint: Any, path: str) -> Any:
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise _refusal(path, "a number of a size that a float holds", value) from error
    if hint is int and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not hint:
        raise _refusal(path, _WORDS[hint], value)
    return value


def _read(value: Any, hint: Any, path: str) -> Any:
    form, read = TEXTS[hint]
    if not isinstance(value, str):
        raise _refusal(path, _WORDS[str], value)
    try:
        return read(value)
    except ValueError as error:
        raise _refusal(path, f"a string in the format {form}", value) from error


def _first(value: Any, hints: Sequence[Any], path: str) -> Any:
    """By the first type of a union that accepts it; one that is exactly the value's own goes first."""
    problems = []
    for hint in sorted(hints, key=lambda hint: hint is not type(value)):
        try:
            return convert(value, hint, path)
        except InvalidRequest as error:
            problems.append(error.message)
    raise InvalidRequest("; or ".join(dict.fromkeys(problems)))


def _member(value: Any, members: Sequence[Any], path: str) -> Any:
    for member in members:
        if is_same(json_value(member), value):
            return member
    raise _refusal(path, f"one of {shown([json_value(each) for each in members])}", value)


def _array(value: Any, origin: Any, arguments: tuple[Any, ...], path: str) -> Any:
    if not isinstance(value, list):
        raise _refusal(path, "an array", value)
    if not arguments:
        hints = [Any] * len(value)
    elif origin is not tuple or arguments[1:] == (...,):
        hints = [arguments[0]] * len(value)
    elif len(value) != len(arguments):
        raise _refusal(path, f"an array of {len(arguments)}", value)
    else:
        hints = list(arguments)
    items = [convert(item, hint, _at(path, index)) for index, (item, hint) in enumerate(zip(value, hints, strict=True))]
    try:
        return ARRAYS[origin](items)
    except TypeError as error:
        raise InvalidRequest(f"{path}: a set cannot hold arrays or objects") from error


def _object(value: Any, arguments: tuple[Any, ...], path: str) -> Any:
    if not isinstance(value, dict):
        raise _refusal(path, "an object", value)
    if len(arguments) != 2:
        return value
    return {
        _key(name, arguments[0], path): convert(item, arguments[1], _at(path, name)) for name, item in value.items()
    }


def _key(name: str, hint: Any, path: str) -> Any:
    """JSON's keys are strings, also those that are to be numbers."""
    try:
        return convert(name, hint, path)
    except InvalidRequest:
        try:
            number = json.loads(name)
        except ValueError:
            number = name
        return convert(number, hint, f"{path}: the key")


def _by_pydantic(value: Any, hint: Any, path: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        # From text, because pydantic is more lenient towards JSON: it has no dates, tuples or sets of its own.
        return TypeAdapter(hint).validate_json(json.dumps(value))
    except ValidationError as error:
        problems = [f"{_at(path, *each['loc'])}: {each['msg']}" for each in error.errors(include_url=False)]
        raise InvalidRequest("; ".join(problems)) from error


def _at(path: str, *location: int | str) -> str:
    """Where in the JSON: `trip.stops[2].name`."""
    steps = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in location)
    return f"{path}{steps}".removeprefix(".")
