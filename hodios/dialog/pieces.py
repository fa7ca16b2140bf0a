"""What a model's text is made of once it is read: content, thoughts, and calls of tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct


class Content(Struct, frozen=True, tag=True):
    """More of the answer itself."""

    text: str


class Thought(Struct, frozen=True, tag=True):
    """More of what the model wrote down before it answered."""

    text: str


class CallName(Struct, frozen=True, tag=True):
    """A call begins. `number` counts the calls of one answer from 0."""

    number: int
    name: str
    id: str = ""
    """As the model wrote it; "" where its format has none, and the reader makes one."""


class CallArguments(Struct, frozen=True, tag=True):
    """The next slice of a call's arguments; the slices of one call joined are the text of a JSON object."""

    number: int
    text: str


class LeftOut(Struct, frozen=True, tag=True):
    """Text that is shown nowhere, and why: it followed the calls, or it is the beginning of one that never ended."""

    text: str
    reason: Literal["after_calls", "truncated_call"]


Piece = Content | Thought | CallName | CallArguments | LeftOut


class Parser(Protocol):
    """Reads one answer in any chunks; what comes out, joined, does not depend on how it was cut."""

    @property
    def is_transparent(self) -> bool:
        """Whether all text from here on is content as it is, so that nobody need ask."""
        ...

    def push(self, text: str) -> Sequence[Piece]: ...

    def finish(self) -> Sequence[Piece]:
        """What was held back. The answer is over: nothing may be pushed after it."""
        ...
