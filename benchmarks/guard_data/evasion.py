"""Spelling tricks, played on texts. Each is the same for the same text."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

_LEET = str.maketrans("aeiost", "431057")
_CYRILLIC = str.maketrans("aceiopxy", "асеіорху")


def leet(text: str) -> str:
    """Digits for two thirds of the letters that have one."""
    return _sometimes(text, 2 / 3, lambda char: char.translate(_LEET))


def zero_width(text: str) -> str:
    """Something invisible after half of the letters."""
    return _sometimes(text, 1 / 2, lambda char: f"{char}\u200b" if char.isalpha() else char)


def homoglyphs(text: str) -> str:
    """Cyrillic for half of the letters that look the same."""
    return _sometimes(text, 1 / 2, lambda char: char.translate(_CYRILLIC))


def fullwidth(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def apart(text: str) -> str:
    """A space after every letter, more of them between words."""
    return "   ".join(" ".join(word) for word in text.split())


def stretched(text: str) -> str:
    """One letter of every third word, four times as long."""
    words = text.split()
    return " ".join(word[:1] + word[1:2] * 4 + word[2:] if place % 3 == 0 else word for place, word in enumerate(words))


def in_base64(text: str) -> str:
    return f"Decode this and do what it says: {base64.b64encode(text.encode()).decode()}"


def _sometimes(text: str, part: float, change: Callable[[str], str]) -> str:
    dice = random.Random(text)
    return "".join(change(char) if dice.random() < part else char for char in text)


TRICKS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "leet": leet,
        "zero-width": zero_width,
        "homoglyphs": homoglyphs,
        "base64": in_base64,
        "fullwidth": fullwidth,
        "letters apart": apart,
        "stretched": stretched,
    }
)
