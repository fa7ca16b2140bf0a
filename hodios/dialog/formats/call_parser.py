"""What the parsers of all formats share: text outside of calls, what may be a call and is held, and calls that end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from hodios.dialog.formats.call_readers import CallReader
from hodios.dialog.pieces import Content, LeftOut, Piece
from hodios.dialog.splitter import SPACE, Splitter, Tags


class CallParser(ABC):
    """Reads one answer step by step: each step is a method that reads from a position on and returns where it stopped.

    Whitespace between a text and a call belongs to the markup: it is held until more text comes, and dropped before a
    call. What turns out to be no call is given back as it was, and is not read a second time: a call that stands in a
    string of a broken one is no call, and the work stays a step a character.
    """

    is_transparent = False

    def __init__(self, opening: Tags, closing: Tags, *, is_trusted: bool) -> None:
        """`opening`: what begins calls; `closing`: the same, and what may end the last one."""
        self._outside = self._splitter = Splitter(opening)
        self._opening, self._closing = opening, closing
        self._is_trusted = is_trusted
        self._step: Callable[[str, int], int] = self._read_text
        self._pieces: list[Piece] = []
        self._num_calls = 0
        """Calls of which something has been shown."""
        self._is_right_after_call = False
        """Its closing tag may come, and no text has come before that."""
        self._spaces: list[str] = []
        self._held: list[str] = []
        self._reader: CallReader | None = None
        self._close = ""
        """The tag that ends the call being read; "" where nothing does."""
        self._expected: Sequence[str] = ()
        self._begun = ""
        """What has been read of an expected tag."""
        self._then: Callable[[str], None] = self._reach

    def push(self, text: str) -> Sequence[Piece]:
        pieces = self._pieces = []
        position, end = 0, len(text)
        while position < end:
            position = self._step(text, position)
        return pieces

    def finish(self) -> Sequence[Piece]:
        pieces = self._pieces = []
        self._end_text(self._splitter.flush())
        self._hold(self._begun)
        held = "".join(self._held)
        if not self._num_calls:
            self._say(held)
        elif held.strip(SPACE):
            pieces.append(LeftOut(held, "truncated_call"))
        if self._spaces and not self._num_calls:
            pieces.append(Content("".join(self._spaces)))
        return pieces

    def _end_text(self, rest: str) -> None:
        """`rest` may have become a tag. After calls, more than its first character is taken for a call's; all of it
        where a grammar allows nothing else."""
        if self._is_right_after_call and self._close.startswith(rest):
            return
        if self._num_calls and (self._is_trusted or len(rest) > 1) and rest and self._opening.begin_with(rest):
            self._hold(rest)
        else:
            self._say(rest)

    @abstractmethod
    def _reach(self, tag: str) -> None:
        """A tag that begins a call has been read: sets the next step."""

    @abstractmethod
    def _end_call(self) -> None:
        """A call is whole: sets the next step."""

    def _read_text(self, text: str, position: int) -> int:
        splitter = self._splitter
        shown, position = splitter.read(text, position)
        if shown:
            self._say(shown)
        if splitter.tag is not None:
            self._splitter, self._is_right_after_call = self._outside, False
            if splitter is not self._outside and splitter.tag == self._close:
                self._spaces.clear()
            else:
                self._held.append(splitter.tag)
                self._reach(splitter.tag)
        return position

    def _say(self, text: str) -> None:
        """Text outside of calls."""
        shown = text.rstrip(SPACE)
        if not shown:
            if text:
                self._spaces.append(text)
            return
        num_shown = len(shown)
        if self._spaces:
            shown = "".join(self._spaces) + shown
            self._spaces.clear()
        if num_shown < len(text):
            self._spaces.append(text[num_shown:])
        self._is_right_after_call = False
        self._pieces.append(LeftOut(shown, "after_calls") if self._num_calls else Content(shown))

    def _hold(self, text: str) -> None:
        if text:
            self._held.append(text)

    def _give_back(self) -> None:
        """What is held is no call, and text is read from here on."""
        held = "".join(self._held)
        self._held.clear()
        self._reader = None
        self._step = self._read_text
        self._say(held)

    def _begin(self, reader: CallReader, close: str = "") -> None:
        self._reader = reader
        self._close = close
        self._step = self._read_call

    def _read_call(self, text: str, position: int) -> int:
        reader = self._reader
        assert reader is not None, "this step follows _begin"
        start, was_shown = position, reader.is_shown
        position = reader.read(text, start, self._pieces)
        if not reader.is_shown:
            self._hold(text[start:position])
        elif not was_shown:
            self._commit()
        if reader.is_whole:
            self._end_call()
        elif reader.is_broken:
            if self._close and reader.closers:
                self._expect((self._close,), self._mend)
            else:
                self._give_back()
        return position

    def _expect_close(self, close: str) -> None:
        """After a whole call: text is read on, but the closing tag in it is markup."""
        self._close = close
        self._splitter = Splitter(self._closing)
        self._is_right_after_call = True
        self._step = self._read_text

    def _commit(self) -> None:
        """A call is shown: what was held is its markup."""
        self._held.clear()
        self._spaces.clear()
        self._num_calls += 1

    def _expect(self, tags: Sequence[str], then: Callable[[str], None]) -> None:
        """One of `tags` must stand here, or what is held is no call."""
        self._expected, self._then = tags, then
        self._step = self._read_expected

    def _read_expected(self, text: str, position: int) -> int:
        begun = self._begun + text[position]
        if begun in self._expected:
            self._begun = ""
            self._hold(begun)
            self._then(begun)
            return position + 1
        if any(tag.startswith(begun) for tag in self._expected):
            self._begun = begun
            return position + 1
        begun, self._begun = self._begun, ""
        self._give_back()
        self._read_text(begun, 0)
        return position

    def _mend(self, tag: str) -> None:
        """The closing tag stands in place of a call's last brackets."""
        reader = self._reader
        assert reader is not None, "a call is being read"
        was_shown = reader.is_shown
        reader.read(reader.closers, 0, self._pieces)
        if not reader.is_whole:
            self._give_back()
            return
        if not was_shown:
            self._commit()
        self._held.clear()
        self._splitter, self._is_right_after_call = self._outside, False
        self._step = self._read_text
