"""What of one choice is held back until it was judged, in the order in which it came. Sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from hodios.events import Reasoning, Text, ToolCall

Piece = Text | Reasoning | ToolCall


def text_of(event: Piece) -> str:
    """What guards read of it."""
    return event.name + event.arguments if isinstance(event, ToolCall) else event.text


class Held:
    """Places are those of `text_of` all that was put here, with what is between two of them."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Piece]] = deque()
        """(where it begins, what it is)"""

    def put(self, begin: int, piece: Piece) -> None:
        if isinstance(piece, ToolCall) and piece.name and piece.arguments:
            # The name comes in one piece, arguments as far as they may.
            self._pieces.append((begin, replace(piece, arguments="")))
            begin, piece = begin + len(piece.name), replace(piece, id="", name="")
        self._pieces.append((begin, piece))

    def release(self, end: int) -> Iterator[Piece]:
        """All that comes before a place, and no character more."""
        while self._pieces:
            begin, piece = self._pieces[0]
            if begin + len(text_of(piece)) <= end:
                self._pieces.popleft()
                yield piece
                continue
            if begin < end and _can_be_cut(piece):
                first, second = _cut(piece, end - begin)
                self._pieces[0] = (end, second)
                yield first
            return

    def clear(self) -> None:
        self._pieces.clear()


def _can_be_cut(piece: Piece) -> bool:
    """Tokens of which somebody wants to see the probability stay with their text, and names stay whole."""
    return not (isinstance(piece, Text) and piece.logprobs) and not (isinstance(piece, ToolCall) and piece.name)


def _cut(piece: Piece, place: int) -> tuple[Piece, Piece]:
    if isinstance(piece, ToolCall):
        arguments = piece.arguments
        return replace(piece, arguments=arguments[:place]), replace(piece, arguments=arguments[place:])
    return replace(piece, text=piece.text[:place]), replace(piece, text=piece.text[place:])
