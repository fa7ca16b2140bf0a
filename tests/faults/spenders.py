"""Clients that spend what their keys have: streamed and not, some twice, some no longer than half of the answer."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from replicas import MODEL, Replica

_PAUSES_S = {402: 0.05, 429: 0.05, 503: 0.05}
_LEAST_MOST = 61
"""More than any answer has: what ends at its length was cut short because its budget was spent."""


@dataclass
class Told:
    """What one client was told of one answer, as far as it listened."""

    name: str
    status: int = 0
    """0 where the connection broke before there was one."""
    id: str = ""
    cost: float | None = None
    text: str = ""
    finish_reason: str | None = None
    codes: tuple[str, ...] = ()
    """Of warnings."""
    is_whole: bool = False
    is_replayed: bool = False
    body: bytes = b""

    @property
    def num_words(self) -> int:
        return len(self.text.split())

    def take(self, event: dict[str, Any]) -> None:
        self.id = event.get("id", self.id)
        self.codes += tuple(warning["code"] for warning in event.get("warnings", ()))
        if event.get("usage"):
            self.cost = event["usage"]["cost"]
        for choice in event.get("choices", ()):
            said = choice.get("delta") or choice.get("message") or {}
            self.text += said.get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason


@dataclass
class Twice:
    """A request that was sent again with the same Idempotency-Key to a process that lived on."""

    name: str
    is_paid_once: bool


@dataclass
class Spenders:
    """All of them. `keys()` are those that may be asked with now."""

    replicas: Sequence[Replica]
    keys: Callable[[], Sequence[str]]
    is_over: Callable[[], bool]
    told: list[Told] = field(default_factory=list)
    twice: list[Twice] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    async def run(self, num_clients: int) -> None:
        await asyncio.gather(*(self._client(random.Random(at)) for at in range(num_clients)))

    async def _client(self, rng: random.Random) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as http:
            while not self.is_over():
                told = await self._one(http, rng)
                await asyncio.sleep(_PAUSES_S.get(told.status, 0))

    async def _one(self, http: aiohttp.ClientSession, rng: random.Random) -> Told:
        replica, name = rng.choice(self.replicas), uuid.uuid4().hex
        headers = {"Authorization": f"Bearer {rng.choice(self.keys())}"}
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"How long is {name}"}],
            "max_tokens": rng.randint(_LEAST_MOST, 2 * _LEAST_MOST),
            "user": name,
            "provider": {"order": ["first", "second"]},
        }
        match rng.choices(("streamed", "whole", "left", "twice"), (4, 3, 2, 1))[0]:
            case "streamed":
                return await self._ask(http, replica, headers, name, _streamed(body))
            case "whole":
                return await self._ask(http, replica, headers, name, body)
            case "left":
                body = _streamed(body) if rng.random() < 0.7 else body
                return await self._leave(http, replica, headers, name, body, rng)
        return await self._twice(http, replica, headers | {"Idempotency-Key": name}, name, body, rng)

    async def _ask(
        self,
        http: aiohttp.ClientSession,
        replica: Replica,
        headers: dict[str, str],
        name: str,
        body: dict[str, Any],
        most_events: int | None = None,
    ) -> Told:
        told = Told(name)
        self.told.append(told)
        try:
            async with http.post(f"{replica.url}/v1/chat/completions", json=body, headers=headers) as answer:
                told.status = answer.status
                told.is_replayed = answer.headers.get("idempotent-replayed") == "true"
                await _listen(answer, told, most_events)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return told
        finally:
            self.statuses[told.status] += 1
        replica.num_answers += told.is_whole and told.status == 200
        return told

    async def _leave(
        self,
        http: aiohttp.ClientSession,
        replica: Replica,
        headers: dict[str, str],
        name: str,
        body: dict[str, Any],
        rng: random.Random,
    ) -> Told:
        """After some of the stream, or while a whole answer is made."""
        if "stream" in body:
            return await self._ask(http, replica, headers, name, body, rng.randint(0, 20))
        asking = asyncio.create_task(self._ask(http, replica, headers, name, body))
        await asyncio.wait([asking], timeout=rng.uniform(0.0, 0.2))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return Told(name)

    async def _twice(
        self,
        http: aiohttp.ClientSession,
        replica: Replica,
        headers: dict[str, str],
        name: str,
        body: dict[str, Any],
        rng: random.Random,
    ) -> Told:
        num_starts = replica.num_starts
        if rng.random() < 0.5:
            both = await asyncio.gather(*(self._ask(http, replica, headers, name, body) for _ in range(2)))
        else:
            both = [await self._ask(http, replica, headers, name, body) for _ in range(2)]
        first, second = both
        if replica.num_starts == num_starts and first.status == second.status == 200:
            is_same = first.body == second.body and first.is_replayed != second.is_replayed
            self.twice.append(Twice(name, is_same))
        return second


async def _listen(answer: aiohttp.ClientResponse, told: Told, most_events: int | None) -> None:
    if answer.content_type != "text/event-stream":
        told.body = await answer.read()
        told.is_whole = True
        told.take(json.loads(told.body))
        return
    num_events = 0
    async for line in answer.content:
        if line.startswith(b"data: {"):
            num_events += 1
            told.take(json.loads(line[6:]))
            if most_events is not None and num_events > most_events:
                answer.close()
                return
        told.is_whole = told.is_whole or line.startswith(b"data: [DONE]")


def _streamed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "stream": True, "stream_options": {"include_usage": True}}
