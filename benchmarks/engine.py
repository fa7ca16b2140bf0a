"""Measures the engine beside llama.cpp and vLLM: same file, same threads, same run, in turns.

Prints a table and the lines `RESULT name ratio`, of which more is better: throughput ours ÷ theirs, time theirs ÷ ours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import figures
from benchmarks.figures import Samples
from benchmarks.plan import Measurement, measurements, ratios, units
from benchmarks.processes import BenchmarkError
from benchmarks.subjects import Crew
from benchmarks.tasks import Subject
from hodios.machine import cpu_features, cpu_model, num_physical_cores, total_memory_bytes

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"

Answer = TypeVar("Answer")


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    began_s = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            crew = Crew(stack, cache=REPOSITORY / ".cache", env=dict(os.environ), threads=options.threads)
            crew.open(with_best=options.best or options.full, with_vllm=options.full, only=options.subjects)
            plan = measurements(crew.vocab_size, crew.corpus(REPOSITORY), is_quick=options.quick)
            plan = [each for each in plan if not options.only or each.name in options.only]
            samples = _rounds(crew, plan, options.rounds)
            report = _report(crew, samples, options, time.monotonic() - began_s)
    except BenchmarkError as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 1
    print("\n".join(report))
    found = figures.results(samples, ratios())
    print("\n" + "\n".join(figures.result_lines(found)))
    if options.write:
        # Two processors of one name may differ in what decides most.
        section = f"Engine on {', '.join([cpu_model(), *cpu_features()[-1:]])}"
        document = figures.replace_section(DOCUMENT.read_text(encoding="utf-8"), section, report)
        DOCUMENT.write_text(document, encoding="utf-8")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also vLLM, and llama.cpp with its own fastest type")
    parser.add_argument("--best", action="store_true", help="also llama.cpp with its own fastest type")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--threads", type=int, default=num_physical_cores(), help="for everybody (default: all cores)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny tasks, to see that it works; the figures mean nothing"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these measurements")
    parser.add_argument("--subjects", nargs="+", default=[], metavar="NAME", help="only these subjects")
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.only or options.subjects):
        parser.error("--write publishes whole runs only: leave out --quick, --only and --subjects")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return options


def _rounds(crew: Crew, plan: list[Measurement], num_rounds: int) -> Samples:
    """Every measurement of every subject in each round; who comes first alternates, and nobody runs beside another."""
    samples = Samples()
    for number in range(num_rounds):
        for measurement in plan:
            task = measurement.task(number)
            subjects = [crew.subjects[name] for name in measurement.subjects if name in crew.subjects]
            for subject in subjects if number % 2 == 0 else subjects[::-1]:
                began_s = time.monotonic()
                seen = _while_running(subject, partial(subject.measure, task))
                for kind, figure in measurement.figures.items():
                    if kind in seen:
                        samples.add(subject.name, figure, seen[kind])
                shown = ", ".join(f"{kind} {value:.4g}" for kind, value in seen.items())
                took = f"({time.monotonic() - began_s:.1f} s)"
                _tell(f"round {number + 1}/{num_rounds} {measurement.name}: {subject.name}: {shown} {took}")
    return samples


def _while_running(subject: Subject, ask: Callable[[], Answer]) -> Answer:
    subject.resume()
    try:
        return ask()
    finally:
        subject.pause()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report(crew: Crew, samples: Samples, options: argparse.Namespace, took_s: float) -> list[str]:
    found = figures.results(samples, ratios())
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_model()}, {os.cpu_count()} CPUs, {options.threads} threads for everybody, "
        f"{total_memory_bytes() / 2**30:.0f} GiB, {' '.join(cpu_features()) or 'no wide vector instructions'}; "
        f"{options.rounds} rounds in {took_s / 60:.0f} minutes; load average at the end {load}.",
        "",
        f"Model: {crew.model_name}.",
        "",
        *(f"- {subject.name}: {_while_running(subject, subject.describe)}" for subject in crew.subjects.values()),
        "",
        *figures.samples_table(samples, units()),
        "",
        *figures.results_table(found),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
