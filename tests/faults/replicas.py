"""API processes that share a database and are killed, in front of a server that counts what it generates."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

MODEL = "maker/model"
ADMIN_KEY = "replicas-admin-key-0123456789abcdef"
NANO_A_TOKEN = 1000
_DOLLARS_A_MILLION = 1.0


class CountingUpstream:
    """Streams a random number of tokens; the last user message is the name under which they are counted."""

    def __init__(self, rng: random.Random, per_token_s: float) -> None:
        self._rng = rng
        self._per_token_s = per_token_s
        self.num_generated: Counter[str] = Counter()
        self.whole: set[str] = set()
        """Names of answers that were sent to their end."""
        self.num_open = 0
        """Answers on their way."""
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.num_open += 1
        try:
            return await self._answer(request)
        finally:
            self.num_open -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        name = asked["messages"][-1]["content"]
        num_tokens = self._rng.randint(1, 40)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(num_tokens):
            await asyncio.sleep(self._per_token_s)
            await response.write(_event({"choices": [{"index": 0, "delta": {"content": "a "}}]}))
            self.num_generated[name] += 1
        usage = {"prompt_tokens": 10, "completion_tokens": num_tokens, "total_tokens": 10 + num_tokens}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
        await response.write(_event(end) + b"data: [DONE]\n\n")
        self.whole.add(name)
        return response

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        return runner


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


class Replica:
    """One API process. Its socket stays open while it is dead, so that clients wait for the next one."""

    def __init__(self, home: Path, store_url: str, upstream_url: str, secret: str) -> None:
        home.mkdir(parents=True)
        (home / "keys.secret").write_text(secret)
        (home / "keys.secret").chmod(0o600)
        model = {
            "id": MODEL,
            "context_length": 1000,
            "max_output_tokens": 60,
            "price": {"prompt": _DOLLARS_A_MILLION, "completion": _DOLLARS_A_MILLION},
        }
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")} | {
            "HODIOS_HOME": str(home),
            "HODIOS_ADMIN_KEY": ADMIN_KEY,
            "HODIOS_MODELS": "",
            "HODIOS_STORE_URL": store_url,
            "HODIOS_REMOTE": json.dumps({"upstream": {"base_url": upstream_url, "models": [model]}}),
        }
        self._home = home
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hodios.api", "--fd", str(self._listener.fileno())],
                env=self._env,
                pass_fds=(self._listener.fileno(),),
                cwd=self._home,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait() in (0, -signal.SIGTERM), (self._home / "log").read_text()[-2000:]

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._listener.close()
