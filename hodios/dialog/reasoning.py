"""What a model thinks aloud before it answers, between tags at the very start, told apart from the answer.

A stage before a format's parser, which reads the rest. Tags that come later are text like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

from hodios.dialog.pieces import Content, Parser, Piece, Thought
from hodios.dialog.splitter import SPACE, Splitter, Tags

THINK, SCRATCH_PAD = "think", "scratch_pad"
NAMES = (THINK, SCRATCH_PAD)
MARKERS = tuple(f"<{slash}{name}>" for name in NAMES for slash in ("", "/"))
"""What the detokenizer must show, where a vocabulary has it as a control token."""

_OPENING = MappingProxyType({f"<{name}>": name for name in NAMES})
_CLOSING = MappingProxyType({name: Tags([f"</{name}>"]) for name in NAMES})


def opened_by(prompt: str) -> str:
    """The name of the tag that a rendered prompt ends with, so that the answer begins within it; "" for none."""
    end = prompt.rstrip(SPACE)
    return next((name for tag, name in _OPENING.items() if end.endswith(tag)), "")


class PlainParser:
    """For answers that may call nothing: all of it is content."""

    is_transparent = True

    def push(self, text: str) -> Sequence[Piece]:
        return (Content(text),) if text else ()

    def finish(self) -> Sequence[Piece]:
        return ()


class ReasoningParser:
    """Thoughts are shown as they come, but for the whitespace next to their tags, which is dropped.

    Thoughts may follow each other directly, such as `<think>` and then `<scratch_pad>`. One that is never closed lasts
    to the end.
    """

    def __init__(self, answer: Parser, *, opened: str = "") -> None:
        """`answer` reads what is no thought. `opened`: the name of the tag that the prompt ended with, if it did."""
        self._answer = answer
        self._opened = opened
        """Of a thought that the prompt opened and the model has not written to; it may open it again."""
        self._closing: Splitter | None = None
        """Looks for the end of a thought, while one is open."""
        self._is_answering = False
        self._step: Callable[[ReasoningParser, str, int, list[Piece]], int] = ReasoningParser._read_start
        """Not bound: a parser that held itself would stay until the collector of cycles comes by."""
        self._has_thought = bool(opened)
        self._begun = ""
        """What may become an opening tag."""
        self._spaces: list[str] = []
        self._is_blank = True
        """Nothing of the thought has been shown."""

    @property
    def is_transparent(self) -> bool:
        return self._is_answering and self._answer.is_transparent

    def push(self, text: str) -> Sequence[Piece]:
        if self._is_answering:
            return self._answer.push(text)
        pieces: list[Piece] = []
        position, end = 0, len(text)
        while position < end:
            position = self._step(self, text, position, pieces)
        return pieces

    def finish(self) -> Sequence[Piece]:
        pieces: list[Piece] = []
        if self._closing is not None:
            self._think(self._closing.flush(), pieces)
        elif not self._is_answering:
            self._leave_start(pieces)
        return [*pieces, *self._answer.finish()]

    def _read_start(self, text: str, position: int, pieces: list[Piece]) -> int:
        """Where a thought may begin, or the answer."""
        character = text[position]
        if character in SPACE and not self._begun:
            self._spaces.append(character)
            return position + 1
        begun = self._begun + character
        if any(tag.startswith(begun) for tag in _OPENING):
            self._begun = begun
            if begun in _OPENING:
                self._open(_OPENING[begun])
            return position + 1
        self._leave_start(pieces)
        return position

    def _leave_start(self, pieces: list[Piece]) -> None:
        """No tag opens a thought here: it is one that the prompt opened, or the answer."""
        begun, opened = self._begun, self._opened
        if opened:
            self._open(opened)
            self._read_thought(begun, 0, pieces)
            return
        self._is_answering = True
        self._step = ReasoningParser._read_answer
        held = begun if self._has_thought else "".join(self._spaces) + begun
        if held:
            pieces += self._answer.push(held)

    def _open(self, name: str) -> None:
        self._closing = Splitter(_CLOSING[name])
        self._step = ReasoningParser._read_thought
        self._has_thought, self._is_blank = True, True
        self._opened = self._begun = ""
        self._spaces.clear()

    def _read_thought(self, text: str, position: int, pieces: list[Piece]) -> int:
        closing = self._closing
        assert closing is not None, "a thought is open"
        shown, position = closing.read(text, position)
        if shown:
            self._think(shown, pieces)
        if closing.tag is not None:
            self._closing = None
            self._step = ReasoningParser._read_start
            self._spaces.clear()
        return position

    def _read_answer(self, text: str, position: int, pieces: list[Piece]) -> int:
        pieces += self._answer.push(text[position:])
        return len(text)

    def _think(self, text: str, pieces: list[Piece]) -> None:
        if self._is_blank:
            text = text.lstrip(SPACE)
        shown = text.rstrip(SPACE)
        if shown:
            pieces.append(Thought("".join(self._spaces) + shown))
            self._spaces.clear()
            self._is_blank = False
        if not self._is_blank and len(shown) < len(text):
            self._spaces.append(text[len(shown) :])
