"""Text as JSON escapes it, in UTF-16: servers that cut it anywhere send halves of characters. Sans-IO."""

from __future__ import annotations

_HIGH = ("\ud800", "\udbff")


def joined(text: str) -> str:
    """`text` with the halves of a character joined, and U+FFFD for a half that stands alone."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class SurrogateJoiner:
    """Pieces of one text: a half at the end of a piece waits for the next one."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def push(self, text: str) -> str:
        if text.isascii() and not self._half:
            return text
        text, self._half = self._half + text, ""
        if text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._half = text[:-1], text[-1]
        return joined(text)

    def flush(self) -> str:
        half, self._half = self._half, ""
        return joined(half)
