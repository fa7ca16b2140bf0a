"""The same over real sockets: servers that break HTTP, server-sent events and JSON, in front of real clients.

A fixed sample of requests for each fault, a thousand under `--full`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_server import (
    CLOSE,
    HANG,
    RESET,
    FakeServer,
    Step,
    Wire,
    answer,
    delta,
    head,
    opened,
    serving,
    text_for,
    well,
)

from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel
from hodios.router_settings import RouterSettings
from hodios.types import Price

KEY = "test-key-0123456789abcdef0123456789"
MODEL = "maker/model"
ERROR = {"error": {"message": "something is wrong", "type": "server_error"}}
STREAM_HEAD = head("200 OK", "text/event-stream", "transfer-encoding: chunked")
ROLE = delta(role="assistant", content="")
PAGE = b"<html><body><h1>Bad gateway</h1></body></html>"


def always(*steps: Step) -> Wire:
    return lambda body: steps


def dripping(body: dict[str, Any]) -> Sequence[Step]:
    """As it should be, a few bytes at a time."""
    whole = b"".join(well(body))
    drops: list[Step] = []
    for at in range(0, len(whole), 97):
        drops += [whole[at : at + 97], 0.001]
    return drops


def lying(body: dict[str, Any]) -> Sequence[Step]:
    return well(body, {"prompt_tokens": 10**15, "completion_tokens": -5, "total_tokens": None})


FAULTS: dict[str, Wire] = {
    **{
        f"status {status[:3]}": always(*answer(status, ERROR))
        for status in ("400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "422 Unprocessable")
    },
    **{
        f"status {status[:3]}": always(*answer(status, ERROR))
        for status in ("500 Error", "502 Bad Gateway", "503 Unavailable", "504 Timeout", "529 Overloaded")
    },
    "status 429": always(*answer("429 Too Many Requests", ERROR, "retry-after: 2")),
    "status 503 with a time to wait": always(*answer("503 Unavailable", ERROR, "retry-after: 1")),
    "a redirect": always(*answer("302 Found", b"", "location: http://127.0.0.1:1/")),
    "a page for people": always(head("502 Bad Gateway", "text/html", f"content-length: {len(PAGE)}"), PAGE),
    "an error in the body of a 200": always(*answer("200 OK", ERROR)),
    "an error in the stream": always(*opened(ROLE, ERROR), b"0\r\n\r\n"),
    "a reset before the head": always(RESET),
    "an end before the head": always(CLOSE),
    "a reset in the head": always(b"HTTP/1.1 200 OK\r\ncontent-ty", RESET),
    "a reset after the head": always(STREAM_HEAD, RESET),
    "a reset after the role": always(*opened(ROLE), RESET),
    "an end after the role": always(*opened(ROLE), CLOSE),
    "silence before the head": always(HANG),
    "silence in the head": always(b"HTTP/1.1 200 OK\r\n", HANG),
    "silence after the head": always(STREAM_HEAD, HANG),
    "silence after the role": always(*opened(ROLE), HANG),
    "comments for ever": always(STREAM_HEAD, *[b"2\r\n:\n\r\n", 0.02] * 15, HANG),
    "no HTTP": always(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", CLOSE),
    "a broken chunk": always(STREAM_HEAD, b"zz\r\nnot a length\r\n", CLOSE),
    "a shorter body than promised": always(head("200 OK", "application/json", "content-length: 999"), b"{}", CLOSE),
    "an empty 200": always(head("200 OK", "application/json", "content-length: 0")),
    "an empty stream": always(STREAM_HEAD, b"0\r\n\r\n"),
    "nothing but the end": always(*opened(b"data: [DONE]\n\n"), b"0\r\n\r\n"),
    "no JSON": always(*opened(b"data: {nonsense\n\n"), b"0\r\n\r\n"),
    "half of JSON": always(*answer("200 OK", b'{"choices":[{"message":{"content":"the ans')),
    "JSON of another kind": always(*opened([1, 2], "x", None), b"0\r\n\r\n"),
    "choices that are none": always(*opened({"choices": "x"}, {"choices": [1]}), b"0\r\n\r\n"),
    "a delta that is none": always(*opened({"choices": [{"index": 0, "delta": [1]}]}), b"0\r\n\r\n"),
    "content that is no text": always(*opened(delta(content={"a": 1}), delta(content=5)), b"0\r\n\r\n"),
    "a choice nobody asked for": always(*opened({"choices": [{"index": 7, "delta": {"content": "x"}}]}), CLOSE),
    "an index that is none": always(*opened({"choices": [{"index": "x", "delta": {"content": None}}]}), CLOSE),
    "a huge line": always(STREAM_HEAD, b"1100000\r\ndata: " + b"x" * (17 * 2**20 - 6), CLOSE),
    "bytes that are no text": always(*opened(b"data: \xff\xfe\xfd\n\n"), b"0\r\n\r\n"),
    "slow drip": dripping,
    "lying usage": lying,
}


@asynccontextmanager
async def service(wires: Sequence[Wire | None], home: Path, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of Hodios in front of servers, each dearer than the one before; None: a port where nobody listens."""
    async with AsyncExitStack() as stack:
        servers = [None if wire is None else await stack.enter_async_context(serving(wire)) for wire in wires]
        providers = [RemoteProvider(_remote(at, server, wires[at]), None) for at, server in enumerate(servers)]
        for provider in providers:
            await provider.start()
            stack.push_async_callback(provider.aclose)
        config = Config(home=home, admin_key=KEY, router=RouterSettings(**{"policy": "price", **settings}))
        transport = httpx2.ASGITransport(create_app(config, providers))
        headers = {"authorization": f"Bearer {KEY}"}
        yield await stack.enter_async_context(
            httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers, timeout=600)
        )


