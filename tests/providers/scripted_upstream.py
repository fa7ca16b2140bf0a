"""A server that others could run, over real HTTP: it keeps what it was asked, and answers byte for byte as it is told.

And what tests ask of the provider in front of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from unrouted import unrouted

from hodios.events import Event, Noticed, Text, ToolCall
from hodios.gateway import Gateway
from hodios.types import Request, Tool

KEY = "sk-acme-0123456789abcdefghij"
MODEL = "acme/model"
DONE = b"data: [DONE]\n\n"
CUT = object()
"""In the place of a chunk: the connection is cut off, without an end."""
HANG = object()
"""In the place of a chunk: nothing more comes until the client goes away."""


def event(value: object) -> bytes:
    """In UTF-8; halves of characters, which that has no bytes for, are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(value)
    return b"data: " + text.encode() + b"\n\n"


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a streamed chat."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def piece(text: str, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed completion."""
    return {"id": "x", "choices": [{"index": index, "text": text, "finish_reason": finish, **more}]}


def usage(prompt: int = 7, completion: int = 3, **more: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"id": "x", "choices": [], "usage": counts | more}


@dataclass
class Reply:
    """What to answer. Each of `parts` is written on its own."""

    parts: Sequence[Any] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "text/event-stream"
    before: Callable[[], Any] | None = None
    """Awaited before the head is sent."""
    is_head_missing: bool = False
    """Whether the connection is closed instead of an answer."""


def stream(*values: Any, done: bool = True) -> Reply:
    """Each value as an event."""
    return Reply([event(value) for value in values] + ([DONE] if done else []))


def said(text: str, finish: str = "stop", **more: Any) -> Reply:
    """A streamed chat whose answer is `text`, in words."""
    words = [text[at : at + 5] for at in range(0, len(text), 5)]
    deltas = [chunk(role="assistant", content=""), *(chunk(content=word) for word in words)]
    return stream(*deltas, chunk(finish=finish, **more), usage())


def called(*calls: tuple[str, Any], text: str = "") -> Reply:
    """A streamed chat that calls tools natively; arguments are JSON values, or text as it is."""
    deltas = [chunk(content=text)] if text else []
    for number, (name, arguments) in enumerate(calls):
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function = {"name": name, "arguments": written}
        deltas.append(chunk(tool_calls=[{"index": number, "id": f"id{number}", "function": function}]))
    return stream(*deltas, chunk(finish="tool_calls"), usage())


def document(value: object, status: int = 200, **headers: str) -> Reply:
    return Reply([json.dumps(value).encode()], status, dict(headers), "application/json")


@dataclass
class Asked:
    """One request that came."""

    path: str
    headers: dict[str, str]
    raw: bytes
    peer: object = None
    """The address that the connection came from."""

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body


Script = Callable[[Asked], Reply]


@dataclass
class ScriptedUpstream:
    """`replies` are given in turn; without any, `script` answers."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    script: Script | None = None
    asked: list[Asked] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left a reply that hangs."""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.asked if asked.raw]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.path, dict(request.headers), await request.read(), _peer(request))
        self.asked.append(asked)
        assert self.replies or self.script, "the upstream was asked more often than it was told"
        reply = self.replies.pop(0) if self.replies else self.script(asked)  # type: ignore[misc]
        if reply.before is not None:
            await reply.before()
        if reply.is_head_missing:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_type = reply.content_type
        await response.prepare(request)
        for part in reply.parts:
            if part is CUT:
                assert request.transport is not None
                request.transport.abort()
                return response
            if part is HANG:
                await self._hang()
                return response
            await response.write(part)
        await response.write_eof()
        return response

    async def _hang(self) -> None:
        """The server cancels this when the client goes away."""
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()


def _peer(request: web.Request) -> object:
    return None if request.transport is None else request.transport.get_extra_info("peername")


@asynccontextmanager
async def serving(upstream: ScriptedUpstream) -> AsyncIterator[ScriptedUpstream]:
    app = web.Application(client_max_size=2**28)
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        await runner.cleanup()


WEATHER = Tool(
    "get_weather",
    "The weather in a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool("clock", "The time of day.")


def chat(text: str = "Hi", **values: Any) -> Request:
    return Request(**{"id": "chat-1", "model": MODEL, "messages": ({"role": "user", "content": text},), **values})


def completion(*prompts: Any, **values: Any) -> Request:
    return Request(**{"id": "cmpl-1", "model": MODEL, "prompts": prompts or ("Once",), **values})


async def ask(gateway: Gateway, request: Request) -> list[Event]:
    async with aclosing(gateway.generate(request)) as events:
        return unrouted([event async for event in events])


def text_of(events: Sequence[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def calls_of(events: Sequence[Event], index: int = 0) -> list[tuple[str, str]]:
    """(name, arguments)"""
    calls: list[list[str]] = []
    for event in events:
        if isinstance(event, ToolCall) and event.index == index:
            if event.name:
                calls.append([event.name, ""])
            calls[event.number][1] += event.arguments
    return [(name, arguments) for name, arguments in calls]


def codes(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.warning.param, event.warning.code) for event in events if isinstance(event, Noticed)]
