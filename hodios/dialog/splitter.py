"""Finds tags in text that arrives in pieces, and holds back only what may become one. Knows not what tags mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hodios.dialog.stop import StopStrings

SPACE = " \t\r\n"
"""The whitespace that belongs to markup: JSON's."""


class Tags:
    """The tags of one place in a format. Immutable; shared by all splitters that look for them."""

    __slots__ = ("first", "strings", "texts")

    def __init__(self, tags: Iterable[str]) -> None:
        """No tag may begin another one: the shorter would always be found first."""
        self.texts = tuple(tags)
        self.strings = StopStrings(self.texts)
        self.first = re.compile("[" + "".join(map(re.escape, sorted(self.strings.first_characters))) + "]")

    def begin_with(self, text: str) -> bool:
        """Whether one of them does."""
        return any(tag.startswith(text) for tag in self.texts)


class Splitter:
    """Reads text up to the next tag, again and again. A step of work a character, however the text is cut."""

    __slots__ = ("_held", "_state", "_tags", "tag")

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._state = 0
        self._held = ""
        self.tag: str | None = None
        """The tag that the last `read` ended with, if it did."""

    def read(self, text: str, start: int) -> tuple[str, int]:
        """From `start` to the end of the next tag, or of the text: what is surely no part of a tag, and where it ended.

        What is held back is always the longest end of the text that begins a tag.
        """
        self.tag = None
        first, strings = self._tags.first, self._tags.strings
        state, position, end = self._state, start, len(text)
        while position < end:
            if not state:
                found = first.search(text, position)
                if found is None:
                    break
                position = found.start()
            state = strings.step(state, text[position])
            position += 1
            if strings.matches[state] is not None:
                return self._end(strings.matches[state], text, start, position), position
        self._state = state
        shown = self._held + text[start:]
        num_held = strings.depths[state]
        self._held = shown[len(shown) - num_held :]
        return shown[: len(shown) - num_held], end

    def _end(self, tag: str | None, text: str, start: int, position: int) -> str:
        shown = self._held + text[start:position]
        self.tag, self._state, self._held = tag, 0, ""
        return shown[: len(shown) - len(tag or "")]

    def flush(self) -> str:
        """What was held back, once it is known that no more text comes, or that the next is read in another way."""
        held, self._held, self._state = self._held, "", 0
        return held
