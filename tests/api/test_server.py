"""The application behind real sockets: leaving clients, slow headers, shutting down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import pytest
from served_app import listening, serving

from hodios.api import server
from hodios.api.app import create_app
from hodios.config import Config
from hodios.events import Event, Finish, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.providers.echo import EchoProvider
from hodios.types import Request

KEY = "server-key-0123456789abcdef01234567"
STARTED = Started("scripted", "maker/model", "fp_0123456789ab", 3)
END = (Stopped(0, "stop"), Finish(usage=Usage(prompt_tokens=3, completion_tokens=1)))
Serve = Callable[..., AbstractAsyncContextManager[int]]


class Pause:
    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.is_left = asyncio.Event()

    async def __call__(self) -> None:
        self.is_reached.set()
        try:
            await self.may_go_on.wait()
        finally:
            self.is_left.set()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path, admin_key=KEY, first_event_timeout_s=0.01)


def request(path: str = "/v1/completions", **values: Any) -> bytes:
    body = json.dumps({"model": "model", "prompt": "x", **values}).encode()
    fields = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


async def read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    return await asyncio.wait_for(reader.readuntil(end), 10)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_client_that_hangs_up_stops_the_provider(
    scripted: Any, config: Config, stream: bool, is_early: bool
) -> None:
    pause = Pause()
    _, provider = scripted(*((pause,) if is_early else (STARTED, Text(0, "x"), pause)))
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(stream=stream))
        await asyncio.wait_for(pause.is_reached.wait(), 10)
        if stream and not is_early:
            await read_until(reader, b'"text":"x"')
        writer.transport.abort()
        await asyncio.wait_for(pause.is_left.wait(), 10)
    assert provider.num_open == 0


async def test_a_call_reaches_the_client_slice_by_slice(scripted: Any, config: Config) -> None:
    pause = Pause()
    first, *more = ToolCall(0, 0, "id-0", "f"), ToolCall(0, 0, arguments='{"a":'), ToolCall(0, 0, arguments="1}")
    end = (Stopped(0, "tool_calls"), END[1])
    _, provider = scripted(STARTED, Reasoning(0, "Hm."), first, more[0], pause, more[1], *end)
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = request(
        "/v1/chat/completions", messages=[{"role": "user", "content": "x"}], tools=tools, stream=True, prompt=None
    )
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked)
        shown = await read_until(reader, b'"function":{"arguments":"{\\"a\\":"}}]}')
        assert b'"delta":{"reasoning_content":"Hm."}' in shown
        assert b'"function":{"name":"f","arguments":""}' in shown
        pause.may_go_on.set()
        rest = await read_until(reader, b"data: [DONE]")
        assert b'"finish_reason":"tool_calls"' in rest
        writer.close()


class WatchedEcho(EchoProvider):
    """Says when a generation has ended."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.is_over = asyncio.Event()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(super().generate(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.is_over.set()


async def test_a_client_that_hangs_up_while_text_pours_out_stops_the_provider(config: Config) -> None:
    provider = WatchedEcho()
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(model="echo", stream=True, ignore_eos=True, max_tokens=100_000))
        await read_until(reader, b'"text":"x"')
        assert not provider.is_over.is_set()
        writer.transport.abort()
        await asyncio.wait_for(provider.is_over.wait(), 10)


async def test_a_slow_reader_slows_the_provider(config: Config) -> None:
    """What a client does not read is not generated ahead without end."""
    num_pauses = 0

    async def pause() -> None:
        nonlocal num_pauses
        num_pauses += 1
        await asyncio.sleep(0)

    provider = EchoProvider(pause=pause, pause_every=1)
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(request(model="echo", stream=True, ignore_eos=True, max_tokens=100_000))
        await read_until(reader, b"\r\n\r\n")
        before = -1
        while before != num_pauses:
            before = num_pauses
            await asyncio.sleep(0.1)
        assert num_pauses < 100_000
        writer.transport.abort()


async def test_silence_on_the_wire(scripted: Any, config: Config) -> None:
    pause = Pause()
    _, provider = scripted(pause, STARTED, Text(0, "x"), *END)
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(stream=True))
        head = await read_until(reader, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"server:" not in head
        await read_until(reader, b": hodios\n\n")
        pause.may_go_on.set()
        await read_until(reader, b"data: [DONE]\n\n")
        assert await read_until(reader, b"0\r\n\r\n")
        writer.close()


async def test_pipelined_requests_are_answered_in_order_and_die_with_the_connection(
    scripted: Any, config: Config
) -> None:
    pause = Pause()
    _, provider = scripted(STARTED, pause, *END)
    async with serving(create_app(config, [provider])) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request() + request())
        await asyncio.wait_for(pause.is_reached.wait(), 10)
        writer.transport.abort()
        await asyncio.wait_for(pause.is_left.wait(), 10)
        assert provider.num_open == 0


