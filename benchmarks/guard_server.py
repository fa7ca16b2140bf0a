"""`hodios serve` with its guards, for measurements: started, waited for until it is ready, and asked."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gateway_peers import KEY, free_port, tree
from benchmarks.processes import BenchmarkError, Process

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks"
_PATIENCE_S = 300.0


class Server:
    """Ready to answer. `prefix` is a program that starts others."""

    def __init__(self, name: str, settings: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.port = free_port()
        env = {key: value for key, value in os.environ.items() if not key.startswith("HODIOS_")}
        env |= {"HODIOS_PORT": str(self.port), "HODIOS_ADMIN_KEY": KEY, **settings}
        command = [*prefix, sys.executable, "-m", "hodios.cli.main", "serve"]
        self.process = Process(command, FOLDER / f"guard-{name}.log", env=env)
        try:
            self._wait(lambda: self.call("GET", "/health/ready"))
            self._wait(self._has_guard)
        except BaseException:
            self.close()
            raise

    def _has_guard(self) -> bool:
        report = self.call("GET", "/health")
        return all(guard["state"] == "ready" for guard in report["guards"])

    def _wait(self, look: Callable[[], Any]) -> None:
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

    def key(self, prompt: str, answer: str) -> str:
        """The text of a new key with such a policy."""
        text: str = self.call("POST", "/admin/v1/keys", {"guard_prompt": prompt, "guard_answer": answer})["key"]
        return text

    def put_guard_on(self, cpu: int) -> None:
        """The guard process. Raises BenchmarkError where there is none."""
        found = [pid for pid in tree(self.process.pid) if b"hodios.guard.worker" in _command(pid)]
        if not found:
            raise BenchmarkError("the server has no guard process")
        for pid in found:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {cpu})

    def close(self) -> None:
        self.process.close()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
