"""What a function returned, made into what JSON can hold. Refuses what it cannot: bytes, NaN, circles, open files."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import math
import uuid
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from hodios.errors import InvalidRequest

_ARRAYS: tuple[type[Any], ...] = (list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))


def plain(value: Any, path: str, holders: tuple[int, ...] = ()) -> Any:
    """`path` says where in the result `value` stands, and `holders` in what. Raises InvalidRequest, which names it."""
    if isinstance(value, Enum):
        return plain(value.value, path, holders)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{path} is {value}, which JSON has no number for")
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal, PurePath)):
        return str(value)
    if id(value) in holders:
        raise InvalidRequest(f"{path} contains itself")
    return _held(value, path, (*holders, id(value)))


def _held(value: Any, path: str, holders: tuple[int, ...]) -> Any:
    if isinstance(value, Mapping):
        return {_key(key, path): plain(item, f"{path}[{key!r}]", holders) for key, item in value.items()}
    if isinstance(value, _ARRAYS):
        items: Iterable[Any] = value
        return [plain(item, f"{path}[{index}]", holders) for index, item in enumerate(items)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(item, f"{path}.{name}", holders) for name, item in fields.items()}
    # pydantic's models, and the arrays and scalars of numpy and its kin, know best what they are in Python's own types.
    for method, options in (("model_dump", {"mode": "json"}), ("tolist", {})):
        if hasattr(value, method) and not isinstance(value, type):
            return plain(getattr(value, method)(**options), path, holders)
    raise InvalidRequest(f"{path} is of type {type(value).__name__}, which JSON cannot hold")


def _key(key: Any, path: str) -> str:
    key = key.value if isinstance(key, Enum) else key
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float, datetime.date, uuid.UUID, PurePath)):
        return str(key)
    raise InvalidRequest(f"{path} has a key of type {type(key).__name__}; in JSON, keys are strings")
