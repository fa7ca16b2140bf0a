"""Where a text that grows is judged: at places that depend on the text alone, not on the pieces in which it comes."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    text: str
    end: int
    """Its place in the whole text: what comes before it may be shown once the window was judged."""


class Windows:
    """One text. A window is due whenever there are `stride` characters that none has covered; it reaches back over at
    most `reach` characters, so that what is spread over several pieces is seen in one."""

    __slots__ = ("_covered", "_due", "_kept", "_parts", "_reach", "_size", "_start", "_stride")

    def __init__(self, stride: int, reach: int) -> None:
        self._stride = stride
        self._reach = reach
        self._parts: list[str] = []
        self._kept = ""
        """The end of the text, from `_start` on, as far as windows still reach back; without `_parts`."""
        self._start = 0
        self._size = 0
        self._due = stride
        self._covered = 0

    @property
    def size(self) -> int:
        """Of the whole text so far."""
        return self._size

    @property
    def covered(self) -> int:
        """Up to where windows were taken."""
        return self._covered

    def add(self, text: str) -> bool:
        """Whether a window is due."""
        self._parts.append(text)
        self._size += len(text)
        return self._size >= self._due

    def next(self) -> Window | None:
        """The first that is due."""
        return self._cut(self._place()) if self._size >= self._due else None

    def last(self) -> Window | None:
        """At the end of the text, what no window has covered."""
        return self._cut(self._size) if self._size > self._covered else None

    def rest(self) -> str:
        """As `last`, where nobody asks for its place: its text, "" where there is none."""
        if self._size == self._covered:
            return ""
        self._covered = self._size
        return self._gathered()

    def _place(self) -> int:
        """The end of the last whole word in the stride's second half, where one ends there."""
        kept, low, high = self._gathered(), self._covered - self._start, self._due - self._start
        middle = low + (high - low) // 2
        word = max(kept.rfind(" ", middle, high), kept.rfind("\n", middle, high))
        return self._start + (word + 1 if word >= 0 else high)

    def _cut(self, end: int) -> Window:
        kept = self._gathered()
        window = Window(kept[: end - self._start], end)
        self._covered, self._due = end, end + self._stride
        start = max(self._start, end - self._reach)
        self._kept, self._start = kept[start - self._start :], start
        return window

    def _gathered(self) -> str:
        if self._parts:
            self._kept += "".join(self._parts)
            self._parts.clear()
        return self._kept
