"""The least that a gateway in Python can do: a request and its answer are parsed and encoded anew, and nothing else.

With the same HTTP server and client as Hodios: `python -m benchmarks.bare_gateway PORT UPSTREAM_URL`. It has no keys,
no errors and no time limits, and serves as the measure of what all the rest costs.
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import msgspec
import uvicorn

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class BareGateway:
    """An ASGI application in front of one server."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = _decode((await receive())["body"])
        async with self._session.post(self._url, data=_encode(request)) as response:
            if request.get("stream"):
                await _relay(response, send)
            else:
                await _answer(_encode(_decode(await response.read())), send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(body: bytes, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _relay(response: aiohttp.ClientResponse, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    held = b""
    while chunk := await response.content.readany():
        *events, held = (held + chunk).split(b"\n\n")
        for event in events:
            data = event.removeprefix(b"data: ")
            body = data if data == b"[DONE]" else _encode(_decode(data))
            await send({"type": "http.response.body", "body": b"data: " + body + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        BareGateway(sys.argv[2]), port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", access_log=False
    )
