"""One section of the settings, read into a struct: what is unknown or impossible is refused with its name."""

from __future__ import annotations

import difflib
from typing import TypeVar

import msgspec

from hodios.errors import ConfigError

Section = TypeVar("Section", bound=msgspec.Struct)


def parse_section(value: object, kind: type[Section], name: str) -> Section:
    """The table below `[name]`, or that table as JSON text. Raises ConfigError."""
    try:
        table = msgspec.json.decode(value) if isinstance(value, str) else value
        if isinstance(table, dict):
            _check_keys(table, kind, name)
        return msgspec.convert(table, kind)
    except msgspec.DecodeError as error:
        what, _, where = str(error).partition(" - at `$")
        key = f"{name}{where.removesuffix('`')}"
        raise ConfigError(f"{key} is not accepted: {what[:1].lower()}{what[1:]}.") from None


def _check_keys(table: dict[str, object], kind: type[msgspec.Struct], name: str) -> None:
    known = kind.__struct_fields__
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"Unknown setting {name}.{key}. Did you mean {name}.{nearest}?")
