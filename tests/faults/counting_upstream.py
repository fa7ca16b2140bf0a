"""A provider that counts what it generates: word by word, the same answer for the same question, and at times half."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import zlib
from dataclasses import dataclass
from typing import Any

from aiohttp import web

PROMPT_TOKENS = 10
MOST_WORDS = 60
_NAME = re.compile(r"\w+$")


def length_of(name: str) -> int:
    """Words of the answer to the question that ends with this name."""
    return 1 + zlib.crc32(name.encode()) % MOST_WORDS


@dataclass
class Generation:
    """One answer, or the rest of one. A word is a token."""

    num_sent: int = 0
    has_ended: bool = False
    """Whether its end was sent, and what was used with it."""
    is_packed: bool = False
    """Whether several words came at once, whose number can only be estimated before the end."""


@dataclass(frozen=True)
class Manners:
    """How often, out of 1, an answer breaks off in its middle, is refused for want of room, or comes several words at a
    time; and how long a word takes."""

    breaks: float = 0.0
    refuses: float = 0.0
    packs: float = 0.0
    per_word_s: float = 0.002


class CountingUpstream:
    """`generated` has what was generated for each name."""

    def __init__(self, name: str, manners: Manners, rng: random.Random) -> None:
        self.name = name
        self.generated: dict[str, list[Generation]] = {}
        self.num_open = 0
        """Answers on their way."""
        self.url = ""
        self._manners = manners
        self._rng = rng

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        question = next(each["content"] for each in reversed(asked["messages"]) if each["role"] == "user")
        last = asked["messages"][-1]
        num_begun = len(last["content"].split()) if last["role"] == "assistant" else 0
        found = _NAME.search(question)
        assert found is not None
        name = found[0]
        if self._rng.random() < self._manners.refuses:
            return web.json_response({"error": {"message": "no room"}}, status=503)
        generation = Generation()
        self.generated.setdefault(name, []).append(generation)
        self.num_open += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await self._write(request, response, generation, num_begun, length_of(name))
        except ConnectionError:
            pass
        finally:
            self.num_open -= 1
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, generation: Generation, num_begun: int, num_words: int
    ) -> None:
        breaks_at = num_words
        if self._rng.random() < self._manners.breaks:
            breaks_at = self._rng.randint(num_begun, num_words)
        most = 4 if self._rng.random() < self._manners.packs else 1
        generation.is_packed = most > 1
        at = num_begun
        while at < num_words:
            end = min(at + self._rng.randint(1, most), num_words)
            await asyncio.sleep(self._manners.per_word_s * (end - at))
            text = "".join(f"{number} " for number in range(at, end))
            await response.write(_event({"choices": [{"index": 0, "delta": {"content": text}}]}))
            generation.num_sent += end - at
            at = end
            if at >= breaks_at and at < num_words:
                assert request.transport is not None
                request.transport.close()
                return
        count = num_words - num_begun
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": count,
            "total_tokens": PROMPT_TOKENS + count,
        }
        end_of = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
        generation.has_ended = True
        await response.write(_event(end_of) + b"data: [DONE]\n\n")

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        return runner


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
