"""What a chat template's operations would make, judged before they make it. Refuses what is out of all proportion."""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Any

from jinja2.exceptions import SecurityError

MAX_CHARACTERS = 16 * 1024 * 1024
"""Length of the rendered text and of every string on the way to it; the longest contexts take less."""

_WIDE_PERCENT = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\d{5}|\*)")
_WIDE_BRACES = re.compile(r"\{[^{}]*(\d{5}|\{)")
"""Format strings whose result can be far longer than they are: a width of five digits, or one taken from a value."""


def check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise SecurityError(f"the chat template makes a text or list longer than {MAX_CHARACTERS}")


def check_growth(name: str, value: object, *args: Any) -> None:
    """Refuses what would make a long result out of a short value before it is made."""
    widths = [abs(arg) for arg in args if isinstance(arg, int)]
    texts = [arg for arg in args if isinstance(arg, str)]
    length = len(value) if isinstance(value, Sized) else 1
    match name:
        case "replace" if len(texts) >= 2:
            text = str(value)
            check_length(len(text) + text.count(texts[0]) * len(texts[1]))
        case "join" if isinstance(value, str):
            check_length(sum(len(arg) * max(length, 1) for arg in args if isinstance(arg, Sized)))
        case "join":
            check_length(length * (1 + sum(map(len, texts))))
        case "center" | "ljust" | "rjust" | "zfill" | "batch" | "slice":
            check_length(max(widths, default=0))
        case "indent" | "expandtabs" | "tojson":
            check_length((length + 1) * (max(widths, default=0) + max(map(len, texts), default=0)))
        case "%" | "format" if _WIDE_PERCENT.search(str(value)):
            raise SecurityError("the chat template uses a format that is too wide")
        case "{}" if _WIDE_BRACES.search(str(value)):
            raise SecurityError("the chat template uses a format that is too wide")
