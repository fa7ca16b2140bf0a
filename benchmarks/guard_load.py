"""What content filters cost: requests a second, processor time per request, and the time until the first token.

Requests a second are those of the whole gateway (`guard_gateway`). Processor time is that of an API that answers from a
provider which says the same at once, with filters off, with filters that annotate and know the texts already, and with
filters that have far too much to do. The first token is the starter model's, with keys whose policies differ, and once
more for the first request of a server that has just started. Prints tables and the lines `RESULT name ratio`, off ÷ on
of times and on ÷ off of rates, of which more is better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import figures, guard_gateway
from benchmarks import gateway_plan as plan
from benchmarks.gateway_peers import KEY
from benchmarks.guard_server import Server
from benchmarks.processes import BenchmarkError
from hodios.api.app import create_app
from hodios.config import Config
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.guard.embedded import EmbeddedGuard
from hodios.guard.guarding import Guarding
from hodios.guard.memory import Memory, Scores
from hodios.guard.panel import BUSY, Panel
from hodios.guard_settings import Action, GuardSettings
from hodios.machine import cpu_model
from hodios.providers.base import ModelHealth
from hodios.types import CATEGORIES, ModelCard, Request

REPOSITORY = Path(__file__).resolve().parent.parent
STARTER = {"HODIOS_HOME": str(REPOSITORY / ".cache" / "home"), "HODIOS_CONTEXT_LENGTH": "2048"}
"""Settings of a server with the starter model alone."""
DOCUMENT = REPOSITORY / "docs" / "safety.md"
SECTION = "What it costs"
MODULE = "benchmarks.guard_load"
OFF: Action = "off"
ANNOTATE: Action = "annotate"
BLOCK: Action = "block"
POLICIES = (OFF, ANNOTATE, BLOCK)
LOADS = {"an answer in one piece": (1, 2000), "a stream of 502 chunks": (plan.NUM_TEXTS, 40)}
"""What is asked for → pieces of an answer, and requests of a round."""
KNOWN, BUSY_STATE = "texts that it knows", "too much to do"
STATES = (OFF, KNOWN, BUSY_STATE)
"""Without filters; with filters that annotate, whose guard has judged the same texts before; and with a guard that has
more to do than it can, which is what it has where other texts come as fast as a gateway passes them on."""
_HARMLESS: Scores = dict.fromkeys(CATEGORIES, 0.0123)
CONCURRENT = (1, 16)
FIRSTS_PER_ROUND = 3
"""First tokens are soon there, and differ more than the rest."""
QUESTION = "Which rivers run through Lyon, and where do they come from? Answer in a few sentences, and number {number}."
MOST_TOKENS = 32
_TOLD = (
    "Rates are medians, and ratios medians of what each round gave; known texts were judged before, new ones are all "
    "different, prompts and answers alike, which is more than the guard can read. Processor time is the least of all "
    "rounds, without the HTTP server and without asking another server, which cost several times as much. First tokens "
    "are medians."
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default: 5)")
    parser.add_argument("--starts", type=int, default=3, help="how often a server is started with each policy (3)")
    options = parser.parse_args(arguments)
    try:
        rates = guard_gateway.measure(options.rounds)
        loads = asyncio.run(measure_load(options.rounds))
        firsts = asyncio.run(measure_first(FIRSTS_PER_ROUND * options.rounds))
        starts = asyncio.run(measure_starts(options.starts))
    except BenchmarkError as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 1
    report = [*guard_gateway.table(rates), "", *_load_table(loads), "", *_first_table(firsts, starts)]
    print("\n".join(report))
    print("\n" + "\n".join([*guard_gateway.results(rates), *_results(loads, firsts)]))
    if options.write:
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        head = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_model()}, {os.cpu_count()} CPUs, {options.rounds} rounds"
        head = f"{head} (`python -m {MODULE}`), load average at the end {load}. {_TOLD}"
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(figures.replace_section(text, SECTION, [head, "", *report], by=MODULE), encoding="utf-8")
    return 0


async def measure_load(rounds: int) -> dict[tuple[str, str], list[float]]:
    """(what, one of STATES) → microseconds of this process per request, round by round, of all that the API does
    between the server's socket and a provider."""
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (num_chunks, num_requests) in LOADS.items():
            settings = Config(home=Path(folder), admin_key=KEY)
            apps = {state: _app(settings, num_chunks, state) for state in STATES}
            for number in range(rounds + 1):
                turns = list(apps.items())
                for state, app in turns if number % 2 else turns[::-1]:
                    cost_us = await _cost_us(app, num_requests, is_streamed=num_chunks > 1)
                    if number:
                        found.setdefault((name, state), []).append(cost_us)
                        _tell(f"round {number}/{rounds} {state}: {name}: {cost_us:.1f} us")
    return found


