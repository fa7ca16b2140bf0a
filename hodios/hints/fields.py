"""The named values of functions, dataclasses and TypedDicts: their types, and what their docstrings say of them.

Refuses functions that cannot be called with named values from JSON.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NotRequired, Required, get_origin

from hodios.errors import SetupError
from hodios.hints.docstring import Docstring, parse
from hodios.hints.kinds import is_typed_dict, told

_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)
_UNREADABLE = (NameError, AttributeError, TypeError, SyntaxError)
"""What evaluating an annotation raises."""


class Field(NamedTuple):
    """One named value. `choices` are JSON values, None where the docstring has none."""

    name: str
    hint: Any
    is_required: bool
    description: str = ""
    choices: list[Any] | None = None


def parameters_of(function: Callable[..., Any]) -> list[Field]:
    """Raises SetupError with the function's name and the parameter that is in the way."""
    name = function.__name__
    documented = docstring_of(function)
    fields = []
    for parameter in signature_of(function).parameters.values():
        where = f"{name}, parameter {parameter.name!r}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SetupError(f"{where}: {parameter} takes any number of values; a tool names each of its parameters")
        if parameter.annotation is parameter.empty:
            raise SetupError(f"{where}: has no type hint; write {parameter.name}: str, or whatever it takes")
        hint = resolve(function, parameter.name, parameter.annotation, where)
        fields.append(_field(parameter.name, hint, parameter.default is parameter.empty, documented, where))
    return fields


def fields_of(kind: Any) -> list[Field]:
    """The fields of a dataclass or TypedDict."""
    name = kind.__name__
    try:
        hints = typing.get_type_hints(kind, localns={name: kind}, include_extras=True)
    except _UNREADABLE as error:
        raise SetupError(f"{name}: its type hints cannot be read: {error}") from error
    if is_typed_dict(kind):
        needed = {key: _is_required(kind, key, hint) for key, hint in hints.items()}
    else:
        needed = {each.name: each.default is each.empty for each in signature_of(kind).parameters.values()}
    documented = docstring_of(kind)
    return [
        _field(key, _initial(hints[key]), is_required, documented, f"{name}, {key!r}")
        for key, is_required in needed.items()
    ]


def docstring_of(documented: Any) -> Docstring:
    """What a function or class says of itself; a dataclass's made-up docstring says nothing."""
    doc = vars(documented).get("__doc__") if isinstance(documented, type) else inspect.getdoc(documented)
    doc = inspect.cleandoc(doc or "").strip()
    return parse("" if doc.startswith(f"{documented.__name__}(") and dataclasses.is_dataclass(documented) else doc)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, *_UNREADABLE) as error:
        raise SetupError(f"{function.__name__}: its parameters cannot be read: {error}") from error


def resolve(function: Callable[..., Any], name: str, annotation: Any, where: str) -> Any:
    """An annotation as a type; strings are evaluated where the function was written."""
    names: Mapping[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        return typing.get_type_hints(holder, dict(names), include_extras=True)[name]
    except _UNREADABLE as error:
        raise SetupError(f"{where}: the type hint {annotation!r} cannot be read: {error}") from error


def _field(name: str, hint: Any, is_required: bool, documented: Docstring, where: str) -> Field:
    description = documented.parameters.get(name, "") or told(hint)
    found = _CHOICES.search(description)
    if not found:
        return Field(name, hint, is_required, description)
    try:
        choices = json.loads(found[1])
    except ValueError as error:
        raise SetupError(f"{where}: its choices {found[1]} are not a JSON array: {error}") from error
    if not isinstance(choices, list) or not choices:
        raise SetupError(f"{where}: its choices {found[1]} are not a JSON array of values")
    choices = [each.strip() if isinstance(each, str) else each for each in choices]
    return Field(name, hint, is_required, description[: found.start()].strip(), choices)


def _initial(hint: Any) -> Any:
    return hint.type if isinstance(hint, dataclasses.InitVar) else hint


def _is_required(kind: Any, name: str, hint: Any) -> bool:
    """Looks at the hint first: where annotations are strings, the class itself has not seen `NotRequired`."""
    return {Required: True, NotRequired: False}.get(get_origin(hint), name in kind.__required_keys__)
