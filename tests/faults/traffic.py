"""Mixed requests as many clients would send them, good and bad, some of whom leave in the middle."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import httpx2
from live_server import MODEL, PATIENCE_S, LiveServer, stream_events

TEXT = "the river runs past old stone houses where people sell bread and fish to travellers from far away"
WORDS = TEXT.split()
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "ages": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "ages"],
}
BAD = [
    {"temperature": 9},
    {"n": 1000},
    {"max_tokens": 10**6},
    {"response_format": {"type": "regex", "regex": "("}},
    {"logit_bias": {"99999": 1}},
    {"prompt": "x " * 9000, "messages": [{"role": "user", "content": "x " * 9000}]},
    {"model": "nobody/nothing"},
]


class Traffic:
    """Sends requests to `server`; what became of them is counted in `ends`."""

    def __init__(self, server: LiveServer, seed: int) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self.ends: Counter[str] = Counter()

    async def send(self, num_requests: int, num_at_once: int) -> None:
        """All of them; raises where one ends neither in an answer nor in an error that the documentation has."""
        pending = [self._kind() for _ in range(num_requests)]
        limits = httpx2.Limits(max_connections=2 * num_at_once, max_keepalive_connections=num_at_once)
        async with httpx2.AsyncClient(
            base_url=self._server.url, headers=self._server.headers, timeout=2 * PATIENCE_S, limits=limits
        ) as http:

            async def work() -> None:
                while pending:
                    await self._one(http, *pending.pop())

            await asyncio.gather(*(work() for _ in range(num_at_once)))

    def _kind(self) -> tuple[str, str, dict[str, Any], int]:
        """(kind, path, body, after how many chunks the client leaves)."""
        rng = self._rng
        kind = rng.choices(
            ["plain", "leaves", "bad", "long", "several", "grammar", "scored", "stop"],
            weights=[26, 20, 12, 8, 10, 10, 8, 6],
        )[0]
        text = " ".join(rng.choices(WORDS, k=rng.randrange(5, 60)))
        extra: dict[str, Any] = {"max_tokens": rng.randrange(1, 40), "temperature": rng.choice([0, 0.7, 1.3])}
        if rng.random() < 0.5:
            extra["seed"] = rng.randrange(2**40)
        path = rng.choice(["/v1/chat/completions", "/v1/completions"])
        if kind == "bad":
            extra |= rng.choice(BAD)
        elif kind == "long":
            text = " ".join(rng.choices(WORDS, k=rng.randrange(700, 2000)))
        elif kind == "several":
            extra["n"] = rng.randrange(2, 6)
        elif kind == "grammar":
            extra["response_format"] = rng.choice(
                [
                    {"type": "json_object"},
                    {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                    {"type": "regex", "regex": r"[A-Z][a-z]{2,9}( [a-z]{1,9}){1,5}\."},
                    {"type": "grammar", "grammar": 'start: "yes" | "no" | /[0-9]{1,4}/'},
                ]
            )
        elif kind == "scored":
            path = "/v1/completions"
            extra |= {"echo": True, "logprobs": rng.randrange(6), "max_tokens": rng.randrange(3)}
        elif kind == "stop":
            extra |= {"stop": [*rng.sample(WORDS, 3), "e", "\n"], "max_tokens": 60}
        asked = {"prompt": text} if path.endswith("/completions") and "chat" not in path else _messages(text)
        streams = kind == "leaves" or rng.random() < 0.5
        return kind, path, {"model": MODEL, **asked, "stream": streams, **extra}, rng.randrange(0, 12)

    async def _one(
        self, http: httpx2.AsyncClient, kind: str, path: str, body: dict[str, Any], leaves_after: int
    ) -> None:
        if kind == "leaves":
            body["max_tokens"] = 400
            await self._leave(http, path, body, leaves_after)
            return
        answer = await http.post(path, json=body)
        shown = f"{kind}: {json.dumps(body)[:200]} → {answer.status_code} {answer.text[:300]}"
        if answer.status_code == 503:
            assert answer.headers["retry-after"], shown
        elif kind == "bad":
            assert answer.status_code in (400, 404), shown
        else:
            assert answer.status_code == 200, shown
            _check(answer, body, shown)
        self.ends[f"{kind} {answer.status_code}"] += 1

    async def _leave(self, http: httpx2.AsyncClient, path: str, body: dict[str, Any], leaves_after: int) -> None:
        """Before the first chunk, or in mid-stream."""
        if leaves_after < 3:
            asking = asyncio.create_task(http.post(path, json=body))
            await asyncio.wait([asking], timeout=leaves_after * 0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        else:
            async with http.stream("POST", path, json=body) as answer:
                assert answer.status_code in (200, 503)
                num_left = leaves_after
                async for line in answer.aiter_lines():
                    num_left -= line.startswith("data: ")
                    if not num_left:
                        break
        self.ends["left"] += 1


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _check(answer: httpx2.Response, body: dict[str, Any], shown: str) -> None:
    """Whole: every choice has an end."""
    num_choices = body.get("n", 1)
    if body["stream"]:
        choices = [choice for event in stream_events(answer.text) for choice in event["choices"]]
    else:
        choices = answer.json()["choices"]
    ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(ends) == num_choices, shown
    assert set(ends) <= {"stop", "length"}, shown
