"""Measures Hodios as a gateway beside vllm-router, smg, Portkey and LiteLLM: one core for the gateway, one for the load
and a static upstream, all in the same run, in turns.

A peer that does not start or does not answer under load is told so below the table, and the others go on.

Prints a table and the lines `RESULT name ratio`, of which more is better: throughput ours ÷ theirs, time theirs ÷ ours,
and what has a target of its own as a share of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs

from benchmarks import figures, gateway_peers, upstream
from benchmarks import gateway_plan as plan
from benchmarks.figures import Samples
from benchmarks.gateway_failures import Failures
from benchmarks.gateway_peers import LOAD_CPU, Gateway, free_port, on_cpu
from benchmarks.load import Load, Seen
from benchmarks.processes import BenchmarkError
from hodios.machine import cpu_model

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MODULE = "benchmarks.gateway"


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    began_s = time.monotonic()
    samples, failures = Samples(), Failures()
    try:
        _require_cpus()
        for name in options.subjects:
            if name in gateway_peers.PACKAGES:
                gateway_peers.install(name, CACHE / "gateways" / name.lower(), dict(os.environ))
        with contextlib.ExitStack() as stack:
            folder = CACHE / "benchmarks" / "upstream"
            ports = upstream.opened(stack, folder, _log("upstream"), prefix=on_cpu(LOAD_CPU, []))
            for is_streamed, port in ports.items():
                with contextlib.ExitStack() as phase:
                    names = [name for name in options.subjects if not is_streamed or name in plan.STREAMING]
                    found = [_opened(phase, failures, name, port, is_streamed=is_streamed) for name in names]
                    gateways = [gateway for gateway in found if gateway is not None]
                    _rounds(samples, failures, gateways, port, options, is_streamed=is_streamed)
    except BenchmarkError as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 1
    report = _report(samples, failures, options, time.monotonic() - began_s)
    print("\n".join(report))
    print("\n" + "\n".join(figures.result_lines(figures.results(samples, plan.ratios()))))
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        section = f"Gateway on {cpu_model()}"
        DOCUMENT.write_text(figures.replace_section(text, section, report, by=MODULE), encoding="utf-8")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement (default: 3)")
    parser.add_argument(
        "--subjects", nargs="+", choices=plan.GATEWAYS, default=plan.GATEWAYS, help="only these gateways"
    )
    options = parser.parse_args(arguments)
    if options.write and set(options.subjects) != set(plan.GATEWAYS):
        parser.error("--write publishes whole runs only: leave out --subjects")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1, and --seconds more than 0")
    return options


def _require_cpus() -> None:
    if not {gateway_peers.GATEWAY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        raise BenchmarkError("it takes processor cores 0 and 1, one for the gateway and one for the load")


def _log(name: str) -> Path:
    return CACHE / "benchmarks" / f"gateway-{name.lower()}.log"


def _open(stack: contextlib.ExitStack, name: str, upstream_port: int, *, is_streamed: bool) -> Gateway:
    folder = CACHE / "benchmarks" / "gateway-home" if name == plan.OURS else CACHE / "gateways" / name.lower()
    port = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("HODIOS_")}
    launch = gateway_peers.launch(name, folder, upstream_port, port)
    gateway = Gateway(name, launch, port, _log(name), env, is_streamed=is_streamed)
    stack.callback(gateway.close)
    gateway.pause()
    return gateway


def _opened(
    stack: contextlib.ExitStack, failures: Failures, name: str, upstream_port: int, *, is_streamed: bool
) -> Gateway | None:
    """None where a peer does not start."""
    try:
        return _open(stack, name, upstream_port, is_streamed=is_streamed)
    except BenchmarkError as error:
        failures.note(name, "start", error)
        return None


def _rounds(
    samples: Samples,
    failures: Failures,
    gateways: list[Gateway],
    direct: int,
    options: argparse.Namespace,
    *,
    is_streamed: bool,
) -> None:
    """Everybody in each round; who comes first alternates. The first of all answers are not counted."""
    for number in range(options.rounds + 1):
        seconds = options.seconds if number else min(options.seconds, 1.0)
        loads = plan.loads(seconds, is_streamed=is_streamed)
        turns = gateways if number % 2 == 0 else gateways[::-1]
        for gateway in (None, *turns):
            subject = plan.DIRECT if gateway is None else gateway.name
            seen = _turn(failures, gateway, subject, loads, direct)
            if number:
                for name, figures_of in seen.items():
                    plan.note(samples, subject, name, figures_of)
                    _tell(
                        f"round {number}/{options.rounds} {subject}: {name}: {figures_of.rate:,.0f}/s, "
                        f"{figures_of.p50_ms:.3g} ms"
                    )
                if gateway is not None and not is_streamed and len(seen) == len(loads):
                    samples.add(subject, plan.RESIDENT, gateway.resident_mib())


def _turn(
    failures: Failures, gateway: Gateway | None, subject: str, loads: dict[str, Load], direct: int
) -> dict[str, Seen]:
    """What was seen of each load, but for those at which the peer has failed once."""
    found = {}
    for name, load in loads.items():
        if not failures.has(subject, name):
            try:
                found[name] = _measured(gateway, load, direct)
            except BenchmarkError as error:
                failures.note(subject, name, error)
    return found


def _measured(gateway: Gateway | None, load: Load, direct: int) -> Seen:
    """Raises BenchmarkError where an answer is not what it has to be."""
    if gateway is None:
        return measured_load(structs.replace(load, port=direct), "the upstream")
    gateway.resume()
    try:
        return measured_load(structs.replace(load, port=gateway.port, headers=gateway.headers), gateway.name)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}; its log ends with: {gateway.last_words()}") from None
    finally:
        gateway.pause()


def measured_load(load: Load, whom: str) -> Seen:
    """On the core of the load. Raises BenchmarkError."""
    command = on_cpu(LOAD_CPU, [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(load).decode()])
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{whom}: {_failure(done)}")
    return msgspec.json.decode(done.stdout, type=Seen)


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    """Of the load: how it ended, and the end of all that it said."""
    said = "; ".join(
        f"{name} {text.strip()[-500:]}"
        for name, text in (("stderr", done.stderr), ("stdout", done.stdout))
        if text.strip()
    )
    return f"the load ended with {done.returncode}: {said or 'it said nothing'}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report(samples: Samples, failures: Failures, options: argparse.Namespace, took_s: float) -> list[str]:
    table = figures.samples_table(samples, plan.UNITS)
    plan.judge(samples)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    versions = ", ".join(package for name, package in gateway_peers.PACKAGES.items() if name in options.subjects)
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_model()}, {os.cpu_count()} CPUs, one for the gateway, one for the load; "
        f"{options.rounds} rounds of {options.seconds:g} s each in {took_s / 60:.0f} minutes; "
        f"load average at the end {load}.",
        "",
        f"{versions}.",
        "",
        *table,
        "",
        *failures.lines(),
        *figures.results_table(figures.results(samples, plan.ratios())),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
