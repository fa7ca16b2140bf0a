"""A server whose chats follow a script, and what a command says when it asks one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scripted_upstream import MODEL, Asked, Reply, ScriptedUpstream, document


@dataclass
class ScriptedServer:
    """A server with one model, which gives `replies` to chats in turn."""

    upstream: ScriptedUpstream
    replies: list[Reply] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/v1/models":
            return document({"data": [{"id": MODEL}]})
        assert self.replies, "the server was asked more often than it was told"
        return self.replies.pop(0)

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The bodies that came."""
        return [asked.body for asked in self.upstream.asked if asked.path == "/v1/chat/completions"]


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def panels(self) -> str:
        """What stands on stderr, without frames and line breaks."""
        return " ".join(self.err.translate(str.maketrans("", "", "╭╮╰╯│─")).split())
