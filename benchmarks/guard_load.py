"""What content filters cost: processor time of the API process per request, and the time until the first token.

The first runs Hodios before a static upstream, with filters off and with filters that annotate and have far too much to
do; the second asks the starter model, with keys whose policies differ. Prints tables and the lines `RESULT name ratio`,
off ÷ on, of which more is better.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from benchmarks import figures, upstream
from benchmarks import gateway_plan as plan
from benchmarks.gateway_peers import GATEWAY_CPU, KEY, LOAD_CPU, free_port, on_cpu, tree
from benchmarks.load import Load, Seen
from benchmarks.processes import BenchmarkError, Process
from hodios.machine import cpu_model

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / ".cache" / "benchmarks"
DOCUMENT = REPOSITORY / "docs" / "safety.md"
SECTION = "What it costs"
MODULE = "benchmarks.guard_load"
OFF, ANNOTATE, BLOCK = "off", "annotate", "block"
CONCURRENT = (1, 16)
QUESTION = "Which rivers run through Lyon, and where do they come from? Answer in a few sentences, and number {number}."
MOST_TOKENS = 32
_PATIENCE_S = 300.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement of load (default: 2)")
    options = parser.parse_args(arguments)
    try:
        if not {GATEWAY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
            raise BenchmarkError("it takes processor cores 0 and 1, one for the API and one for everything else")
        loads = measure_load(options.rounds, options.seconds)
        firsts = asyncio.run(measure_first(options.rounds))
    except BenchmarkError as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 1
    report = [*_load_table(loads), "", *_first_table(firsts)]
    print("\n".join(report))
    print("\n" + "\n".join(_results(loads, firsts)))
    if options.write:
        head = f"On {cpu_model()}, {os.cpu_count()} CPUs, medians of {options.rounds} rounds (`python -m {MODULE}`)."
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(figures.replace_section(text, SECTION, [head, "", *report], by=MODULE), encoding="utf-8")
    return 0


class Server:
    """`hodios serve`, ready to answer."""

    def __init__(self, name: str, settings: Mapping[str, str], argv: Sequence[str] = ()) -> None:
        self.port = free_port()
        env = {key: value for key, value in os.environ.items() if not key.startswith("HODIOS_")}
        env |= {"HODIOS_PORT": str(self.port), "HODIOS_ADMIN_KEY": KEY, **settings}
        command = [sys.executable, "-m", "hodios.cli.main", "serve"]
        self.process = Process([*argv, *command], FOLDER / f"guard-{name}.log", env=env)
        try:
            self._wait(lambda: self.call("GET", "/health/ready"))
            self._wait(self._has_guard)
        except BaseException:
            self.close()
            raise

    def _has_guard(self) -> bool:
        report = self.call("GET", "/health")
        return all(guard["state"] == "ready" for guard in report["guards"])

    def _wait(self, look: Any) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            self.process.require_running()
            with contextlib.suppress(OSError):
                if look():
                    return
            time.sleep(0.2)
        raise BenchmarkError(f"the server does not come up: {self.process.last_words()}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def pid_of(self, module: str) -> int | None:
        for pid in tree(self.process.pid):
            if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def close(self) -> None:
        self.process.close()


def measure_load(rounds: int, seconds: float) -> dict[tuple[str, str], list[float]]:
    """(what, policy) → microseconds of the API process per request, round by round; and answers per second."""
    found: dict[tuple[str, str], list[float]] = {}
    for is_streamed in (False, True):
        with _upstream(is_streamed=is_streamed) as upstream_port, contextlib.ExitStack() as stack:
            servers = {policy: _behind(stack, upstream_port, policy) for policy in (OFF, ANNOTATE)}
            for number in range(rounds + 1):
                turns = list(servers.items())
                for policy, server in turns if number % 2 else turns[::-1]:
                    for name, load in plan.loads(seconds, is_streamed=is_streamed).items():
                        if name in (plan.SINGLE, plan.FIRST):
                            continue
                        cost_us, rate = _cost(server, load)
                        if number:
                            found.setdefault((name, policy), []).append(cost_us)
                            found.setdefault((f"{name} rate", policy), []).append(rate)
                            _tell(f"round {number}/{rounds} {policy}: {name}: {cost_us:.1f} us, {rate:,.0f}/s")
    return found


@contextlib.contextmanager
def _upstream(*, is_streamed: bool) -> Iterator[int]:
    port = free_port()
    answer = (upstream.EVENTS, plan.streamed_answer()) if is_streamed else (upstream.JSON, plan.whole_answer())
    command = upstream.command(FOLDER / "guard-upstream", {port: answer})
    process = Process(on_cpu(LOAD_CPU, command), FOLDER / "guard-upstream.log", env=dict(os.environ))
    try:
        for _ in range(100):
            process.require_running()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.close()


def _behind(stack: contextlib.ExitStack, upstream_port: int, policy: str) -> Server:
    """The guard has the other core for itself, as far as load and upstream leave it."""
    model = {"id": plan.MODEL, "context_length": 8192}
    remote = {"upstream": {"base_url": f"http://127.0.0.1:{upstream_port}/v1", "models": [model]}}
    settings = {
        "HODIOS_HOME": str(FOLDER / "guard-home"),
        "HODIOS_MODELS": "",
        "HODIOS_REMOTE": json.dumps(remote),
        "HODIOS_GUARD": json.dumps({"prompt": policy, "answer": policy}),
    }
    server = Server(policy, settings, on_cpu(GATEWAY_CPU, []))
    stack.callback(server.close)
    guard = server.pid_of("hodios.guard.worker")
    assert guard is not None
    for thread in Path(f"/proc/{guard}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {LOAD_CPU})
    return server


def _cost(server: Server, load: Load) -> tuple[float, float]:
    """Microseconds of the API process per request, and answers per second."""
    pid = server.pid_of("hodios.api")
    assert pid is not None
    load = structs.replace(load, port=server.port, headers={"Authorization": f"Bearer {KEY}"})
    command = on_cpu(LOAD_CPU, [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(load).decode()])
    before_ns = _cpu_ns(pid)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    took_ns = _cpu_ns(pid) - before_ns
    if done.returncode:
        raise BenchmarkError(f"the load ended with {done.returncode}: {done.stderr[-500:]} {done.stdout[-500:]}")
    seen = msgspec.json.decode(done.stdout, type=Seen)
    return took_ns / seen.num / 1e3, seen.rate


def _cpu_ns(pid: int) -> int:
    """That all threads of a process have had so far."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


