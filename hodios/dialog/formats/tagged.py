"""Calls as JSON objects between tags: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.formats.call_parser import CallParser
from hodios.dialog.formats.call_readers import BARE_KEYS, ObjectReader
from hodios.dialog.formats.writing import call_object
from hodios.dialog.json_scanner import end_of
from hodios.dialog.pieces import Piece
from hodios.dialog.splitter import SPACE, Tags

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_OPENING = Tags([OPEN])
_CLOSING = Tags([OPEN, CLOSE])
_FENCE = "```"
_LANGUAGE = re.compile(r"\w*")


class TaggedParser(CallParser):
    """Calls need both a name and arguments; a missing end tag is forgiven, and so are missing brackets before one.

    Between the tags may also stand several objects, a list of them, and a code fence around it all. From the second
    object on, one that has other keys than a call is text: the end tag before it may be missing.
    """

    def __init__(self, *, is_trusted: bool) -> None:
        super().__init__(_OPENING, _CLOSING, is_trusted=is_trusted)
        self._is_fenced = self._is_list = False

    def _reach(self, tag: str) -> None:
        self._is_fenced = self._is_list = False
        self._step = self._read_start

    def _read_start(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            self._hold(character)
        elif character == "{":
            self._begin_object(None)
            return position
        elif character == "[" and not self._is_list:
            self._hold(character)
            self._is_list = True
        elif character == "`" and not (self._is_fenced or self._is_list):
            self._expect((_FENCE,), self._open_fence)
            return position
        else:
            self._give_back()
            return position
        return position + 1

    def _open_fence(self, tag: str) -> None:
        self._is_fenced = True
        self._step = self._read_language

    def _read_language(self, text: str, position: int) -> int:
        start, position = position, end_of(_LANGUAGE, text, position)
        self._hold(text[start:position])
        if position < len(text):
            self._step = self._read_start
        return position

    def _begin_object(self, allowed: frozenset[str] | None) -> None:
        self._begin(ObjectReader(self._num_calls, is_streamed=self._is_trusted, allowed=allowed), CLOSE)

    def _end_call(self) -> None:
        self._expect_close(CLOSE)
        self._step = self._read_next

    def _read_next(self, text: str, position: int) -> int:
        """After a call, before its end tag: another one, or the end of what is around them."""
        character = text[position]
        if character in SPACE or character == ",":
            self._hold(character)
        elif character == "{":
            self._begin_object(BARE_KEYS)
            return position
        elif character == "]" and self._is_list:
            self._held.clear()
            self._is_list = False
        elif character == "`" and self._is_fenced:
            self._expect((_FENCE,), self._close_fence)
            return position
        else:
            self._give_back()
            return position
        return position + 1

    def _close_fence(self, tag: str) -> None:
        self._held.clear()
        self._is_fenced = False
        self._step = self._read_next

    def finish(self) -> Sequence[Piece]:
        if self._step == self._read_next or (self._begun and self._then == self._close_fence):
            self._held.clear()
            self._begun = ""
        return super().finish()


def write_blocks(calls: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"{OPEN}\n{call_object(call, arguments='arguments')}\n{CLOSE}" for call in calls)
