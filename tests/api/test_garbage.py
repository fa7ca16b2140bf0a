"""What a request leaves behind: nothing that waits for the collector of cycles."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_app import serving

from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import EchoProvider

KEY = "garbage-key-0123456789abcdef0123456"
NUM = 20


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def ask(port: int, path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    fields = f"host: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(content)}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + content)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "what", "status"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Say it again"}]}, 200),
        ("/v1/completions", {"prompt": "Say it again"}, 200),
        ("/v1/completions", {"prompt": "Say it again", "temperature": 9}, 400),
        ("/v1/nowhere", {}, 404),
    ],
)
async def test_requests_leave_nothing_for_the_collector(
    tmp_path: Path, no_collector: None, path: str, what: dict[str, Any], status: int, stream: bool
) -> None:
    body = {"model": "echo", "stream": stream, **what}
    async with serving(create_app(Config(home=tmp_path, admin_key=KEY), [EchoProvider()])) as port:
        first = await ask(port, path, body)
        assert first.startswith(f"HTTP/1.1 {status} ".encode()), first
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(NUM):
                await ask(port, path, body)
            gc.collect()
            left = [each for each in gc.garbage if type(each).__module__.startswith("hodios")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert left == []
