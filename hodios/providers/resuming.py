"""What it takes to go on in the middle of an answer, whoever does: readers have read what the client has, and nothing
that it has is said again. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from hodios.dialog.splitter import SPACE
from hodios.dialog.stop import StopMatcher, StopStrings
from hodios.errors import ProviderError
from hodios.events import Event, Reasoning, Text, ToolCall
from hodios.types import Beginning

_LEAST_OVERLAP = 16
"""Characters. Less than that may well come twice in an answer; the whole beginning may be shorter."""
_LEAST_WHOLE = 4


class Unseen:
    """Takes from the events of a whole answer, read anew from its start, what the client has: `Beginning`."""

    def __init__(self, beginning: Beginning) -> None:
        # Thoughts never begin with white space where they are read from text.
        self._reasoning = beginning.reasoning.lstrip(SPACE)
        self._text = beginning.text
        self._names = [call.name for call in beginning.calls]
        self._arguments = [call.arguments for call in beginning.calls]

    def of(self, events: Iterable[Event]) -> list[Event]:
        """What is new of them. Raises ProviderError where they contradict what the client has."""
        return [new for event in events if (new := self._new(event)) is not None]

    def _new(self, event: Event) -> Event | None:
        match event:
            case Text(is_echo=False) if self._text:
                new, self._text = _without(event.text, self._text)
                return replace(event, text=new) if new or event.logprobs else None
            case Reasoning() if self._reasoning:
                new, self._reasoning = _without(event.text, self._reasoning)
                return replace(event, text=new) if new else None
            case ToolCall() if event.number < len(self._names):
                return self._new_of_call(event)
        return event

    def _new_of_call(self, event: ToolCall) -> ToolCall | None:
        if event.name and event.name != self._names[event.number]:
            raise _contradiction()
        new, self._arguments[event.number] = _without(event.arguments, self._arguments[event.number])
        return replace(event, id="", name="", arguments=new) if new else None


def _without(text: str, known: str) -> tuple[str, str]:
    """What of `text` goes beyond `known`, and what of `known` is still to come."""
    if text.startswith(known):
        return text[len(known) :], ""
    if known.startswith(text):
        return "", known[len(text) :]
    raise _contradiction()


def _contradiction() -> ProviderError:
    return ProviderError("the answer could not be gone on with: it was begun in another way")


class ResumedMatcher(StopMatcher):
    """Looks for stop strings in an answer whose beginning was shown: one may have begun there, none has ended there."""

    __slots__ = ("num_shown",)

    def __init__(self, strings: StopStrings, shown: str, *, include_stop: bool = False) -> None:
        super().__init__(strings, include_stop=include_stop)
        self.num_shown = 0
        """Characters of what is held that the client has."""
        for character in shown[-max(strings.depths, default=0) :]:
            self.num_shown += 1 - len(super().push(character))
            if self.matched is not None:
                self.matched, self._state, self.num_shown = None, 0, 0

    def push(self, text: str) -> str:
        return self._unshown(super().push(text))

    def flush(self) -> str:
        return self._unshown(super().flush())

    def _unshown(self, text: str) -> str:
        num_shown = min(len(text), self.num_shown)
        self.num_shown -= num_shown
        return text[num_shown:]


class Overlap:
    """Some servers that are to go on with a text say the end of it again, or all of it, before they do.

    Only what cannot be meant is taken for that: all of the text, or so much of it that nobody says it twice, and never
    what repeats itself already, such as a line of dashes.
    """

    def __init__(self, before: str) -> None:
        self._before = before
        self._held = ""
        self.is_over = not before
        """Whether all that comes is new."""

    def push(self, text: str) -> str:
        """What is new, as soon as that is certain."""
        if self.is_over:
            return text
        self._held += text
        return "" if self._may_grow() else self.flush()

    def flush(self) -> str:
        """What is held, at the end."""
        new, self._held, self.is_over = self._held[self._num_repeated() :], "", True
        return new

    def _may_grow(self) -> bool:
        """Whether what is held is the beginning of something longer that stands at the end of the text."""
        place = self._before.find(self._held)
        num_characters = len(self._before) - place
        return place >= 0 and self._is_long(num_characters) and num_characters > len(self._held)

    def _num_repeated(self) -> int:
        for num_characters in range(min(len(self._before), len(self._held)), 0, -1):
            again = self._before[len(self._before) - num_characters :]
            if self._held.startswith(again):
                return num_characters if self._is_long(num_characters) and not _is_periodic(again) else 0
        return 0

    def _is_long(self, num_characters: int) -> bool:
        return num_characters >= (_LEAST_WHOLE if num_characters == len(self._before) else _LEAST_OVERLAP)


def _is_periodic(text: str) -> bool:
    """Whether it consists of repetitions of something shorter, the last of which may be cut off."""
    # The border of each beginning: the failure function of Knuth, Morris and Pratt.
    borders = [0] * len(text)
    border = 0
    for place in range(1, len(text)):
        while border and text[place] != text[border]:
            border = borders[border - 1]
        border += text[place] == text[border]
        borders[place] = border
    return bool(text) and 2 * borders[-1] >= len(text)
