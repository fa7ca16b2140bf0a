"""Processes that are killed: nobody waits for ever, nothing is left behind, and what can go on does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from live_server import KEY, MODEL, PATIENCE_S, LiveServer, stream_events, until

ENDLESS: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "ignore_eos": True, "max_tokens": 8000}


@pytest.fixture(scope="module")
def server(start_server: Callable[..., LiveServer]) -> LiveServer:
    """Its children may be killed."""
    return start_server()


def client_of(server: LiveServer) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, headers=server.headers, timeout=PATIENCE_S)


async def stream(http: httpx2.AsyncClient, begun: asyncio.Semaphore, body: dict[str, Any]) -> str:
    """The whole text of a stream; `begun` is released with its first event."""
    text = ""
    async with http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        async for part in answer.aiter_text():
            if not text:
                begun.release()
            text += part
    return text


async def begin(http: httpx2.AsyncClient, num_streams: int, body: dict[str, Any]) -> list[asyncio.Task[str]]:
    """Streams of which each has said something."""
    begun = asyncio.Semaphore(0)
    streams = [asyncio.create_task(stream(http, begun, body)) for _ in range(num_streams)]
    for _ in streams:
        await begun.acquire()
    return streams


def is_ready(server: LiveServer) -> bool:
    return server.get("/health/ready")[0] == 200


def is_gone(pid: int) -> bool:
    """Or dead, and nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def has_pending_signals(pid: int) -> bool:
    pending = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Pnd:" in line]
    return any(int(line.split()[1], 16) for line in pending)


def ask(server: LiveServer) -> str:
    """By a client that tries again, as official ones do."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=100, timeout=PATIENCE_S) as client:
        return client.completions.create(model=MODEL, prompt="The sky is", max_tokens=4).choices[0].text


async def test_a_killed_engine(server: LiveServer) -> None:
    restarts, killed = server.model_health()["restarts"], server.engine_pid
    assert killed is not None
    async with client_of(server) as http:
        waiting = asyncio.create_task(http.post("/v1/completions", json=ENDLESS))
        streams = await begin(http, 8, ENDLESS)
        os.kill(killed, signal.SIGKILL)
        for text in await asyncio.gather(*streams):
            *chunks, last = stream_events(text)
            assert not any("error" in chunk for chunk in chunks)
            assert list(last["error"])[:4] == ["message", "type", "param", "code"]
            assert (last["error"]["type"], last["error"]["code"]) == ("overloaded", "engine_restarted")
            assert [choice["finish_reason"] for choice in last["choices"]] == ["error"]
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_restarted")
        assert int(answer.headers["retry-after"]) >= 1
        absent = await http.post("/v1/completions", json=ENDLESS)
        assert (absent.status_code, absent.json()["error"]["code"]) == (503, "engine_restarting")
        assert int(absent.headers["retry-after"]) >= 1
    assert server.get("/health/live")[0] == 200
    assert server.get("/health/ready")[0] == 503
    health = server.model_health()
    assert (health["state"], health["restarts"], health["stats"]) == ("restarting", restarts + 1, {})
    assert ask(server)
    assert is_ready(server)
    assert server.engine_pid != killed
    assert server.model_health()["restarts"] == restarts + 1
    server.settled()


def test_an_engine_that_is_killed_while_idle(server: LiveServer) -> None:
    until(lambda: is_ready(server), server.told)
    restarts, killed = server.model_health()["restarts"], server.engine_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: server.model_health()["restarts"] == restarts + 1, server.told)
    until(lambda: is_ready(server), server.told)
    assert ask(server)


async def test_two_servers_of_one_home_do_not_meet(server: LiveServer, start_server: Callable[..., LiveServer]) -> None:
    other = start_server()
    killed = server.engine_pid
    assert killed is not None
    async with client_of(other) as http:
        streams = await begin(http, 2, {**ENDLESS, "max_tokens": 200})
        os.kill(killed, signal.SIGKILL)
        until(lambda: server.engine_pid not in (None, killed), server.told)
        for text in await asyncio.gather(*streams):
            assert stream_events(text)[-1]["choices"][0]["finish_reason"] == "length"
    assert other.model_health()["restarts"] == 0
    other.settled()
    assert other.stop() == 0
    assert ask(server)


async def test_a_killed_api_process(server: LiveServer) -> None:
    """The engine forgets the requests of who is gone, and clients that come meanwhile wait at the same address."""
    until(lambda: is_ready(server), server.told)
    engine, killed = server.engine_pid, server.api_pid
    assert killed is not None
    async with client_of(server) as http:
        streams = await begin(http, 4, ENDLESS)
        os.kill(killed, signal.SIGKILL)
        for broken in await asyncio.gather(*streams, return_exceptions=True):
            assert isinstance(broken, httpx2.TransportError), broken
    assert await asyncio.to_thread(ask, server)
    assert server.api_pid not in (None, killed)
    assert server.engine_pid == engine
    server.settled()


async def test_a_killed_parent_takes_all_with_it(start_server: Callable[..., LiveServer]) -> None:
    server = start_server()
    children = [server.engine_pid, server.api_pid]
    assert None not in children
    async with client_of(server) as http:
        streams = await begin(http, 2, ENDLESS)
        server.process.kill()
        server.process.wait()
        await asyncio.gather(*streams, return_exceptions=True)
    until(lambda: all(is_gone(pid) for pid in children if pid), lambda: f"{children} live on: {server.told()}")
    assert server.get("/health/live")[0] == 0


async def test_a_stop_lets_answers_finish(start_server: Callable[..., LiveServer]) -> None:
    server = start_server()
    children = [server.engine_pid, server.api_pid]
    finite = {**ENDLESS, "max_tokens": 100}
    async with client_of(server) as http:
        waiting = asyncio.create_task(http.post("/v1/completions", json=finite))
        streams = await begin(http, 2, finite)
        server.process.terminate()
        for text in await asyncio.gather(*streams):
            events = stream_events(text)
            assert [event["choices"][0]["finish_reason"] for event in events[-2:]] == [None, "length"]
        answer = await waiting
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens"] == 100
    assert server.process.wait(PATIENCE_S) == 0
    assert all(is_gone(pid) for pid in children if pid)


async def test_who_cannot_wait_stops_twice(start_server: Callable[..., LiveServer]) -> None:
    server = start_server()
    async with client_of(server) as http:
        streams = await begin(http, 2, ENDLESS)
        server.process.send_signal(signal.SIGINT)
        # Two of one kind that are pending are one.
        until(lambda: not has_pending_signals(server.process.pid), server.told)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
        await asyncio.gather(*streams, return_exceptions=True)
