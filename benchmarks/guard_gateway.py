"""How many requests a second the gateway passes on with filters and without, of a key, at 32 connections.

One core for the API process, one for the load and the server behind it; the guard process beside the one and beside the
other. All in turns, so that what else the machine does falls on all alike: ratios are told within each round.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from benchmarks import gateway_plan as plan
from benchmarks.gateway import measured_load
from benchmarks.gateway_peers import GATEWAY_CPU, LOAD_CPU, free_port, on_cpu
from benchmarks.guard_server import FOLDER, Server
from benchmarks.load import NUMBER, Load
from benchmarks.processes import Process
from benchmarks.upstream import wait_until_up

KNOWN, NEW = "known", "new"
SAME, APART = "beside the API", "beside the load"
PLACES = {SAME: GATEWAY_CPU, APART: LOAD_CPU}
"""Where the guard process runs."""
OFF, ON = "off", "annotate"
NUM_CONNECTIONS = 32
SECONDS = 3.0
_PER_ROUND = 1_000_000
"""Requests of a round have numbers of their own, so that what is new is never said twice."""


class Round(Struct, frozen=True):
    """Answers per second."""

    off: float
    on: float

    @property
    def share(self) -> float:
        return self.on / self.off


Found = Mapping[tuple[str, str], list[Round]]
"""(where the guard is, which texts) → round by round."""


def measure(rounds: int) -> Found:
    """Raises BenchmarkError."""
    found: dict[tuple[str, str], list[Round]] = {}
    with contextlib.ExitStack() as stack:
        ports = _upstream(stack)
        server = Server("gateway", _settings(ports), on_cpu(GATEWAY_CPU, []))
        stack.callback(server.close)
        keys = {policy: server.key(policy, policy) for policy in (OFF, ON)}
        for number in range(rounds + 1):
            for place, cpu in PLACES.items():
                server.put_guard_on(cpu)
                for texts in ports:
                    turns = (OFF, ON) if number % 2 else (ON, OFF)
                    rates = {policy: _rate(server, keys[policy], texts, number) for policy in turns}
                    if number:
                        each = Round(rates[OFF], rates[ON])
                        found.setdefault((place, texts), []).append(each)
                        line = f"round {number}/{rounds} guard {place}, {texts} texts: {each.off:.0f} → {each.on:.0f}/s"
                        print(line, file=sys.stderr, flush=True)
    return found


def table(found: Found) -> list[str]:
    lines = ["| requests/s, 32 connections, a key | filters off | annotate | ratio |", "|---|---|---|---|"]
    for (place, texts), rounds in found.items():
        off, on = (statistics.median([getattr(each, name) for each in rounds]) for name in ("off", "on"))
        ratio = statistics.median([each.share for each in rounds])
        lines.append(f"| {texts} texts, the guard process {place} | {off:,.0f} | {on:,.0f} | {ratio:.2f} |")
    return lines


def results(found: Found) -> list[str]:
    names = {SAME: "same-core", APART: "other-core"}
    return [
        f"RESULT guard-gateway-{texts}-{names[place]} {statistics.median([each.share for each in rounds]):.3f}"
        for (place, texts), rounds in found.items()
    ]


def _upstream(stack: contextlib.ExitStack) -> dict[str, int]:
    """Which texts → the port where all answers are the same, and the one where no two are."""
    folder = FOLDER / "guard-upstream"
    folder.mkdir(parents=True, exist_ok=True)
    ports = {KNOWN: free_port(), NEW: free_port()}
    answer = plan.whole_answer()
    (folder / str(ports[KNOWN])).write_bytes(answer)
    place = answer.index(b"Hello!")
    (folder / str(ports[NEW])).write_bytes(answer[:place] + NUMBER.encode() + answer[place + len(NUMBER) :])
    command = [sys.executable, "-m", "benchmarks.upstream", str(folder), *map(str, ports.values())]
    process = Process(on_cpu(LOAD_CPU, command), FOLDER / "guard-upstream.log", env=dict(os.environ))
    stack.callback(process.close)
    wait_until_up(process, ports[NEW])
    return ports


def _settings(ports: Mapping[str, int]) -> dict[str, str]:
    remotes = {
        texts: {"base_url": f"http://127.0.0.1:{port}/v1", "models": [{"id": f"{texts}/texts", "context_length": 8192}]}
        for texts, port in ports.items()
    }
    home = Path(FOLDER) / "guard-gateway-home"
    return {"HODIOS_HOME": str(home), "HODIOS_MODELS": "", "HODIOS_REMOTE": json.dumps(remotes)}


def _rate(server: Server, key: str, texts: str, number: int) -> float:
    body = json.loads(plan.body(is_streamed=False)) | {"model": f"{texts}/texts"}
    if texts == NEW:
        body["messages"][-1]["content"] += NUMBER
    load = Load(
        body=json.dumps(body),
        num_connections=NUM_CONNECTIONS,
        seconds=SECONDS if number else 1.0,
        first_number=number * _PER_ROUND,
        port=server.port,
        headers={"Authorization": f"Bearer {key}"},
    )
    return measured_load(load, "Hodios").rate
