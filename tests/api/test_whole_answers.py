"""Whole answers go out in one write where nothing speaks against it, and are the same where something does."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from served_app import serving

from hodios.api import exchange
from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import EchoProvider

KEY = "server-key-0123456789abcdef01234567"
BODY = json.dumps({"model": "echo", "prompt": "one two", "max_tokens": 5}).encode()


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app(Config(home=tmp_path, admin_key=KEY), [EchoProvider()])


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each answer was taken at once."""
    taken: list[bool] = []
    sent_whole = exchange.Exchange._sent_whole

    def noted(self: exchange.Exchange, *arguments: Any) -> bool:
        taken.append(sent_whole(self, *arguments))
        return taken[-1]

    monkeypatch.setattr(exchange.Exchange, "_sent_whole", noted)
    return taken


def request(version: str = "1.1", more: str = "") -> bytes:
    fields = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(BODY)}\r\n{more}"
    return f"POST /v1/completions HTTP/{version}\r\n{fields}\r\n".encode() + BODY


async def answers(port: int, sent: bytes) -> bytes:
    """All that comes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    told = await asyncio.wait_for(reader.read(-1), 20)
    writer.close()
    return told


def taken_apart(told: bytes) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    head, _, body = told.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return int(status.split()[1]), headers, json.loads(body)


async def test_it_is_the_same_in_one_write_and_in_two(app: Any, writes: list[bool]) -> None:
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        (length,) = re.findall(rb"content-length: (\d+)", head)
        once = taken_apart(head + await reader.readexactly(int(length)))
        writer.close()
        twice = taken_apart(await answers(port, request(more="connection: close\r\n")))
        older = taken_apart(await answers(port, request("1.0")))
    assert writes == [True, False, False]
    for status, headers, body in (twice, older):
        assert headers.pop(b"connection") == b"close"
        assert status == once[0] == 200
        assert headers.keys() == once[1].keys() >= {b"date", b"content-type", b"content-length", b"x-request-id"}
        assert body["choices"] == once[2]["choices"]


async def test_requests_behind_one_another_are_answered_in_order(app: Any, writes: list[bool]) -> None:
    async with serving(app) as port:
        ids = [f"x-request-id: n{number}\r\n" for number in range(3)]
        told = await answers(port, b"".join(map(request, ["1.1"] * 3, [*ids[:2], ids[2] + "connection: close\r\n"])))
    assert re.findall(rb"x-request-id: (\w+)", told) == [b"n0", b"n1", b"n2"]
    assert told.count(b"HTTP/1.1 200") == told.count(b'"text_completion"') == 3
    assert writes == [True, True, False]


async def test_who_waits_to_be_told_to_go_on_is(app: Any, writes: list[bool]) -> None:
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head, body = request(more="expect: 100-continue\r\n").split(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert writes == [True]


async def test_no_header_has_a_line_of_its_own(
    app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that is told can make two answers of one."""
    head = exchange.Exchange._head
    monkeypatch.setattr(
        exchange.Exchange, "_head", lambda *each: [*head(*each), (b"x-more", b"1\r\ncontent-length: 0")]
    )
    async with serving(app) as port:
        told = await answers(port, request())
    assert b"x-more" not in told
    assert "a line of its own" in caplog.text
