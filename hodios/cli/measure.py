"""Measurements of a running server: how fast it reads a prompt, and how fast it writes several answers."""

from __future__ import annotations

import asyncio
import random
import time

from hodios.cli.console import stderr
from hodios.errors import SetupError
from hodios.providers.client import Client, Counts

_PREFILL_WORDS = 512
_ANSWER_TOKENS = 128


async def measure(url: str, key: str | None, model: str | None, streams: list[int]) -> list[tuple[str, int, float]]:
    """(measurement, tokens, seconds) for the prompt alone and for each number of streams."""
    # Prompts are new in every run, so that no cache answers for the engine.
    source = random.Random(time.time_ns())
    async with Client(url, key) as client:
        served = await client.models()
        if not served:
            raise SetupError(f"The server at {url} serves no model yet.")
        name = model or served[0].id
        stderr().print(f"Measuring {name} at {url}; other requests would be measured with it", style="dim")
        await _answer(client, name, _prompt(source, 16), 16)
        num_prompt, elapsed_s = await _together(client, name, [_prompt(source, _PREFILL_WORDS)], 1)
        rows = [("prompt", num_prompt.prompt_tokens, elapsed_s)]
        for count in streams:
            prompts = [_prompt(source, 16) for _ in range(count)]
            counts, elapsed_s = await _together(client, name, prompts, _ANSWER_TOKENS)
            rows.append((f"{count} stream{'s' if count > 1 else ''}", counts.completion_tokens, elapsed_s))
    return rows


def _prompt(source: random.Random, num_words: int) -> str:
    """Words that no prompt before had, each of two tokens or so."""
    return " ".join("".join(source.choices("aeinorst", k=4)) for _ in range(num_words))


async def _together(client: Client, model: str, prompts: list[str], max_tokens: int) -> tuple[Counts, float]:
    """All tokens, and the seconds until the last answer was complete."""
    began = time.monotonic()
    answers = await asyncio.gather(*(_answer(client, model, prompt, max_tokens) for prompt in prompts))
    elapsed_s = time.monotonic() - began
    total = Counts(sum(each.prompt_tokens for each in answers), sum(each.completion_tokens for each in answers))
    return total, elapsed_s


async def _answer(client: Client, model: str, prompt: str, max_tokens: int) -> Counts:
    counts = Counts(0, 0)
    async for piece in client.complete(model, prompt, max_tokens=max_tokens, ignore_eos=True, temperature=1.0):
        counts = piece.usage or counts
    return counts
