"""What gateways are asked, what the upstream answers, and which ratios are told. Pure: starts nothing."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.figures import Ratio, Samples
from benchmarks.load import Load, Seen

DIRECT = "none (direct)"
OURS = "Hodios"
BARE = "bare Python"
VLLM_ROUTER = "vllm-router"
SMG = "smg"
PORTKEY = "Portkey"
LITELLM = "LiteLLM"
GATEWAYS = (OURS, BARE, VLLM_ROUTER, SMG, PORTKEY, LITELLM)
STREAMING = (OURS, BARE, VLLM_ROUTER, SMG, LITELLM)
"""Portkey 1.15.2 answers every streamed request with status 500 ("TypeError: immutable", on Node.js 20)."""
MODEL = "nousresearch/hermes-2-pro-llama-3-8b"
NUM_TEXTS = 500
NUM_CHUNKS = NUM_TEXTS + 2
"""Of a streamed answer: the role, the text, the end."""
ANSWER_BYTES = 600
SINGLE, MANY, FIRST, STREAMS = "1-connection", "32-connections", "first-token", "streams"
ONE_RATE, RATE, P50, P99 = "1 connection", "32 connections", "p50 of 1 connection", "p99 of 1 connection"
RESIDENT, CHUNKS, FIRST_TOKEN = "resident", "relayed", "first token"
UNITS = {
    ONE_RATE: "requests/s",
    P50: "ms",
    P99: "ms",
    RATE: "requests/s",
    RESIDENT: "MiB",
    FIRST_TOKEN: "ms",
    CHUNKS: "chunks/s",
}
_WORDS = "Hello! It's nice to meet you. How can I assist you today? Is there anything you would like to discuss?"
_USAGE = {"prompt_tokens": 46, "completion_tokens": 501, "total_tokens": 547}
_TARGET_RATE, _TARGET_CHUNK_RATE, _TARGET_MIB = 5200.0, 60_000.0, 120.0
_TARGET_P50_MS, _TARGET_P99_MS, _TARGET_FIRST_MS = 0.30, 1.0, 0.5
_LEAST_MS = 0.001
"""Added times are differences, and may come out as nothing."""


def body(*, is_streamed: bool) -> str:
    messages = [
        {"role": "system", "content": "Act like you are a helpful assistant."},
        {"role": "user", "content": "Hi there!"},
    ]
    request: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": 512}
    return json.dumps(request | ({"stream": True} if is_streamed else {}))


def whole_answer() -> bytes:
    """A chat completion of exactly ANSWER_BYTES."""
    missing = ANSWER_BYTES - len(_answer(""))
    return _answer((_WORDS * (missing // len(_WORDS) + 1))[:missing])


def _answer(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return _encoded({**_frame("chat.completion"), "choices": [choice], "usage": _USAGE})


def texts() -> list[str]:
    """What the chunks of a streamed answer say, one text for each; no two are the same."""
    return [f" word{number}" for number in range(NUM_TEXTS)]


def streamed_answer() -> bytes:
    """NUM_CHUNKS server-sent events and `[DONE]`; the last one tells the usage."""
    deltas: list[dict[str, str]] = [{"role": "assistant"}, *({"content": text} for text in texts())]
    chunks = [_chunk(delta, None) for delta in deltas]
    chunks.append({**_chunk({}, "stop"), "usage": _USAGE})
    return b"".join(b"data: " + _encoded(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_frame("chat.completion.chunk"), "choices": [choice]}


def _frame(kind: str) -> dict[str, Any]:
    return {"id": "chat-5f461a9a23a44ef29dbd3124b891afc0", "object": kind, "created": 1731584707, "model": MODEL}


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def loads(seconds: float, *, is_streamed: bool) -> dict[str, Load]:
    """Measurements by name, in their order; where to is filled in for each gateway."""
    request, told = body(is_streamed=is_streamed), texts() if is_streamed else []
    counts = {FIRST: 1, STREAMS: 8} if is_streamed else {SINGLE: 1, MANY: 32}
    return {
        name: Load(body=request, num_connections=count, seconds=seconds, texts=told) for name, count in counts.items()
    }


def note(samples: Samples, subject: str, name: str, seen: Seen) -> None:
    """What is kept of one measurement."""
    if name == SINGLE:
        samples.add(subject, ONE_RATE, seen.rate)
        samples.add(subject, P50, seen.p50_ms)
        samples.add(subject, P99, seen.p99_ms)
    elif name == MANY:
        samples.add(subject, RATE, seen.rate)
    elif name == FIRST:
        samples.add(subject, FIRST_TOKEN, seen.first_ms)
    else:
        samples.add(subject, CHUNKS, seen.rate * NUM_CHUNKS)


def judge(samples: Samples) -> None:
    """Adds how each round of ours compares with the targets: above 1 is better."""
    for rate in samples.of(OURS, RATE):
        samples.add(OURS, "of-rate", rate / _TARGET_RATE)
    for rate in samples.of(OURS, CHUNKS):
        samples.add(OURS, "of-chunks", rate / _TARGET_CHUNK_RATE)
    for size in samples.of(OURS, RESIDENT):
        samples.add(OURS, "of-memory", _TARGET_MIB / size)
    added = {P50: _TARGET_P50_MS, P99: _TARGET_P99_MS, FIRST_TOKEN: _TARGET_FIRST_MS}
    for figure, target in added.items():
        pairs = zip(samples.of(OURS, figure), samples.of(DIRECT, figure), strict=False)
        for ours, direct in pairs:
            samples.add(OURS, f"of-{figure}", target / max(ours - direct, _LEAST_MS))


def ratios() -> list[Ratio]:
    """The RESULT lines in their order; those without both sides are left out by `figures.results`."""
    targets = {SMG: 1.0, PORTKEY: 5.0, LITELLM: 40.0}
    peers = GATEWAYS[1:]
    names = {peer: peer.lower().split()[0] for peer in peers}
    return [
        *(Ratio(f"gateway-{names[peer]}", (OURS, RATE), (peer, RATE), targets.get(peer)) for peer in peers),
        *(Ratio(f"gateway-p50-{names[peer]}", (OURS, P50), (peer, P50), is_time=True) for peer in peers),
        *(Ratio(f"gateway-stream-{names[peer]}", (OURS, CHUNKS), (peer, CHUNKS)) for peer in STREAMING[1:]),
        *(
            Ratio(f"gateway-first-token-{names[peer]}", (OURS, FIRST_TOKEN), (peer, FIRST_TOKEN), is_time=True)
            for peer in peers
        ),
        Ratio("gateway-rate", (OURS, "of-rate"), None, 1.0),
        Ratio("gateway-added-p50", (OURS, f"of-{P50}"), None, 1.0),
        Ratio("gateway-added-p99", (OURS, f"of-{P99}"), None, 1.0),
        Ratio("gateway-memory", (OURS, "of-memory"), None, 1.0),
        Ratio("gateway-chunks", (OURS, "of-chunks"), None, 1.0),
        Ratio("gateway-added-first-token", (OURS, f"of-{FIRST_TOKEN}"), None, 1.0),
    ]
