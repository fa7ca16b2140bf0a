"""A server of OpenAI's protocol that breaks it on the wire, byte by byte, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"number (\w+)")


class _Mark:
    def __init__(self, name: str) -> None:
        self.name = name


RESET = _Mark("the connection is reset")
CLOSE = _Mark("the connection is closed")
HANG = _Mark("nothing more comes until the client goes away")
Step = bytes | _Mark | float | Callable[[], Awaitable[object]]
"""What is written, what happens to the connection, how many seconds pass, or what is waited for."""
Wire = Callable[[dict[str, Any]], Sequence[Step]]
"""The body of a request → what happens on the wire."""


END = b"0\r\n\r\n"
"""Of a body in chunks."""


def head(status: str = "200 OK", kind: str = "text/event-stream", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def streamed(*data: Any) -> list[bytes]:
    """Each of the data as an event, in a chunk of its own; JSON unless it is bytes already."""
    return [_chunk(item) for item in data] + [END]


def _chunk(item: Any) -> bytes:
    event = item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def opened(*data: Any) -> list[bytes]:
    """The head of a stream and its first events; more may follow."""
    return [head("200 OK", "text/event-stream", "transfer-encoding: chunked"), *streamed(*data)[:-1]]


def answer(status: str, value: Any, *more: str) -> list[bytes]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [head(status, "application/json", f"content-length: {len(body)}", *more), body]


def text_for(body: dict[str, Any]) -> str:
    """What the right answer to a request is."""
    found = _NUMBER.search(body["messages"][-1]["content"])
    return f"the answer to {found.group(1) if found else '?'} is yes"


def delta(**values: Any) -> dict[str, Any]:
    finish = values.pop("finish_reason", None)
    return {"id": "x", "choices": [{"index": 0, "delta": values, "finish_reason": finish}]}


def well(body: dict[str, Any], usage: dict[str, Any] | None = None) -> list[bytes]:
    """As it should be."""
    text = text_for(body)
    counts = usage or {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return answer("200 OK", {"id": "x", "choices": [choice], "usage": counts})
    pieces = [delta(content=text[at : at + 7]) for at in range(0, len(text), 7)]
    ends = (delta(finish_reason="stop"), {"id": "x", "choices": [], "usage": counts}, b"data: [DONE]\n\n")
    stream = streamed(delta(role="assistant", content=""), *pieces, *ends)
    return [head("200 OK", "text/event-stream", "transfer-encoding: chunked"), b"".join(stream)]


class FakeServer:
    """Does what `wire` says. `num_asked` counts requests whose body came whole."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.url = ""
        self.num_asked = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection is still open."""
        header = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(header)
        body = await reader.readexactly(int(found.group(1))) if found else b"{}"
        self.num_asked += 1
        for step in self.wire(json.loads(body)):
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif callable(step):
                await step()
            elif step is HANG:
                await reader.read()
                return False
            else:
                if step is RESET:
                    # Without lingering there is no orderly end.
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                return False
        return True

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving(wire: Wire) -> AsyncIterator[FakeServer]:
    fake = FakeServer(wire)
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield fake
    finally:
        server.close()
        await fake.stop()
