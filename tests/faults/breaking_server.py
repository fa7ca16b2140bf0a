"""A server of OpenAI's protocol that knows one answer by heart: it goes on with it wherever it was begun, and breaks
off its stream where it is told to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fake_server import END, Step, delta, opened

PIECE = 3
"""Characters of text in one event; no more than are taken for a token where nobody counts."""
PROMPT_TOKENS = 11
"""As the server counts."""


@dataclass(frozen=True)
class Break:
    """After so many events, and `rest` of one more, `steps` happen, as soon as the client has seen `text`."""

    num_events: int
    text: str
    rest: bytes
    steps: tuple[Step, ...]


@dataclass
class BreakingServer:
    """`wire` is what a `FakeServer` does. Text is followed by one call, which servers send natively: `call` has its
    name and the slices of its arguments."""

    text: str
    call: tuple[str, Sequence[str]] | None = None
    stop: Break | None = None
    begun: list[str] = field(default_factory=list)
    """What each request had of the text."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    is_seen: asyncio.Event = field(default_factory=asyncio.Event)
    """To be set when the client has all the text that comes before the break."""

    def wire(self, body: dict[str, Any]) -> Sequence[Step]:
        asked = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        begun = next(
            self.text[:end] for end in range(len(self.text), -1, -1) if asked.endswith(self.text[:end]) or not end
        )
        self.begun.append(begun)
        self.bodies.append(body)
        events = self.events(begun, is_raw="prompt" in body)
        if self.stop is not None:
            rest = [self.stop.rest] if self.stop.rest else []
            return [*opened(*events[: self.stop.num_events], *rest), self.is_seen.wait, *self.stop.steps]
        counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(events) - 1}
        usage = {"id": "x", "choices": [], "usage": counts | {"total_tokens": sum(counts.values())}}
        return [*opened(*events, usage, b"data: [DONE]\n\n"), END]

    def events(self, begun: str = "", *, is_raw: bool) -> list[dict[str, Any]]:
        """The last one has nothing but the end."""
        rest = self.text[len(begun) :]
        pieces = [rest[at : at + PIECE] for at in range(0, len(rest), PIECE)]
        if is_raw:
            return [*(raw(piece) for piece in pieces), raw("", "stop")]
        name, slices = self.call or ("", ())
        heads = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}]
        calls = [*(heads if self.call else ()), *({"index": 0, "function": {"arguments": each}} for each in slices)]
        said = [*(delta(content=piece) for piece in pieces), *(delta(tool_calls=[call]) for call in calls)]
        return [*said, delta(finish_reason="tool_calls" if self.call else "stop")]


def raw(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}


def written(event: dict[str, Any]) -> bytes:
    """With characters as they are, of which a break can leave a part."""
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
