"""Servers of others that mean harm: what they send has an end, and our key goes to nobody else."""

from __future__ import annotations

import asyncio

import pytest
from scripted_upstream import Reply, ScriptedUpstream, chat, stream

from hodios.errors import HodiosError, ProviderError
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel

KEY = "sk-upstream-0123456789abcdef"


async def text_from(upstream: ScriptedUpstream) -> str:
    row = RemoteModel(id="acme/model", context_length=1000)
    provider = RemoteProvider(Remote(name="acme", base_url=upstream.url, models=(row,)), KEY)
    await provider.start()
    try:
        return "".join([getattr(event, "text", "") async for event in provider.generate(chat())])
    finally:
        await provider.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_follows_no_redirect(upstream: ScriptedUpstream, status: int) -> None:
    upstream.replies = [Reply(status=status, headers={"Location": f"{upstream.url}/elsewhere"})]
    with pytest.raises(ProviderError, match=f"status {status}"):
        await text_from(upstream)
    assert [asked.path for asked in upstream.asked] == ["/chat/completions"]


async def test_no_proxy_of_the_environment_sees_the_key(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        upstream.replies = [stream({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]})]
        assert await text_from(upstream) == "Hi"
    assert seen == []


ENDLESS = {
    "one header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000,
    "no end of the status": b"HTTP/1.1 200 " + b"y" * 1_000_000,
    "one event": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + b"y" * (17 * 2**20),
    "one document": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b'{"a":"' + b"y" * (17 * 2**20),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_what_has_no_end_is_given_up(what: str) -> None:
    """The server never closes: whoever waits for the end waits for ever."""
    is_over = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ENDLESS[what])
        await is_over.wait()
        writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        upstream = ScriptedUpstream(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            with pytest.raises(HodiosError) as given_up:
                await asyncio.wait_for(text_from(upstream), 60)
        finally:
            is_over.set()
        assert given_up.value.status in (502, 503)
        assert KEY not in given_up.value.message
