"""The metrics of several API processes in one answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from hodios.api import processes
from hodios.api.processes import Processes


def registry(num: int) -> CollectorRegistry:
    """Of a process that has answered `num` requests."""
    found = CollectorRegistry()
    asked = Counter("asked", "How often somebody asked.", ("model",), registry=found)
    seconds = Histogram("seconds", "How long it took.", registry=found, buckets=(1.0,))
    for _ in range(num):
        asked.labels('a "b"\n').inc()
        seconds.observe(0.5)
    if num > 2:
        Counter("rare", "What only some know.", registry=found).inc()
    return found


def values(text: bytes, name: str) -> dict[str, float]:
    """By process. The parser refuses samples that do not stand together."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {sample.labels["process"]: sample.value for sample in samples}


@pytest.fixture
def sockets(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"{number}.sock" for number in (1, 2, 3)]


async def test_one_process_adds_nothing() -> None:
    text = await Processes().metrics(registry(1))
    assert b"process" not in text
    assert b"asked_total" in text


async def test_whoever_is_asked_tells_of_all(sockets: list[Path]) -> None:
    async with AsyncExitStack() as stack:
        for number in (1, 2, 3):
            await stack.enter_async_context(Processes(number, sockets).telling(registry(number)))
        for asked in (1, 3):
            text = await Processes(asked, sockets).metrics(registry(asked))
            assert values(text, "asked_total") == {"1": 1, "2": 2, "3": 3}
            assert values(text, "seconds_count") == {"1": 1, "2": 2, "3": 3}
            assert values(text, "rare_total") == {"3": 1}
            assert values(text, "hodios_process_up") == {"1": 1, "2": 1, "3": 1}


async def test_a_process_that_is_gone_is_told_and_back_again(sockets: list[Path]) -> None:
    first = Processes(1, sockets[:2])
    async with Processes(2, sockets[:2]).telling(registry(2)):
        assert sockets[1].exists()
    assert not sockets[1].exists()
    text = await first.metrics(registry(1))
    assert values(text, "asked_total") == {"1": 1}
    assert values(text, "hodios_process_up") == {"1": 1, "2": 0}
    # Its socket is still there after a kill, and must not stop the next one.
    sockets[1].unlink(missing_ok=True)
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), sockets[1])
    server.close()
    async with Processes(2, sockets[:2]).telling(registry(2)):
        assert values(await first.metrics(registry(1)), "hodios_process_up") == {"1": 1, "2": 1}


async def test_a_process_that_hangs_holds_nobody_up(sockets: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ANSWER_WITHIN_S", 0.05)
    asked: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda reader, writer: asked.append(writer), sockets[1])
    text = await Processes(1, sockets[:2]).metrics(registry(1))
    assert values(text, "hodios_process_up") == {"1": 1, "2": 0}
    server.close()
    for writer in asked:
        writer.close()
        await writer.wait_closed()
