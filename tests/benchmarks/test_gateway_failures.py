"""Peers that do not do what is asked of them: the others are measured all the same, and it is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gateway
from benchmarks import gateway_plan as plan
from benchmarks.load import Load, Seen
from benchmarks.processes import BenchmarkError, Process

MANY_WORDS = "import sys\nfor line in range(5000):\n    print('GET / 200 OK ' * 5)\nprint('all said', file=sys.stderr)"


class Fake:
    """A gateway of which nothing runs."""

    port = 4712

    def __init__(self, name: str) -> None:
        self.name = name
        self.headers: dict[str, str] = {}

    def resume(self) -> None:
        pass

    pause = resume

    def last_words(self) -> str:
        return "GET / `200` OK\nGET / 200"

    def resident_mib(self) -> float:
        return 99.0


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, list[tuple[str, int]]]]:
    """Runs the benchmark with peers that fail as `fails` says; gives its code, the document, and who was asked what."""
    document = tmp_path / "benchmarks.md"
    document.write_text("# Benchmarks\n")
    monkeypatch.setattr(gateway, "DOCUMENT", document)
    monkeypatch.setattr(gateway, "_require_cpus", lambda: None)
    monkeypatch.setattr(gateway.gateway_peers, "install", lambda *_: None)
    monkeypatch.setattr(gateway.upstream, "opened", lambda *_, **__: {False: 4710, True: 4711})

    def run(fails: Callable[[str, int, int], bool], without: str = "") -> tuple[int, str, list[tuple[str, int]]]:
        asked: list[tuple[str, int]] = []

        def opened(stack: Any, name: str, port: int, *, is_streamed: bool) -> Fake:
            if name == without:
                raise BenchmarkError(f"{name} did not answer within 300 s: no module named x")
            return Fake(name)

        def measured(load: Load, whom: str) -> Seen:
            asked.append((whom, load.num_connections))
            if fails(whom, load.num_connections, asked.count((whom, load.num_connections))):
                raise BenchmarkError(f"{whom}: nothing came for 60 s, after 874 answers")
            return Seen(num=9, rate=100.0, p50_ms=1.0, p99_ms=2.0, first_ms=1.0)

        monkeypatch.setattr(gateway, "_open", opened)
        monkeypatch.setattr(gateway, "measured_load", measured)
        code = gateway.main(["--write", "--rounds", "2", "--seconds", "1"])
        return code, document.read_text(), asked

    return run


def without_figure(document: str, row: str) -> set[str]:
    """Who has none in a row of the table of figures; all others have the same."""
    head = next(line for line in document.splitlines() if line.startswith("|"))
    (line,) = (line for line in document.splitlines() if line.startswith(f"| {row}, "))
    names, figures = ([cell.strip() for cell in each.strip("|").split("|")[1:]] for each in (head, line))
    assert set(names) == {plan.DIRECT, *plan.GATEWAYS}
    assert set(figures) <= {"100", "–"}
    return {name for name, figure in zip(names, figures, strict=True) if figure == "–"}


def test_a_peer_that_falls_silent_is_told_and_the_others_go_on(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, asked = bench(lambda whom, count, _: whom == plan.LITELLM and count == 32)
    assert code == 0
    assert without_figure(document, plan.RATE) == {plan.LITELLM}
    assert without_figure(document, plan.ONE_RATE) == set()
    assert asked.count((plan.LITELLM, 32)) == 1, "it is not asked again"
    assert asked.count((plan.PORTKEY, 32)) == 3
    assert (
        "- LiteLLM, 32-connections: `LiteLLM: nothing came for 60 s, after 874 answers; its log ends with: "
        "GET / '200' OK GET / 200`\n"
    ) in document
    told = capsys.readouterr()
    assert "RESULT gateway-portkey 1.000" in told.out
    assert "RESULT gateway-stream-litellm 1.000" in told.out
    assert "RESULT gateway-litellm " not in told.out
    assert "LiteLLM fails: 32-connections" in told.err


def test_what_was_seen_before_is_kept(bench: Any) -> None:
    code, document, asked = bench(lambda whom, count, time: whom == plan.SMG and count == 32 and time == 3)
    assert code == 0
    assert asked.count((plan.SMG, 32)) == 3
    assert without_figure(document, plan.RATE) == set()
    assert "- smg, 32-connections: `" in document


def test_a_peer_that_does_not_start_is_left_out(bench: Any) -> None:
    code, document, asked = bench(lambda *_: False, plan.PORTKEY)
    assert code == 0
    assert "- Portkey, start: `Portkey did not answer within 300 s: no module named x`" in document
    assert plan.PORTKEY not in {whom for whom, _ in asked}


@pytest.mark.parametrize("name", [plan.OURS, "the upstream"])
def test_without_ourselves_there_is_nothing_to_tell(name: str, bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = bench(lambda whom, *_: whom == name)
    assert code == 1
    assert document == "# Benchmarks\n"
    assert f"The benchmark stopped: {name}: nothing came" in capsys.readouterr().err


def test_nobody_stands_still_because_nobody_reads_what_he_says(tmp_path: Path) -> None:
    """LiteLLM writes a line for each answer: after 874 of them the pipe was full."""
    process = Process([sys.executable, "-c", MANY_WORDS], tmp_path / "log", env={})
    try:
        while process.is_running:
            time.sleep(0.02)
        log = (tmp_path / "log").read_text()
        assert log.count("GET / 200 OK") == 25_000
        assert "all said" in log
    finally:
        process.close()


def test_who_is_read_is_not_in_the_log(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "print('a')\nprint('b')"], tmp_path / "log", env={}, is_read=True)
    try:
        assert (process.read(), process.read()) == (b"a\n", b"b\n")
        assert (tmp_path / "log").read_text() == ""
    finally:
        process.close()
