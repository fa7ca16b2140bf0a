"""Docstrings in Google's style: what a function is for, what its arguments mean, and what it returns."""

from __future__ import annotations

import re
from typing import NamedTuple

_SECTION = re.compile(r"^[ \t]*(Args|Arguments|Attributes|Returns|Raises|Yields):(.*)$", re.MULTILINE)
_DESCRIPTION_ENDS = re.compile(r"(?:Args|Returns|Raises):|^(?:Arguments|Attributes|Yields):", re.MULTILINE)
"""Anywhere in a line, as `transformers` has it."""
_ITEM = re.compile(r"(?P<indent>[ \t]*)\*{0,2}(?P<name>\w+)(?:[ \t]*\([^()]*\))?:(?P<text>.*)")


class Docstring(NamedTuple):
    """`returns` is "" where nothing is said of it."""

    description: str
    parameters: dict[str, str]
    returns: str


def parse(doc: str) -> Docstring:
    """`doc` without the indentation it has in the source."""
    sections: dict[str, str] = {}
    heads = list(_SECTION.finditer(doc))
    ends = [*(head.start() for head in heads[1:]), len(doc)]
    for head, end in zip(heads, ends, strict=False):
        if not head[2].strip():
            sections[head[1]] = doc[head.end() : end]
    parameters = [sections.get(name, "") for name in ("Attributes", "Arguments", "Args")]
    description = _DESCRIPTION_ENDS.split(doc, maxsplit=1)[0].strip()
    return Docstring(description, _items("\n".join(parameters)), sections.get("Returns", "").strip())


def _items(section: str) -> dict[str, str]:
    """An item ends where a line begins another without being indented deeper."""
    items: dict[str, list[str]] = {}
    lines: list[str] = []
    indent: str | None = None
    for line in section.splitlines():
        item = _ITEM.match(line)
        if item and (indent is None or not (line.startswith(indent) and line[len(indent)] in " \t")):
            indent, lines = item["indent"], items.setdefault(item["name"], [])
            lines[:] = [item["text"].strip()]
        else:
            lines.append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in items.items()}