def _app(settings: Config, num_chunks: int, state: str) -> Any:
    policy = OFF if state == OFF else ANNOTATE
    chosen = GuardSettings(prompt=policy, answer=policy)
    nowhere = settings.home / "none"
    guard = EmbeddedGuard(nowhere, memory=_Acquainted()) if state == KNOWN else _BusyGuard(nowhere)
    guarding = Guarding(Panel([guard], clock=time.monotonic), chosen)
    return create_app(settings, [_Talker(num_chunks)], guarding=guarding)


class _BusyGuard(EmbeddedGuard):
    """While it has more to do than it can: it looks whether it knows a text, and never does."""

    def refusal(self, num_characters: int, budget_s: float) -> str:
        return BUSY


class _Acquainted(Memory[Scores]):
    """Has seen every text before."""

    def look_up(self, text: str) -> tuple[bytes, Scores]:
        digest, _ = super().look_up(text)
        return digest, _HARMLESS


class _Talker:
    """A provider that says the same to everybody, at once."""

    name = "talker"

    def __init__(self, num_chunks: int) -> None:
        self._card = ModelCard(id=plan.MODEL, context_length=8192, max_output_tokens=8192, provider=self.name)
        whole: str = json.loads(plan.whole_answer())["choices"][0]["message"]["content"]
        texts = plan.texts() if num_chunks > 1 else [whole]
        usage = Usage(prompt_tokens=46, completion_tokens=len(texts))
        self._events: list[Event] = [
            Started(self.name, plan.MODEL, "fp_0", 46),
            *(Text(0, text, completion_tokens=number) for number, text in enumerate(texts, 1)),
            Stopped(0, "stop"),
            Finish(usage),
        ]

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def models(self) -> Sequence[ModelCard]:
        return (self._card,)

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return (ModelHealth(model=plan.MODEL, state="ready"),)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        for event in self._events:
            yield event


async def _cost_us(app: Any, num_requests: int, *, is_streamed: bool) -> float:
    body = plan.body(is_streamed=is_streamed).encode()
    began_ns = time.process_time_ns()
    for _ in range(num_requests):
        await _request(app, body)
    return (time.process_time_ns() - began_ns) / num_requests / 1e3


