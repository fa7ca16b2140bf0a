"""Clients that mean harm, on real sockets: what two programs could read in two ways, what is too much, and too slow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served_app import serving

from hodios.api import server
from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import EchoProvider

KEY = "attack-key-0123456789abcdef01234567"
BODY = b'{"model":"echo","prompt":"hi"}'
KEYED = b"host: x\r\nauthorization: Bearer " + KEY.encode() + b"\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\n" + KEYED
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture
def new_app(tmp_path: Path) -> Callable[[], Any]:
    config = Config(home=tmp_path, admin_key=KEY, max_body_bytes=2**20)
    return lambda: create_app(config, [EchoProvider(context_length=4096)])


@pytest.fixture
def app(new_app: Callable[[], Any]) -> Any:
    return new_app()


async def answer_to(port: int, sent: bytes) -> bytes:
    """All that comes until the server closes the connection, which it is expected to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def statuses(answer: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


HIDING = [
    POST + b"content-length: 30\r\ncontent-length: 30\r\n\r\n" + BODY,
    POST + b"content-length: 30\r\ncontent-length: 5\r\n\r\n" + BODY,
    POST + b"content-length: 30, 30\r\n\r\n" + BODY,
    POST + b"content-length: +30\r\n\r\n" + BODY,
    POST + b"content-length: -1\r\n\r\n" + BODY,
    POST + b"content-length: 99999999999999999999999\r\n\r\n",
    POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED,
    POST + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED.replace(b"\r\n", b"\n"),
    POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    POST + b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    LIVE.replace(b"\r\n", b"\n") + b"\n",
    LIVE + b"x-folded: a\r\n b\r\n\r\n",
    LIVE + b"x-space : a\r\n\r\n",
    LIVE + b"x-nul: a\0b\r\n\r\n",
    LIVE + b"x-return: a\rb\r\n\r\n",
]


async def test_no_request_can_hide_in_another_one(app: Any) -> None:
    async with serving(app) as port:
        assert {sent: statuses(await answer_to(port, sent)) for sent in HIDING} == {sent: [400] for sent in HIDING}


AMBIGUOUS = [
    b"GET /health/live HTTP/1.1\r\n\r\n",
    LIVE + b"host: y\r\n\r\n",
    POST + b"authorization: Bearer other\r\ncontent-length: 30\r\n\r\n" + BODY,
    POST + b"idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: 30\r\n\r\n" + BODY,
    b"GET /health/live\r\n\r\n",
    b"GET /health/live HTTP/2.0\r\nhost: x\r\n\r\n",
    b"CONNECT other.example:80 HTTP/1.1\r\nhost: x\r\n\r\n",
]


async def test_what_could_be_read_in_two_ways_is_refused(app: Any) -> None:
    async with serving(app) as port:
        assert {sent: statuses(await answer_to(port, sent)) for sent in AMBIGUOUS} == {
            sent: [400] for sent in AMBIGUOUS
        }


async def test_what_follows_a_body_is_no_header(app: Any) -> None:
    chunks = CHUNKED[:-2]
    trailers = b"authorization: Bearer " + KEY.encode() + b"\r\nx-request-id: smuggled\r\n\r\n"
    async with serving(app) as port:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
        answer = await answer_to(port, head + b"\r\n" + chunks + trailers)
        assert statuses(answer) == [401]
        assert b"smuggled" not in answer
        keyed = head.replace(b"host: x\r\n", KEYED)
        assert statuses(await answer_to(port, keyed + b"\r\n" + chunks + trailers)) == [200]


ENDLESS = [
    LIVE + b"x: y\r\n" * (server.MAX_HEADERS + 1) + b"\r\n",
    LIVE + b"x: " + b"y" * server.MAX_HEADER_BYTES + b"\r\n\r\n",
    LIVE.replace(b"live", b"live?" + b"y" * server.MAX_HEADER_BYTES) + b"\r\n",
    LIVE + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1000) for i in range(70)) + b"\r\n",
    POST + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 40_000,
    POST + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 200_000,
    POST + b"transfer-encoding: chunked\r\n\r\n1;" + b"y" * 200_000,
]


async def test_headers_trailers_and_chunk_extensions_have_an_end(app: Any) -> None:
    async with serving(app) as port:
        for sent in ENDLESS:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            told = b""
            # Who still sends when the server hangs up may never see why.
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(sent), 20_000):
                    writer.write(sent[start : start + 20_000])
                    await asyncio.sleep(0.01)
                told = await asyncio.wait_for(reader.read(), 20)
            assert statuses(told) in ([], [400]), sent[:100]
            writer.close()


async def test_many_small_chunks_are_a_body_like_any_other(app: Any) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    async with serving(app) as port:
        sent = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        assert statuses(await answer_to(port, sent)) == [200]


HELD_BACK = [
    POST + b"content-length: 1000\r\n\r\n" + BODY,
    POST + b"transfer-encoding: chunked\r\n\r\n5\r\nhel",
    POST + b"transfer-encoding: chunked\r\n\r\n",
]


async def test_a_body_that_does_not_come_ends_in_a_408(app: Any) -> None:
    async with serving(app, client_timeout_s=0.05) as port:
        for sent in HELD_BACK:
            answer = await answer_to(port, sent)
            assert statuses(answer) == [408]
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "timeout"


