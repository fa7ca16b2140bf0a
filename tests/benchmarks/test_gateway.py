"""The pure parts of the gateway's benchmark, and its load on the upstream of our own."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from msgspec import structs

from benchmarks import figures, gateway, gateway_peers, load, upstream
from benchmarks import gateway_plan as plan
from benchmarks.figures import Samples
from benchmarks.load import Seen
from benchmarks.processes import Process

TEXTS = [text.encode() for text in plan.texts()]


def test_the_answers_have_the_sizes_that_are_told() -> None:
    answer = plan.whole_answer()
    assert len(answer) == 600
    assert json.loads(answer)["choices"][0]["message"]["content"]
    *chunks, done, rest = plan.streamed_answer().split(b"\n\n")
    assert (len(chunks), done, rest) == (502, b"data: [DONE]", b"")
    deltas = [json.loads(chunk.removeprefix(b"data: "))["choices"][0]["delta"] for chunk in chunks]
    assert [delta["content"] for delta in deltas if "content" in delta] == plan.texts()


def test_right_answers_are_right() -> None:
    assert load.problem(200, plan.whole_answer(), []) == ""
    assert load.problem(200, plan.streamed_answer(), TEXTS) == ""
    spaced = plan.streamed_answer().replace(b'"content":', b'"content": ')
    assert load.problem(200, spaced, TEXTS) == ""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b'"content":" word7"', b'"content":""', "499 chunks"),
        (b" word7", b" word7 word8", "number 7"),
        (b" word499", b" word498", "number 499"),
        (b"data: [DONE]", b"", "no end"),
    ],
)
def test_a_chunk_out_of_place_is_found(old: bytes, new: bytes, expected: str) -> None:
    answer = plan.streamed_answer()
    assert answer.count(old)
    assert expected in load.problem(200, answer.replace(old, new, 1), TEXTS)


def test_other_answers_are_told() -> None:
    assert load.problem(503, b"overloaded", []) == "status 503: b'overloaded'"
    assert "no chat completion" in load.problem(200, b"{}", [])


def test_times_become_figures() -> None:
    times = [(0.001 * number, 0.002 * number) for number in range(100, 0, -1)]
    seen = load.seen(times, 4.0)
    assert seen == Seen(num=100, rate=25.0, p50_ms=100.0, p99_ms=198.0, first_ms=50.0)
    assert load.percentile([3.0], 0.99) == load.percentile([3.0], 0.5) == 3.0


def noted(**figures_of: dict[str, Seen]) -> Samples:
    samples = Samples()
    for subject, found in figures_of.items():
        for name, seen in found.items():
            plan.note(samples, subject, name, seen)
    return samples


def seen(rate: float = 100.0, p50_ms: float = 1.0, p99_ms: float = 2.0, first_ms: float = 1.0) -> Seen:
    return Seen(num=1, rate=rate, p50_ms=p50_ms, p99_ms=p99_ms, first_ms=first_ms)


def test_every_line_is_about_something_that_is_measured() -> None:
    names = [*plan.loads(1.0, is_streamed=False), *plan.loads(1.0, is_streamed=True)]
    samples = noted(**{subject: {name: seen() for name in names} for subject in (plan.DIRECT, *plan.GATEWAYS)})
    samples.add(plan.OURS, plan.RESIDENT, 100.0)
    assert set(samples.figures) == set(plan.UNITS)
    plan.judge(samples)
    lines = figures.result_lines(figures.results(samples, plan.ratios()))
    assert len(lines) == len(plan.ratios()) == len({line.split()[1] for line in lines})
    assert all(re.fullmatch(r"RESULT [a-z0-9-]+ \d+\.\d{3}", line) for line in lines)


def test_targets_are_met_from_one_on() -> None:
    ours = {
        plan.SINGLE: seen(p50_ms=0.40, p99_ms=1.6),
        plan.MANY: seen(rate=10400.0),
        plan.FIRST: seen(first_ms=1.5),
        plan.STREAMS: seen(rate=60_000 / 502),
    }
    direct = {plan.SINGLE: seen(p50_ms=0.10, p99_ms=1.1), plan.FIRST: seen(first_ms=0.5)}
    samples = noted(**{plan.DIRECT: direct, plan.OURS: ours})
    samples.add(plan.OURS, plan.RESIDENT, 240.0)
    plan.judge(samples)
    found = {result.name: result.ratio for result in figures.results(samples, plan.ratios())}
    assert found == pytest.approx(
        {
            "gateway-rate": 2.0,
            "gateway-added-p50": 1.0,
            "gateway-added-p99": 2.0,
            "gateway-memory": 0.5,
            "gateway-chunks": 1.0,
            "gateway-added-first-token": 0.5,
        }
    )


def test_every_gateway_is_started_in_front_of_the_upstream(tmp_path: Path) -> None:
    for name in plan.GATEWAYS:
        launch = gateway_peers.launch(name, tmp_path, 4711, 4712)
        told = [*launch.argv, *launch.env.values(), *launch.headers.values()]
        config = tmp_path / "config-4711.json"
        told += [config.read_text()] if name == plan.LITELLM else []
        assert any("http://127.0.0.1:4711" in each for each in told)
        assert any("4712" in each for each in told)


def test_a_process_has_its_children_beside_it() -> None:
    assert gateway_peers.tree(2**22 + 1) == []
    assert gateway_peers.tree(1)[0] == 1


def test_without_nginx_the_upstream_is_our_own_and_the_load_reads_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream.shutil, "which", lambda *_, **__: None)
    whole, streamed = gateway_peers.free_port(), gateway_peers.free_port()
    answers = {whole: (upstream.JSON, plan.whole_answer()), streamed: (upstream.EVENTS, plan.streamed_answer())}
    root = Path(upstream.__file__).parents[1]
    process = Process(
        upstream.command(tmp_path, answers), tmp_path / "log", env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        for port in answers:
            for asked in plan.loads(0.02, is_streamed=port == streamed).values():
                found = asyncio.run(measured(structs.replace(asked, port=port), process))
                assert found.num
                assert found.p99_ms >= found.p50_ms
    finally:
        process.close()


async def test_a_gateway_that_falls_silent_ends_the_measurement_and_a_slow_one_does_not() -> None:
    answer = upstream.response(upstream.JSON, plan.whole_answer())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"512}")
        for at in range(0, len(answer) if is_slow else 300, 50):
            writer.write(answer[at : at + 50])
            await asyncio.sleep(0.2)
        await gone.wait()
        writer.close()

    (asked, _) = plan.loads(0.0, is_streamed=False).values()
    for is_slow in (True, False):
        gone = asyncio.Event()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            running = load.run(structs.replace(asked, port=port), patience_s=1.0)
            if is_slow:
                assert (await running).num == 1
            else:
                with pytest.raises(load.Failure, match=r"nothing came for 1 s, after 0 answers and \d+ bytes"):
                    await running
            gone.set()


def test_a_load_that_fails_is_told_with_all_that_it_said() -> None:
    done = subprocess.CompletedProcess([], 3, stdout="half of it\n", stderr=" it broke \n")
    assert gateway._failure(done) == "the load ended with 3: stderr it broke; stdout half of it"
    silent = subprocess.CompletedProcess([], -9, stdout="", stderr="")
    assert gateway._failure(silent) == "the load ended with -9: it said nothing"


async def measured(asked: load.Load, process: Process) -> Seen:
    while True:
        process.require_running()
        try:
            return await load.run(asked)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)


def test_nginx_serves_each_answer_on_its_port(tmp_path: Path) -> None:
    types = {4711: upstream.JSON, 4712: upstream.EVENTS}
    config = upstream.nginx_config(tmp_path, types, is_root=False)
    assert "user " not in config, "nginx warns where it cannot be heeded"
    assert upstream.nginx_config(tmp_path, types, is_root=True).startswith("user root ")
    for port, kind in ((4711, upstream.JSON), (4712, upstream.EVENTS)):
        server = config.partition(f"listen 127.0.0.1:{port};")[2].partition("listen")[0]
        assert f"default_type {kind};" in server
        assert f"try_files /{port} =404" in server