async def _request(app: Any, body: bytes) -> None:
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    size = 0

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal size
        if message.get("status", 200) != 200:
            raise BenchmarkError(f"a request was answered with {message['status']}")
        size += len(message.get("body", b""))

    headers = [(b"host", b"x"), (b"authorization", f"Bearer {KEY}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "scheme": "http"}
    await app({**scope, "query_string": b"", "extensions": {}}, receive, send)
    if not size:
        raise BenchmarkError("an answer is empty")


async def measure_first(rounds: int) -> dict[tuple[int, str], list[float]]:
    """(concurrent chats, policy) → milliseconds until the first token, the median of each round."""
    server = await asyncio.to_thread(Server, "starter", STARTER)
    found: dict[tuple[int, str], list[float]] = {}
    try:
        # Only prompts are blocked: what is held back of an answer is text, not time of the guard.
        keys = {policy: server.key(policy, ANNOTATE if policy == BLOCK else policy) for policy in POLICIES}
        model = server.call("GET", "/v1/models")["data"][0]["id"]
        for number in range(rounds + 1):
            turns = list(keys.items())
            for policy, key in turns if number % 2 else turns[::-1]:
                for count in CONCURRENT:
                    chats = [_first_ms(server.port, key, model, f"{number}-{policy}-{chat}") for chat in range(count)]
                    first_ms = statistics.median(await asyncio.gather(*chats))
                    if number:
                        found.setdefault((count, policy), []).append(first_ms)
                        _tell(f"round {number}/{rounds} {policy}: first token of {count}: {first_ms:.1f} ms")
    finally:
        server.close()
    return found


async def measure_starts(starts: int) -> dict[str, list[float]]:
    """Policy → milliseconds until the first token of the first request after each start, once the server is ready."""
    found: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for number in range(starts):
        for policy in POLICIES if number % 2 else POLICIES[::-1]:
            server = await asyncio.to_thread(Server, "starter", STARTER)
            try:
                key = server.key(policy, ANNOTATE if policy == BLOCK else policy)
                model = server.call("GET", "/v1/models")["data"][0]["id"]
                found[policy].append(await _first_ms(server.port, key, model, f"start-{number}-{policy}"))
                _tell(f"start {number + 1}/{starts} {policy}: first token {found[policy][-1]:.1f} ms")
            finally:
                await asyncio.to_thread(server.close)
    return found


async def _first_ms(port: int, key: str, model: str, number: str) -> float:
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
            "max_tokens": MOST_TOKENS,
            "stream": True,
        }
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.perf_counter()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer, first_s = b"", None
    while data := await reader.read(65536):
        answer += data
        if first_s is None and b'"delta":{"content":"' in answer:
            first_s = time.perf_counter()
    writer.close()
    if first_s is None or b"[DONE]" not in answer:
        raise BenchmarkError(f"an answer is not what it has to be: {answer[:500]!r}")
    return (first_s - began_s) * 1e3


def _load_table(loads: Mapping[tuple[str, str], Sequence[float]]) -> list[str]:
    states = STATES[1:]
    heads = "".join(f" {state} | added |" for state in states)
    lines = [f"| processor time per request, without HTTP | off |{heads}", "|---|---|" + "---|---|" * len(states)]
    for name in LOADS:
        off, *rest = (min(loads[name, state]) for state in STATES)
        lines.append(f"| {name} | {off:.0f} µs |" + "".join(f" {on:.0f} µs | {on - off:.0f} µs |" for on in rest))
    return lines


def _first_table(firsts: Mapping[tuple[int, str], Sequence[float]], starts: Mapping[str, Sequence[float]]) -> list[str]:
    head = "| first token of the starter model | off | annotate | block prompts | annotate ÷ off |"
    lines = [head, "|---|" + "---|" * 4]
    for count in CONCURRENT:
        medians = [f"{statistics.median(firsts[count, policy]):.0f} ms" for policy in POLICIES]
        lines.append(f"| {count} at a time | {' | '.join(medians)} | {_ratio(firsts, count):.2f} |")
    medians = [f"{statistics.median(starts[policy]):.0f} ms" for policy in POLICIES]
    return [*lines, f"| the first request after a start | {' | '.join(medians)} | |"]


def _ratio(firsts: Mapping[tuple[int, str], Sequence[float]], count: int) -> float:
    """The median of what each round gave."""
    pairs = zip(firsts[count, OFF], firsts[count, ANNOTATE], strict=True)
    return statistics.median([on / off for off, on in pairs])


def _results(
    loads: Mapping[tuple[str, str], Sequence[float]], firsts: Mapping[tuple[int, str], Sequence[float]]
) -> list[str]:
    lines = []
    for name, told in zip(LOADS, ("whole", "streams"), strict=True):
        off, known, busy = (min(loads[name, state]) for state in STATES)
        lines.append(f"RESULT guard-throughput-{told} {off / known:.3f}")
        lines.append(f"RESULT guard-throughput-{told}-busy {off / busy:.3f}")
    for count in CONCURRENT:
        lines.append(f"RESULT guard-first-token-{count} {1 / _ratio(firsts, count):.3f}")
    return lines


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
