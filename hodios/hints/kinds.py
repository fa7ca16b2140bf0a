"""What a type hint is, and what its parts are. pydantic is never imported here, only recognised."""

from __future__ import annotations

import dataclasses
import datetime
import types
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NewType, NotRequired, Required, Union, get_args, get_origin

SCALARS = MappingProxyType({str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"})
"""Python's own scalars and what JSON Schema calls them."""
ARRAYS: Mapping[Any, Callable[[list[Any]], Any]] = MappingProxyType(
    {list: list, tuple: tuple, set: set, frozenset: frozenset, Sequence: list, Set: set}
)
"""Types that are arrays in JSON, and what is built for each."""
OBJECTS = (dict, Mapping)
UNIONS = (Union, types.UnionType)
TEXTS: Mapping[Any, tuple[str, Callable[[str], object]]] = MappingProxyType(
    {
        datetime.datetime: ("date-time", datetime.datetime.fromisoformat),
        datetime.date: ("date", datetime.date.fromisoformat),
        datetime.time: ("time", datetime.time.fromisoformat),
        uuid.UUID: ("uuid", uuid.UUID),
        Path: ("", Path),
    }
)
"""Types that are strings in JSON: the format's name, "" where it has none, and how they are read."""


def is_pydantic(hint: Any) -> bool:
    """Whether pydantic made it, or it carries what only pydantic understands."""
    if get_origin(hint) is Annotated:
        packages = {type(each).__module__.partition(".")[0] for each in hint.__metadata__}
        return bool(packages & {"pydantic", "annotated_types"})
    names = ("__get_pydantic_core_schema__", "__pydantic_core_schema__")
    return isinstance(hint, type) and any(hasattr(hint, name) for name in names)


def is_record(hint: Any) -> bool:
    """Whether it is a class of named fields that needs no pydantic."""
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or is_typed_dict(hint))


def is_typed_dict(hint: Any) -> bool:
    """Also one of `typing_extensions`, which pydantic wants before Python 3.12."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def is_model(hint: Any) -> bool:
    """Whether it is a class that JSON objects are made into."""
    return isinstance(hint, type) and (is_pydantic(hint) or is_record(hint))


def is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def is_alias(hint: Any) -> bool:
    """Whether it is a name for another type, as in `type Tree = list[Tree]`."""
    return hasattr(hint, "__value__") and hasattr(hint, "__type_params__")


def told(hint: Any) -> str:
    """What `Annotated` says of a value in words, if it does."""
    for each in getattr(hint, "__metadata__", ()):
        words = each if isinstance(each, str) else getattr(each, "documentation", None)
        if isinstance(words, str):
            return words
    return ""


def bare(hint: Any) -> Any:
    """Without what says nothing of the type: `Annotated`, `NotRequired`, `NewType`, and `typing.List` for `list`."""
    while True:
        origin = get_origin(hint)
        if origin in (Annotated, Required, NotRequired):
            hint = get_args(hint)[0]
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif (origin in ARRAYS or origin in OBJECTS) and not get_args(hint):
            return origin
        else:
            return hint


def name_of(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def json_value(member: Any) -> Any:
    """A member of a Literal or Enum as JSON has it."""
    return member.value if isinstance(member, Enum) else member