async def measure_first(rounds: int) -> dict[tuple[int, str], list[float]]:
    """(concurrent chats, policy) → milliseconds until the first token, the median of each round."""
    settings = {"HODIOS_HOME": str(REPOSITORY / ".cache" / "home"), "HODIOS_CONTEXT_LENGTH": "2048"}
    server = await asyncio.to_thread(Server, "starter", settings)
    found: dict[tuple[int, str], list[float]] = {}
    try:
        keys = {policy: _key(server, policy) for policy in (OFF, ANNOTATE, BLOCK)}
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


def _key(server: Server, policy: str) -> str:
    """Only prompts are blocked: what is held back of an answer is text, not time of the guard."""
    answer = ANNOTATE if policy == BLOCK else policy
    text: str = server.call("POST", "/admin/v1/keys", {"guard_prompt": policy, "guard_answer": answer})["key"]
    return text


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
    lines = [
        "| API process, filters that shed nearly all | off | annotate | left of the throughput |",
        "|---|---|---|---|",
    ]
    for name in (plan.MANY, plan.STREAMS):
        off, on = (statistics.median(loads[name, policy]) for policy in (OFF, ANNOTATE))
        told = "answers in one piece" if name == plan.MANY else f"streams of {plan.NUM_CHUNKS} chunks"
        lines.append(f"| {told}, µs per request | {off:.1f} | {on:.1f} | {off / on:.1%} |")
    return lines


def _first_table(firsts: Mapping[tuple[int, str], Sequence[float]]) -> list[str]:
    lines = ["| first token of the starter model | off | annotate | block prompts |", "|---|---|---|---|"]
    for count in CONCURRENT:
        medians = [f"{statistics.median(firsts[count, policy]):.0f} ms" for policy in (OFF, ANNOTATE, BLOCK)]
        lines.append(f"| {count} at a time | {' | '.join(medians)} |")
    return lines


def _results(
    loads: Mapping[tuple[str, str], Sequence[float]], firsts: Mapping[tuple[int, str], Sequence[float]]
) -> list[str]:
    lines = []
    for name, told in ((plan.MANY, "whole"), (plan.STREAMS, "streams")):
        off, on = (statistics.median(loads[name, policy]) for policy in (OFF, ANNOTATE))
        lines.append(f"RESULT guard-throughput-{told} {off / on:.3f}")
    for count in CONCURRENT:
        off, on = (statistics.median(firsts[count, policy]) for policy in (OFF, ANNOTATE))
        lines.append(f"RESULT guard-first-token-{count} {off / on:.3f}")
    return lines


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