def _remote(at: int, server: FakeServer | None, wire: Wire | None) -> Remote:
    price = Price(prompt=10**9 * (at + 1), completion=10**9 * (at + 1))
    patience_s = 30.0 if wire is well else 0.15
    return Remote(
        name=f"p{at}",
        base_url=server.url if server else "http://127.0.0.1:1/v1",
        first_byte_timeout_s=patience_s,
        silence_timeout_s=patience_s,
        models=(RemoteModel(id=MODEL, context_length=4096, price=price),),
    )


async def ask(http: httpx2.AsyncClient, number: int, is_streamed: bool) -> tuple[str, str]:
    """(what was answered, what should have been)"""
    messages = [{"role": "user", "content": f"What about number {number}?"}]
    body = {"model": MODEL, "messages": messages, "stream": is_streamed}
    expected = text_for(body)
    response = await http.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        return response.text, expected
    if not is_streamed:
        return response.json()["choices"][0]["message"]["content"], expected
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    if any("error" in chunk for chunk in chunks):
        return events[-2], expected
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks), expected


async def success(http: httpx2.AsyncClient, num_requests: int, num_at_once: int, is_streamed: bool) -> list[str]:
    """Asks so often; what went wrong."""
    trouble: list[str] = []
    left = iter(range(num_requests))

    async def work() -> None:
        for number in left:
            found, expected = await ask(http, number, is_streamed)
            if found != expected:
                trouble.append(f"{number}: {found!r}")

    await asyncio.gather(*(work() for _ in range(num_at_once)))
    return trouble


async def check(wire: Wire | None, home: Path, num_requests: int, is_streamed: bool) -> None:
    """Two that are bad and cheap, one that is well."""
    async with service([wire, wire, well], home) as http:
        trouble = await success(http, num_requests, 8, is_streamed)
    assert len(trouble) <= num_requests / 1000, trouble[:5]


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("fault", [*FAULTS, "nobody listens"])
async def test_a_sample_of_requests(fault: str, is_streamed: bool, tmp_path: Path) -> None:
    await check(FAULTS.get(fault), tmp_path, 16, is_streamed)


@pytest.mark.full
@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("fault", [*FAULTS, "nobody listens"])
async def test_a_thousand_requests(fault: str, is_streamed: bool, tmp_path: Path) -> None:
    await check(FAULTS.get(fault), tmp_path, 1000, is_streamed)


async def test_a_client_of_a_stream_gets_the_head_with_the_first_text(tmp_path: Path) -> None:
    async with service([FAULTS["a reset after the role"], well], tmp_path) as http:
        response = await http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True},
        )
    assert (response.headers["x-hodios-provider"], response.headers["x-hodios-attempts"]) == ("p1", "2")
    assert response.text.count('"role":"assistant"') == 1


async def test_a_break_after_the_first_text_is_told(tmp_path: Path) -> None:
    broken = always(*opened(ROLE, delta(content="the ans")), RESET)
    async with service([broken, well], tmp_path) as http:
        found, _ = await ask(http, 1, True)
    assert json.loads(found)["error"]["type"] == "provider_error"
