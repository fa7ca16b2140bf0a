"""One call, read from its first bracket on: the object that names a function and its arguments, or arguments alone.

What comes before and after a call is for a format's parser.
"""

from __future__ import annotations

import re
from typing import Protocol

from hodios.dialog.careless_json import mend, read_arguments, read_string
from hodios.dialog.json_scanner import JsonScanner, Mark
from hodios.dialog.pieces import CallArguments, CallName, Piece

BARE_KEYS = frozenset(("type", "name", "parameters", "arguments", "id"))
"""All that a call may have where no tag says that it is one."""
_ARGUMENTS = frozenset(("arguments", "parameters"))
_KEPT = frozenset(("name", "id", *_ARGUMENTS))
_FUNCTION = "function"
_INNER_KEYS = frozenset(("name", "arguments", "id"))


class CallReader(Protocol):
    """Reads one call in any chunks, until it is whole or broken."""

    is_whole: bool
    is_broken: bool
    is_shown: bool
    """Whether a piece of it has come out: there is no taking it back."""

    def read(self, text: str, position: int, pieces: list[Piece]) -> int:
        """From `position` to the end of the call or of the text. What may be shown is added to `pieces`."""
        ...

    @property
    def closers(self) -> str:
        """The brackets that the call misses, if it may miss nothing else: reading them makes a broken call whole."""
        ...


class ObjectReader:
    """A call that is one object: `{"name": …, "arguments": {…}}`, in either order, `parameters` for `arguments`; or as
    OpenAI's API has it, `{"type": "function", "function": {"name": …, "arguments": …}}`.

    Other keys are read over. The same key twice breaks the call: there is no telling which was meant. When
    `is_streamed`, its name is shown when its arguments begin, so that there is no call without any, and these as they
    come; what came before the name is shown after it.
    """

    def __init__(
        self,
        number: int,
        *,
        is_streamed: bool,
        allowed: frozenset[str] | None = None,
        ids: re.Pattern[str] | None = None,
    ) -> None:
        """With `allowed`, any other key breaks the call: what has no tags may be no call. `ids`: how the format's ids
        look; others are not kept."""
        self.is_whole = self.is_broken = self.is_shown = False
        self._number = number
        self._is_streamed = is_streamed
        self._allowed = allowed
        self._ids = ids
        self._scanner = JsonScanner()
        self._key = ""
        self._slices: list[str] | None = None
        """Of the key or value that is being read, if it is kept."""
        self._is_passed_on = False
        """The value that is being read is shown as it comes."""
        self._name: str | None = None
        self._id = ""
        self._arguments: str | None = None
        self._inner = ""
        """The object of OpenAI's `function`."""

    def read(self, text: str, position: int, pieces: list[Piece]) -> int:
        scanner, end = self._scanner, len(text)
        self.is_broken = False
        while position < end:
            start = position
            position = scanner.advance(text, start)
            if self._is_passed_on:
                if position > start:
                    pieces.append(CallArguments(self._number, text[start:position]))
            elif self._slices is not None:
                self._slices.append(text[start:position])
            if scanner.mark is not None:
                self._reach(scanner.mark, text, position, pieces)
                if self.is_whole or self.is_broken:
                    break
        return position

    def _reach(self, mark: Mark, text: str, position: int, pieces: list[Piece]) -> None:
        match mark:
            case Mark.KEY:
                self._slices = []
            case Mark.KEY_END:
                self._end_key()
            case Mark.VALUE:
                self._begin_value(text[position], pieces)
            case Mark.VALUE_END:
                self._end_value(pieces)
            case Mark.WHOLE:
                self._end(pieces)
            case Mark.BROKEN:
                self.is_broken = True

    def _end_key(self) -> None:
        key = read_string("".join(self._slices or ()))
        self._slices = None
        self._key = key or ""
        is_again = (key == "name" and self._name is not None) or (key in _ARGUMENTS and self._arguments is not None)
        if is_again or (self._allowed is not None and key not in self._allowed):
            self.is_broken = True

    def _begin_value(self, character: str, pieces: list[Piece]) -> None:
        self._scanner.is_strict = True
        if self._is_streamed and self._name is not None and self._key in _ARGUMENTS and character == "{":
            self._arguments = ""
            self._show(pieces)
            self._is_passed_on = True
        elif self._key in _KEPT or (self._key == _FUNCTION and character == "{"):
            self._slices = []

    def _end_value(self, pieces: list[Piece]) -> None:
        if self._slices is not None:
            self._keep("".join(self._slices))
        self._slices, self._is_passed_on = None, False
        if self._is_streamed and not self.is_broken:
            self._show(pieces)

    def _keep(self, value: str) -> None:
        if self._key in _ARGUMENTS:
            self._arguments = read_arguments(value, is_strict=self._scanner.is_strict)
            self.is_broken = self._arguments is None
        elif self._key == _FUNCTION:
            self._inner = value
        elif value[0] not in "\"'":
            self.is_broken = self._key == "name"
        elif self._key == "name":
            self._name = read_string(value)
            self.is_broken = not self._name
        elif self._ids and self._ids.fullmatch(id := read_string(value) or ""):
            self._id = id

    def _show(self, pieces: list[Piece]) -> None:
        """What is known by now and not shown yet; nothing before both name and arguments are."""
        if self._name is None or self._arguments is None:
            return
        if not self.is_shown:
            self.is_shown = True
            pieces.append(CallName(self._number, self._name, self._id))
        if self._arguments:
            pieces.append(CallArguments(self._number, self._arguments))
            self._arguments = ""

    def _end(self, pieces: list[Piece]) -> None:
        if self._inner and self._name is None and self._arguments is None:
            self._read_inner(pieces)
            return
        if self._name is None or self._arguments is None:
            self.is_broken = True
            return
        self.is_whole = True
        self._show(pieces)

    def _read_inner(self, pieces: list[Piece]) -> None:
        """With `parameters` it would be the description of a tool."""
        inner = ObjectReader(self._number, is_streamed=False, allowed=_INNER_KEYS)
        inner._id = self._id
        inner.read(self._inner, 0, pieces)
        self.is_whole = self.is_shown = inner.is_whole
        self.is_broken = not inner.is_whole

    @property
    def closers(self) -> str:
        return self._scanner.closers


class ArgumentsReader:
    """A call whose name was read already: what follows is the object of its arguments and nothing else."""

    def __init__(self, number: int, name: str, id: str = "", *, is_streamed: bool) -> None:
        self.is_whole = self.is_broken = self.is_shown = False
        self._number = number
        self._name, self._id = name, id
        self._is_streamed = is_streamed
        self._scanner = JsonScanner()
        self._slices: list[str] = []

    def read(self, text: str, position: int, pieces: list[Piece]) -> int:
        if self._is_streamed and not self.is_shown:
            self._show(pieces)
        start, end, scanner = position, len(text), self._scanner
        self.is_broken = False
        while position < end and not (self.is_whole or self.is_broken):
            position = scanner.advance(text, position)
            self.is_whole = scanner.mark is Mark.WHOLE
            self.is_broken = scanner.mark is Mark.BROKEN
        if self._is_streamed:
            if position > start:
                pieces.append(CallArguments(self._number, text[start:position]))
            return position
        self._slices.append(text[start:position])
        if self.is_whole:
            self._show(pieces)
            arguments = "".join(self._slices)
            pieces.append(CallArguments(self._number, arguments if scanner.is_strict else mend(arguments)))
        return position

    def _show(self, pieces: list[Piece]) -> None:
        self.is_shown = True
        pieces.append(CallName(self._number, self._name, self._id))

    @property
    def closers(self) -> str:
        return self._scanner.closers
