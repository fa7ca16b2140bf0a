"""The JSON value that a text begins with, written carelessly or not, and with the brackets that its writer forgot."""

from __future__ import annotations

from msgspec import Struct

from hodios.dialog import careless_json
from hodios.dialog.json_scanner import JsonScanner, Mark


class LeadingValue(Struct, frozen=True):
    """A value in a text that goes on after `end`."""

    text: str
    """As it stands there, with `closers` after it."""
    end: int
    closers: str
    is_strict: bool

    @property
    def mended(self) -> str:
        """As JSON; what is right stays byte for byte."""
        return self.text if self.is_strict else careless_json.mend(self.text)


def leading_value(text: str, *, is_whole: bool) -> LeadingValue | None:
    """None where `text` does not begin with a value. `is_whole`: nothing was cut off, so missing brackets were
    forgotten."""
    scanner, position = JsonScanner(), 0
    # A number at the end is over only when something follows it.
    for part in (text, " "):
        start = 0
        while start < len(part) and scanner.mark not in (Mark.WHOLE, Mark.BROKEN):
            start = scanner.advance(part, start)
        position += start
    end = min(position, len(text))
    if scanner.mark is Mark.WHOLE:
        return LeadingValue(text[:end], end, "", scanner.is_strict)
    if scanner.mark is Mark.BROKEN or not is_whole or not scanner.closers:
        return None
    return LeadingValue(text.rstrip() + scanner.closers, len(text), scanner.closers, scanner.is_strict)