async def test_a_body_that_drips_ends_too(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and all of them would take for ever."""
    monkeypatch.setattr(server, "LEAST_BYTES_PER_S", 10_000)
    async with serving(app, client_timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 1000000\r\n\r\n")

        async def drip() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        told = b""
        # Who still sends when the server hangs up may never see why.
        with contextlib.suppress(ConnectionError):
            told = await asyncio.wait_for(reader.read(), 20)
        assert statuses(told) in ([], [408])
        dripping.cancel()
        writer.close()


async def test_a_refused_body_cannot_keep_the_connection(app: Any) -> None:
    """The answer is there before the body, of which the rest never comes."""
    async with serving(app, client_timeout_s=0.05) as port:
        sent = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
        assert statuses(await answer_to(port, sent))[0] == 401


async def test_who_does_not_read_on_loses_the_connection(app: Any) -> None:
    async with serving(app, client_timeout_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        asked = json.dumps(
            {"model": "echo", "prompt": "x", "stream": True, "n": 100, "max_tokens": 3000, "ignore_eos": True}
        ).encode()
        writer.write(POST + b"content-length: %d\r\n\r\n" % len(asked) + asked)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        while await num_open(port) > 1:
            pass
        told = b""
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), 20):
                told += data
        assert told
        assert b"[DONE]" not in told
        writer.close()


async def num_open(port: int) -> float:
    """Requests, this one included."""
    sent = b"GET /metrics HTTP/1.1\r\nconnection: close\r\n" + KEYED + b"\r\n"
    text = (await answer_to(port, sent)).decode()
    (line,) = (line for line in text.splitlines() if line.startswith("hodios_requests_in_progress"))
    return float(line.split()[-1])


async def test_idle_connections_are_closed(new_app: Callable[[], Any]) -> None:
    async with serving(new_app(), client_timeout_s=0.05) as port:
        assert await answer_to(port, b"") == b""
    async with serving(new_app(), keep_alive_s=0.05) as port:
        assert statuses(await answer_to(port, LIVE + b"\r\n")) == [200]


async def test_more_connections_than_allowed_are_told_to_come_later(app: Any) -> None:
    async with serving(app, max_connections=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(LIVE + b"\r\n")
            await asyncio.wait_for(reader.readuntil(b"}"), 20)
        answer = await answer_to(port, LIVE + b"\r\n")
        assert statuses(answer) == [503]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        held[0][1].close()
        await held[0][1].wait_closed()
        while statuses(await answer_to(port, LIVE + b"connection: close\r\n\r\n")) != [200]:
            pass
        held[1][1].close()


def test_there_are_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (1024, 2048)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    assert server.with_files(server.Bounds(max_connections=500)).max_connections == 500
    assert limits["now"] == (1024, 2048)
    assert server.with_files(server.Bounds(max_connections=1000)).max_connections == 1000
    assert limits["now"] == (1256, 2048)
    assert server.with_files(server.Bounds(max_connections=4096)).max_connections == 2048 - 256
    assert limits["now"] == (2048, 2048)


async def test_compressed_bodies_are_refused(app: Any) -> None:
    async with serving(app) as port:
        sent = POST + b"connection: close\r\ncontent-encoding: gzip\r\ncontent-length: 30\r\n\r\n" + BODY
        answer = await answer_to(port, sent)
        assert statuses(answer) == [400]
        assert b"content-encoding" in answer.partition(b"\r\n\r\n")[2]


async def test_an_offer_to_speak_otherwise_is_passed_over(app: Any) -> None:
    """Java's client makes it of every first request. The body is a body, however it arrives."""
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body, status in ((BODY, 200), (hidden, 400), (BODY, 200)):
            for is_split in (True, False):
                writer.write(POST + offer + b"content-length: %d\r\n\r\n" % len(body))
                if is_split:
                    await writer.drain()
                    await asyncio.sleep(0.05)
                writer.write(body)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert statuses(head) == [status]
                (length,) = (line[16:] for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
                assert b"hidden" not in await reader.readexactly(int(length))
        writer.write(LIVE + b"connection: upgrade, close\r\nupgrade: websocket\r\n\r\n")
        assert statuses(await asyncio.wait_for(reader.read(), 20)) == [200]
        writer.close()


ANSWERED = [
    LIVE + b"connection: close\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nconnection: close\r\nhost: x\r\n\r\n",
    POST + b"connection: close\r\ncontent-length: 30\r\n\r\n" + BODY,
    POST + b"connection: close\r\ncontent-length: 44\r\n\r\n" + BODY[:-1] + b',"stream":true}',
    b"nonsense\r\n\r\n",
]


async def test_browsers_are_told_what_an_answer_is_not(app: Any) -> None:
    async with serving(app) as port:
        for sent in ANSWERED:
            head = (await answer_to(port, sent)).partition(b"\r\n\r\n")[0].decode()
            fields = [line.partition(": ")[::2] for line in head.lower().split("\r\n")[1:]]
            headers = dict(fields)
            assert len(headers) == len(fields)
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert "server" not in headers