async def test_a_large_body_before_the_next_headers_is_no_large_header(scripted: Any, config: Config) -> None:
    _, provider = scripted(STARTED, *END)
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        second = request()
        writer.write(request(prompt="x" * 200_000) + second[:20])
        await read_until(reader, b'"usage"')
        writer.write(second[20:])
        await read_until(reader, b'"usage"')
        assert len(provider.requests) == 2
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * (server.MAX_HEADER_BYTES + 1),
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_bad_and_endless_headers_end_in_a_json_400(scripted: Any, config: Config, sent: bytes) -> None:
    _, provider = scripted()
    async with serving(create_app(config, [provider])) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head = await read_until(reader, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert json.loads(answer)["error"]["type"] == "invalid_request_error"
        writer.close()


async def test_slow_headers_end_in_a_closed_connection(scripted: Any, config: Config) -> None:
    pause = Pause()
    _, provider = scripted(STARTED, pause, *END)
    async with serving(create_app(config, [provider]), client_timeout_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        busy_reader, busy_writer = await asyncio.open_connection("127.0.0.1", port)
        busy_writer.write(request())
        await asyncio.wait_for(pause.is_reached.wait(), 10)
        await asyncio.sleep(0.1)
        pause.may_go_on.set()
        assert (await read_until(busy_reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        busy_writer.close()


async def test_connections_have_no_delay_of_their_own(scripted: Any, config: Config) -> None:
    _, provider = scripted()
    seen: list[int] = []

    class Looking(server.BoundedHttp):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            sock = transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    sock = listening()
    running = server.server_of(create_app(config, [provider]), drain_s=1)
    running.config.http = Looking
    task = asyncio.create_task(running.serve(sockets=[sock]))
    reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    await read_until(reader, b"\r\n\r\n")
    running.should_exit = True
    await asyncio.wait_for(task, 20)
    writer.close()
    sock.close()
    assert seen
    assert all(seen)


async def test_open_streams_finish_before_the_server_ends(scripted: Any, config: Config) -> None:
    pause = Pause()
    _, provider = scripted(STARTED, pause, Text(0, "late"), *END)
    sock = listening()
    running = server.server_of(create_app(config, [provider]), drain_s=20)
    is_ending, shut_down = asyncio.Event(), running.shutdown

    async def noticed(sockets: list[socket.socket] | None = None) -> None:
        is_ending.set()
        await shut_down(sockets)

    running.shutdown = noticed  # type: ignore[method-assign]
    task = asyncio.create_task(running.serve(sockets=[sock]))
    reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
    writer.write(request(stream=True))
    await asyncio.wait_for(pause.is_reached.wait(), 10)
    running.should_exit = True
    await asyncio.wait_for(is_ending.wait(), 10)
    assert provider.log == ["start"]
    pause.may_go_on.set()
    assert b'"late"' in await read_until(reader, b"data: [DONE]\n\n")
    await asyncio.wait_for(task, 20)
    assert provider.log == ["start", "aclose"]
    writer.close()
    with contextlib.suppress(OSError):
        sock.close()


async def test_the_drain_has_an_end(scripted: Any, config: Config) -> None:
    pause = Pause()
    _, provider = scripted(STARTED, pause)
    async with serving(create_app(config, [provider])) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(stream=True))
        await asyncio.wait_for(pause.is_reached.wait(), 10)
    assert pause.is_left.is_set()
    assert provider.log == ["start", "aclose"]
    writer.close()


PROGRAM = """
import sys, socket, uvloop
from pathlib import Path
from hodios.api.app import create_app
from hodios.api.server import serve
from hodios.config import Config
from hodios.providers.echo import EchoProvider
app = create_app(Config(home=Path("/"), admin_key=sys.argv[2]), [EchoProvider()])
uvloop.run(serve(app, socket.socket(fileno=int(sys.argv[1]))))
"""


async def test_a_process_serves_an_inherited_socket_until_sigterm() -> None:
    with listening() as sock:
        sock.set_inheritable(True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, str(sock.fileno()), KEY, pass_fds=[sock.fileno()]
        )
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(request(model="echo", stream=True, ignore_eos=True, max_tokens=16000))
        await asyncio.wait_for(reader.readuntil(b'"text":"x"'), 30)
        process.terminate()
        rest = await asyncio.wait_for(reader.read(), 30)
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert await asyncio.wait_for(process.wait(), 30) == 0
        writer.close()
