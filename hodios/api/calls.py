"""Calls of tools in their public shapes: `tool_calls` and the older `function_call`, whole and in slices."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from hodios.events import ToolCall


def call_deltas(event: ToolCall, *, is_older: bool) -> list[dict[str, Any]]:
    """The `delta`s of one event. A call's first one has no arguments yet: not every client looks for them there."""
    deltas: list[dict[str, Any]] = []
    if event.id:
        function = {"name": event.name, "arguments": ""}
        whole = {"index": event.number, "id": event.id, "type": "function", "function": function}
        deltas.append({"function_call": function} if is_older else {"tool_calls": [whole]})
    if event.arguments:
        more = {"arguments": event.arguments}
        deltas.append(
            {"function_call": more} if is_older else {"tool_calls": [{"index": event.number, "function": more}]}
        )
    return deltas


class _Call(Struct):
    id: str
    name: str
    slices: list[str]

    def function(self) -> dict[str, str]:
        return {"name": self.name, "arguments": "".join(self.slices)}


class Calls:
    """The calls of one choice while they grow."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def add(self, event: ToolCall) -> None:
        if event.id:
            self._calls.append(_Call(event.id, event.name, []))
        self._calls[event.number].slices.append(event.arguments)

    def __bool__(self) -> bool:
        return bool(self._calls)

    def fields(self, *, is_older: bool) -> dict[str, Any]:
        """What a message has of them; the older form knows one call."""
        if is_older:
            return {"function_call": self._calls[0].function()}
        return {
            "tool_calls": [{"id": call.id, "type": "function", "function": call.function()} for call in self._calls]
        }
