"""Many mixed requests at once: each ends as it should, every KV block comes back, and memory stays as it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from live_server import MODEL, PATIENCE_S, LiveServer, until
from traffic import Traffic

from hodios.machine import cpu_features

AT_ONCE = 32
KV_CACHE = "64MiB" if "avx512_bf16" in cpu_features() else "128MiB"
"""The same number of tokens: where the processor has no bfloat16, keys and values are held in float32."""
"""So little that requests wait for blocks and lose them, and that all of it is in use soon: memory that was never
touched does not count as resident."""


@pytest.fixture(scope="module")
def small_server(start_server: Callable[..., LiveServer]) -> LiveServer:
    """With all the shapes warm that it warms by itself while nothing is asked for."""
    server = start_server(HODIOS_KV_CACHE_BYTES=KV_CACHE)
    sizes: list[int] = []

    def look() -> bool:
        sizes.append(server.stats().get("resident_bytes", 0))
        return len(sizes) > 4 and 0 < sizes[-1] == sizes[-5]

    until(look, lambda: f"memory does not come to rest: {sizes}", every_s=0.5)
    return server


async def soak(server: LiveServer, num_requests: int) -> None:
    """Twice half of them, in other words; the first half may still fill what is kept."""
    pid = server.engine_pid
    resident, ends = [], Counter[str]()
    for half in range(2):
        traffic = Traffic(server, seed=half)
        await traffic.send(num_requests // 2, AT_ONCE)
        ends += traffic.ends
        resident.append(server.settled()["resident_bytes"])
    assert ends.total() == num_requests
    assert ends["left"] > 0.1 * num_requests
    assert (server.engine_pid, server.model_health()["restarts"]) == (pid, 0)
    assert resident[1] <= resident[0] * 1.05 + 20e6, resident


async def test_a_sample(small_server: LiveServer) -> None:
    await soak(small_server, 120)


@pytest.mark.full
@pytest.mark.soak
async def test_the_whole(small_server: LiveServer) -> None:
    await soak(small_server, 500)


async def test_answers_that_lose_their_blocks_go_on_as_if_they_had_not(small_server: LiveServer) -> None:
    """Their prompts have room together, their answers do not."""
    before = small_server.stats()["num_preemptions"]
    async with httpx2.AsyncClient(
        base_url=small_server.url, headers=small_server.headers, timeout=2 * PATIENCE_S
    ) as http:

        async def ask(number: int) -> dict[str, Any]:
            # Without the tail of each distribution, where the last digits decide which of many a draw falls on.
            body = {"prompt": f"The number {number} " * 80, "seed": number, "max_tokens": 100, "ignore_eos": True}
            body["top_p"] = 0.95
            answer = await http.post("/v1/completions", json={"model": MODEL, "logprobs": 0, **body})
            assert answer.status_code == 200, answer.text
            choice: dict[str, Any] = answer.json()["choices"][0]
            return choice

        together = await asyncio.gather(*(ask(number) for number in range(8)))
        assert {choice["finish_reason"] for choice in together} == {"length"}
        assert small_server.settled()["num_preemptions"] > before
        for number in (0, 7):
            assert_same(await ask(number), together[number])


def assert_same(alone: dict[str, Any], together: dict[str, Any]) -> None:
    """In float32, sums of more rows are taken in another order, which shows in the last digits."""
    logprobs = [choice.pop("logprobs") for choice in (alone, together)]
    assert alone == together
    assert logprobs[0]["tokens"] == logprobs[1]["tokens"]
    assert logprobs[0]["token_logprobs"] == pytest.approx(logprobs[1]["token_logprobs"], abs=1e-4)
