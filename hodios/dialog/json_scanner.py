"""Follows one JSON value through text that arrives in pieces: where it ends, and where the members of an object lie.

It copies nothing, so that what it delimits is passed on byte for byte. It also follows what models write for JSON by
mistake, which `careless_json` mends: Python's literals, trailing commas, raw control characters and stray backslashes
in strings. Everything else breaks it at the first character that is wrong. It keeps a stack of its own, so that deep
nesting costs no recursion.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from hodios.dialog.splitter import SPACE

DEEPEST = 256
"""Objects and arrays within each other. Deeper ones are refused: readers of JSON recurse, and most give up at 1,000."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z0-9+.\-_]*")
_SPACE = re.compile(f"[{SPACE}]*")
_CLOSERS = {"{": "}", "[": "]"}
_STOPS = {'"': re.compile(r'["\\\x00-\x1f]'), "'": re.compile(r"['\\]")}
_HEX = frozenset("0123456789abcdefABCDEF")
JSON_WORDS = frozenset(("true", "false", "null"))
PYTHON_WORDS = frozenset(("True", "False", "None"))


class Mark(Enum):
    """Where `advance` stopped. Keys and values are those of the outermost object alone."""

    KEY = 1
    """Before a key's opening quote."""
    KEY_END = 2
    VALUE = 3
    """Before the first character of a member's value."""
    VALUE_END = 4
    WHOLE = 5
    """After the last character of the whole value; of a bare word or number, before what delimits it."""
    BROKEN = 6
    """Before the character that cannot stand here; after a word that means nothing."""


class JsonScanner:
    """Reads one value. Where `mark` is WHOLE or BROKEN, it is over."""

    __slots__ = ("_is_key", "_is_marked", "_num_hex", "_quote", "_stack", "_step", "_word", "is_strict", "mark")

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.is_strict = True
        """Whether all that was read is JSON without mistakes; the reader may set it anew, to ask about one member."""
        self._stack: list[str] = []
        self._step: Callable[[JsonScanner, str, int], int] = JsonScanner._before_value
        self._quote = '"'
        self._is_key = False
        self._is_marked = False
        self._num_hex = 0
        self._word: list[str] = []

    def advance(self, text: str, position: int) -> int:
        """Reads from `position` to the next mark or the end of `text`, and returns where that is."""
        self.mark = None
        end = len(text)
        while position < end and self.mark is None:
            position = self._step(self, text, position)
        return position

    @property
    def closers(self) -> str:
        """The brackets that are all that is missing; "" where more is missing, or nothing."""
        if self._step is not JsonScanner._after_value:
            return ""
        return "".join(_CLOSERS[opener] for opener in reversed(self._stack))

    def _is_outermost_member(self) -> bool:
        return len(self._stack) == 1 and self._stack[0] == "{"

    def _break(self, position: int) -> int:
        self.mark = Mark.BROKEN
        return position

    def _before_value(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            return end_of(_SPACE, text, position)
        if character == "]" and self._stack and self._stack[-1] == "[":
            self.is_strict = False
            return self._close(position)
        if self._is_outermost_member() and not self._is_marked:
            return self._begin(Mark.VALUE, position)
        self._is_marked = False
        if character in "{[":
            return self._open(character, position)
        if character in "\"'":
            return self._begin_string(character, position, is_key=False)
        if not end_of(_WORD, text, position) - position:
            return self._break(position)
        self._step = JsonScanner._in_word
        return position

    def _begin(self, mark: Mark, position: int) -> int:
        self.mark, self._is_marked = mark, True
        return position

    def _open(self, character: str, position: int) -> int:
        if len(self._stack) == DEEPEST:
            return self._break(position)
        self._stack.append(character)
        self._step = JsonScanner._after_brace if character == "{" else JsonScanner._after_bracket
        return position + 1

    def _after_bracket(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            return end_of(_SPACE, text, position)
        if text[position] == "]":
            return self._close(position)
        self._step = JsonScanner._before_value
        return position

    def _after_brace(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            return end_of(_SPACE, text, position)
        if text[position] == "}":
            return self._close(position)
        self._step = JsonScanner._before_key
        return position

    def _before_key(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            return end_of(_SPACE, text, position)
        if character == "}":
            self.is_strict = False
            return self._close(position)
        if character not in "\"'":
            return self._break(position)
        if len(self._stack) == 1 and not self._is_marked:
            return self._begin(Mark.KEY, position)
        self._is_marked = False
        return self._begin_string(character, position, is_key=True)

    def _before_colon(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            return end_of(_SPACE, text, position)
        if text[position] != ":":
            return self._break(position)
        self._step = JsonScanner._before_value
        return position + 1

    def _after_value(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            return end_of(_SPACE, text, position)
        opener = self._stack[-1]
        if character == ",":
            self._step = JsonScanner._before_key if opener == "{" else JsonScanner._before_value
            return position + 1
        if character != _CLOSERS[opener]:
            return self._break(position)
        return self._close(position)

    def _close(self, position: int) -> int:
        self._stack.pop()
        self._end_value()
        return position + 1

    def _end_value(self) -> None:
        self._step = JsonScanner._after_value
        if not self._stack:
            self.mark = Mark.WHOLE
        elif self._is_outermost_member():
            self.mark = Mark.VALUE_END

    def _begin_string(self, quote: str, position: int, *, is_key: bool) -> int:
        self._quote, self._is_key = quote, is_key
        if quote == "'":
            self.is_strict = False
        self._step = JsonScanner._in_string
        return position + 1

    def _in_string(self, text: str, position: int) -> int:
        found = _STOPS[self._quote].search(text, position)
        if found is None:
            return len(text)
        character = found[0]
        if character == "\\":
            self._step = JsonScanner._after_backslash
        elif character == self._quote:
            self._end_string()
        else:
            self.is_strict = False
        return found.end()

    def _end_string(self) -> None:
        if not self._is_key:
            self._end_value()
            return
        self._step = JsonScanner._before_colon
        if len(self._stack) == 1:
            self.mark = Mark.KEY_END

    def _after_backslash(self, text: str, position: int) -> int:
        character = text[position]
        self._step = JsonScanner._in_string
        if character == "u":
            self._num_hex = 4
            self._step = JsonScanner._in_escape
        elif character not in '"\\/bfnrt':
            self.is_strict = False
        return position + 1

    def _in_escape(self, text: str, position: int) -> int:
        """Within the four digits after `\\u`."""
        if text[position] not in _HEX:
            self.is_strict = False
            self._step = JsonScanner._in_string
            return position
        self._num_hex -= 1
        if not self._num_hex:
            self._step = JsonScanner._in_string
        return position + 1

    def _in_word(self, text: str, position: int) -> int:
        end = end_of(_WORD, text, position)
        self._word.append(text[position:end])
        if end == len(text):
            return end
        word = "".join(self._word)
        self._word.clear()
        if word in PYTHON_WORDS:
            self.is_strict = False
        elif word not in JSON_WORDS and not _NUMBER.fullmatch(word):
            return self._break(end)
        self._end_value()
        return end


def end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where a match of `pattern` that begins at `position` ends; `position` itself where there is none."""
    found = pattern.match(text, position)
    return found.end() if found else position
