"""What a setting is, and what its value may be: each function here reads one kind, and raises ValueError for all else.

A value is a string, from the environment or the command line, or of TOML's own types.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

LOG_LEVELS = ("debug", "info", "warning", "error")
_BYTE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def integer(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str):
            value = int(value.replace("_", ""))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return parse


def size(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str):
            digits = value.strip().rstrip("abgikmABGIKM ")
            unit = value.strip()[len(digits) :].strip().lower()
            if unit not in _BYTE_UNITS:
                raise ValueError
            value = int(float(digits) * _BYTE_UNITS[unit])
        return integer(least, most)(value)

    return parse


def seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value)
    if not 0.0 < number <= 3600.0:
        raise ValueError
    return number


def interval(value: object) -> float:
    """0: never."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value)
    if number != 0 and not 10.0 <= number <= 604800.0:
        raise ValueError
    return number


def boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ValueError


def strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        raise ValueError
    return tuple(value)


def pairs(value: object) -> tuple[tuple[str, str], ...]:
    """A table, or `name=value` as often as needed."""
    if isinstance(value, dict):
        value = [f"{name}={entry}" for name, entry in value.items()]
    split = [pair.rpartition("=") for pair in strings(value)]
    if not all(name and entry for name, _, entry in split):
        raise ValueError
    return tuple((name.strip(), entry.strip()) for name, _, entry in split)


def origins(value: object) -> tuple[str, ...]:
    found = strings(value)
    for origin in found:
        scheme, _, rest = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not rest or any(c in rest for c in "/?# @")):
            raise ValueError
    return found


def host(value: object) -> str:
    if not isinstance(value, str) or not value or any(c.isspace() or c in "/@" for c in value):
        raise ValueError
    return value.removeprefix("[").removesuffix("]")


def key(value: object) -> str:
    if not isinstance(value, str) or not value or not all("!" <= c <= "~" for c in value):
        raise ValueError
    return value


def path(value: object) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return Path(os.path.abspath(os.path.expanduser(value)))


def log_level(value: object) -> str:
    if not isinstance(value, str) or value.lower() not in LOG_LEVELS:
        raise ValueError
    return value.lower()


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only. Names other than localhost are not trusted to be."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _written(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class Setting(Struct, frozen=True):
    """One setting: where it stands in `hodios.toml`, how its value is read, and what is accepted."""

    section: str
    name: str
    parse: Callable[[object], Any]
    """Raises ValueError for anything but what `accepts` says. Gets a string (environment) or TOML's own type."""
    accepts: str
    meaning: str
    is_secret: bool = False
    write: Callable[[Any], str] = _written
    """As `parse` reads it from the environment."""
    option: str = ""
    """What it is called in its section, where that is not `name`."""

    @property
    def key(self) -> str:
        option = self.option or self.name
        return f"{self.section}.{option}" if self.section else option

    @property
    def variable(self) -> str:
        return f"HODIOS_{self.name.upper()}"
