"""One choice of raw text, read: content, thoughts and calls of tools become events of their own.

Sans-IO, the same for the engine on this machine and for providers that only write text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Parser, Piece, Thought
from hodios.events import Noticed, Reasoning, Stopped, Text, ToolCall
from hodios.types import Warning

Read = Text | Reasoning | ToolCall | Noticed | Stopped

_LEFT_OUT = {
    "after_calls": "the model went on after its tool calls",
    "truncated_call": "a tool call broke off",
}


class ChoiceReader:
    """Reads the `Text` events of one choice in order, then its `Stopped`. Log-probabilities stay with the text."""

    def __init__(self, parser: Parser, *, new_id: Callable[[int], str], has_reasoning: bool = True) -> None:
        """`new_id` makes the id of a call that the model gave none; without `has_reasoning` thoughts are dropped."""
        self._parser = parser
        self._new_id = new_id
        self._has_reasoning = has_reasoning
        self._calls: list[tuple[str, list[str]]] = []
        """Those that were sent: their names, and the slices of their arguments."""
        self._left_out: dict[str, int] = {}
        self._num_tokens = 0
        self.reasoning_tokens = 0
        """Tokens that brought nothing but thoughts."""

    @property
    def is_transparent(self) -> bool:
        """Whether all text from here on is content as it is."""
        return self._parser.is_transparent

    def push(self, event: Text) -> list[Read]:
        pieces = self._parser.push(event.text)
        if pieces and all(isinstance(piece, Thought) for piece in pieces):
            self.reasoning_tokens += max(0, event.completion_tokens - self._num_tokens)
        self._num_tokens = event.completion_tokens
        return self._events(event, pieces)

    def stop(self, event: Stopped) -> list[Read]:
        """What was held back, what is to be said of it, and the end: `tool_calls` where calls were sent and all of them
        are whole."""
        last = Text(event.index, "", (), self._num_tokens)
        events = self._events(last, self._parser.finish())
        for reason, num_characters in self._left_out.items():
            message = f"{num_characters} characters of the answer are left out: {_LEFT_OUT[reason]}"
            events.append(Noticed(Warning("tools", f"left_out_{reason}", message)))
        truncated = [name for name, slices in self._calls if not _is_whole("".join(slices))]
        for name in truncated:
            message = f"the answer broke off within the call of {name!r}: its arguments are no whole JSON"
            events.append(Noticed(Warning("tools", "truncated_call", message)))
        if self._calls and not truncated and event.finish_reason in ("stop", "length"):
            event = Stopped(event.index, "tool_calls")
        events.append(event)
        return events

    def _events(self, source: Text, pieces: Sequence[Piece]) -> list[Read]:
        index, num_tokens = source.index, source.completion_tokens
        events: list[Read] = []
        if source.logprobs:
            events.append(Text(index, "", source.logprobs, num_tokens))
        for piece in pieces:
            match piece:
                case Content(text):
                    self._add_text(events, Text(index, text, (), num_tokens))
                case Thought(text):
                    if self._has_reasoning:
                        events.append(Reasoning(index, text, num_tokens))
                case CallName(number, name, id):
                    self._calls.append((name, []))
                    events.append(ToolCall(index, number, id or self._new_id(number), name, "", num_tokens))
                case CallArguments(number, text):
                    self._calls[number][1].append(text)
                    events.append(ToolCall(index, number, "", "", text, num_tokens))
                case LeftOut(text, reason):
                    self._left_out[reason] = self._left_out.get(reason, 0) + len(text)
        return events

    @staticmethod
    def _add_text(events: list[Read], event: Text) -> None:
        """Joined with the event that has the log-probabilities, where that is the one before."""
        last = events[-1] if events else None
        if isinstance(last, Text):
            events[-1] = replace(last, text=last.text + event.text)
        else:
            events.append(event)


def _is_whole(arguments: str) -> bool:
    """Only an answer that was cut off can end within a call."""
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True
