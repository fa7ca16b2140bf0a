"""The guard process hangs, is killed and comes back while requests are answered."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from bureau import Scripted

from hodios.api.app import create_app
from hodios.config import Config
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.guard.embedded import EmbeddedGuard
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardSettings
from hodios.types import CATEGORIES, Request

KEY = "guard-key-0123456789abcdef0123456789"
PATIENCE_S = 300.0
BREAD = "Bread needs flour, water and time."


class Baker(Scripted):
    """Never says the same twice: what was judged before is known, whoever is away."""

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        yield Started("scripted", "maker/model", "fp_0", 3)
        yield Text(0, f"{BREAD} {uuid.uuid4()}")
        yield Stopped(0, "stop")
        yield Finish(Usage(prompt_tokens=3, completion_tokens=8))


@contextmanager
def worker(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "hodios.guard.worker", "--socket", str(path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


@asynccontextmanager
async def client(home: Path, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    guarding = Guarding(Panel([EmbeddedGuard(home / "s")], clock=time.monotonic), GuardSettings(**settings))
    app = create_app(Config(home=home, admin_key=KEY), [Baker(())], guarding=guarding)
    async with guarding.running(), httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        yield http


async def ask(http: httpx2.AsyncClient) -> httpx2.Response:
    # Nothing else here waits for anything, and so nobody else would have a turn.
    await asyncio.sleep(0.05)
    messages = [{"role": "user", "content": f"How is bread made? {uuid.uuid4()}"}]
    body = {"model": "model", "messages": messages, "content_filter": "details"}
    return await http.post("http://test/v1/chat/completions", json=body)


async def not_evaluated(http: httpx2.AsyncClient) -> list[str]:
    answer = await ask(http)
    assert answer.status_code == 200
    (choice,) = answer.json()["choices"]
    assert choice["message"]["content"].startswith(BREAD)
    told: list[str] = choice["content_filter_details"]["not_evaluated"]
    return told


async def judged(http: httpx2.AsyncClient) -> None:
    """Until guards look again at everything that they can look at."""
    until_s = time.monotonic() + PATIENCE_S
    while len(await not_evaluated(http)) == len(CATEGORIES):
        assert time.monotonic() < until_s


async def test_answers_pass_unjudged_and_say_so_until_it_is_back(tmp_path: Path) -> None:
    async with client(tmp_path, budget_s=1.0) as http:
        assert await not_evaluated(http) == list(CATEGORIES)
        with worker(tmp_path / "s") as process:
            await judged(http)
            os.kill(process.pid, signal.SIGSTOP)
            assert await not_evaluated(http) == list(CATEGORIES), "it hangs"
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)
            assert await not_evaluated(http) == list(CATEGORIES), "it is gone"
        with worker(tmp_path / "s"):
            await judged(http)


@pytest.mark.parametrize("side", ["prompt", "answer"])
async def test_nothing_passes_while_it_is_away_where_that_is_said(tmp_path: Path, side: str) -> None:
    async with client(tmp_path, **{side: "block", "when_down": "closed", "budget_s": 1.0}) as http:
        answer = await ask(http)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "guard_unavailable")
        with worker(tmp_path / "s") as process:
            until_s = time.monotonic() + PATIENCE_S
            while (await ask(http)).status_code != 200:
                assert time.monotonic() < until_s
            os.kill(process.pid, signal.SIGSTOP)
            assert (await ask(http)).status_code == 503
