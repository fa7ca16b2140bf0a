"""A provider that streams as many tokens as it is asked for, at a steady pace.

`python -m benchmarks.page_upstream PORT`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

from benchmarks.gateway_plan import MODEL

NUM_TOKENS = 5_000
TOKENS_PER_S = 500
_AT_ONCE = 10
_PARAGRAPH = (
    "Roads of **all** kinds lead to `Rome`, says the proverb, and *most* of them did.\n\n"
    "- stone\n- gravel\n\n```python\nfor road in roads:\n    print(road)\n```\n\n"
)


def tokens() -> list[str]:
    """Words with what follows them, as many as are streamed."""
    words = [
        f"{word} " for line in _PARAGRAPH.split("\n") for word in [*line.split(" ")[:-1], line.split(" ")[-1] + "\n"]
    ]
    return [words[number % len(words)] for number in range(NUM_TOKENS)]


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def answer(request: web.Request) -> web.StreamResponse:
    most = (await request.json()).get("max_tokens") or NUM_TOKENS
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number, token in enumerate(tokens()[:most]):
        await response.write(event({"content": token}))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(max(0.0, began_s + number / TOKENS_PER_S - loop.time()))
    await response.write(event({}, "stop") + b"data: [DONE]\n\n")
    return response


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


def main(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/models", models)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
