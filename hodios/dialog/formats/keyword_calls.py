"""One call as Python writes it: `name(key=value, …)`, values being literals. Positional arguments break it."""

from __future__ import annotations

import re
from collections.abc import Callable

from hodios.dialog.careless_json import mend
from hodios.dialog.formats.writing import to_json
from hodios.dialog.json_scanner import JsonScanner, Mark, end_of
from hodios.dialog.pieces import CallArguments, CallName, Piece
from hodios.dialog.splitter import SPACE

_NAME = re.compile(r"[\w.\-]*")
_KEY = re.compile(r"\w*")


class KeywordReader:
    """Shown once it is whole, its arguments as a JSON object: their values as written where they are JSON."""

    closers = ""

    def __init__(self, number: int, tool_name: Callable[[str], str]) -> None:
        """`tool_name`: which tool is meant by the name that is written; "" for none, which breaks the call."""
        self.is_whole = self.is_broken = self.is_shown = False
        self._number = number
        self._tool_name = tool_name
        self._name = ""
        self._step = self._read_name
        self._word: list[str] = []
        self._scanner = JsonScanner()
        self._arguments: dict[str, str] = {}
        self._key = ""

    def read(self, text: str, position: int, pieces: list[Piece]) -> int:
        end = len(text)
        while position < end and not (self.is_whole or self.is_broken):
            position = self._step(text, position)
        if self.is_whole:
            self.is_shown = True
            pieces.append(CallName(self._number, self._name))
            members = ", ".join(f"{to_json(key)}: {value}" for key, value in self._arguments.items())
            pieces.append(CallArguments(self._number, f"{{{members}}}"))
        return position

    def _read_name(self, text: str, position: int) -> int:
        start, position = position, end_of(_NAME, text, position)
        self._word.append(text[start:position])
        if position == len(text):
            return position
        self._name = self._tool_name("".join(self._word)) if text[position] == "(" else ""
        self._word.clear()
        self.is_broken = not self._name
        self._step = self._read_key
        return position if self.is_broken else position + 1

    def _read_key(self, text: str, position: int) -> int:
        if text[position] in SPACE and not self._word:
            return position + 1
        start, position = position, end_of(_KEY, text, position)
        if position > start:
            self._word.append(text[start:position])
        if position == len(text):
            return position
        self._key = "".join(self._word)
        self._word.clear()
        if not self._key and text[position] == ")":
            self.is_whole = True
            return position + 1
        self.is_broken = not self._key.isidentifier() or self._key in self._arguments
        self._step = self._read_equals
        return position

    def _read_equals(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            return position + 1
        self.is_broken = text[position] != "="
        self._scanner = JsonScanner()
        self._step = self._read_value
        return position if self.is_broken else position + 1

    def _read_value(self, text: str, position: int) -> int:
        start, scanner = position, self._scanner
        position = scanner.advance(text, position)
        self._word.append(text[start:position])
        if scanner.mark is Mark.BROKEN:
            self.is_broken = True
        elif scanner.mark is Mark.WHOLE:
            value = "".join(self._word).strip(SPACE)
            self._word.clear()
            self._arguments[self._key] = value if scanner.is_strict else mend(value)
            self._step = self._read_comma
        return position

    def _read_comma(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            return position + 1
        self.is_whole = character == ")"
        self.is_broken = character not in ",)"
        self._step = self._read_key
        return position if self.is_broken else position + 1
