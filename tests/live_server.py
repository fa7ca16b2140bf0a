"""A real `hodios serve` as a child of the tests: its address, its key, its processes, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
KEY = "live-key-0123456789abcdef0123456789"
PATIENCE_S = 300.0
"""Far above what anything takes; on a machine that others use, too."""


@dataclass
class LiveServer:
    """One run of the server. `url` is without a path."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    key: str = KEY

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status 0 where nobody answers."""
        request = urllib.request.Request(self.url + path, headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def model_health(self) -> dict[str, Any]:
        status, report = self.get("/health")
        assert status in (200, 503), report
        (health,) = report["models"]
        return health

    def stats(self) -> dict[str, Any]:
        return self.model_health()["stats"]

    def settled(self) -> dict[str, Any]:
        """The engine's figures once nothing runs and every KV block is free; fails where that never comes."""

        def look() -> dict[str, Any] | None:
            stats = self.stats()
            is_free = stats and stats["free_blocks"] == stats["num_blocks"]
            return stats if is_free and not stats["num_running"] and not stats["num_waiting"] else None

        return until(look, lambda: f"the engine does not come to rest: {self.model_health()}\n{self.told()}")

    def pid_of(self, module: str) -> int | None:
        """The child that runs `module`, if there is one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if module.encode() in arguments:
                return int(pid)
        return None

    @property
    def engine_pid(self) -> int | None:
        return self.pid_of("hodios.engine.worker")

    @property
    def api_pid(self) -> int | None:
        return self.pid_of("hodios.api")

    def told(self) -> str:
        """The end of what the server wrote."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


def start(home: Path, log: Path, **settings: str) -> LiveServer:
    """Returns when the server has told its address, which is when the model is ready. `settings` are HODIOS_*."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
    env |= {"HODIOS_HOME": str(home), "HODIOS_PORT": "0", "HODIOS_ADMIN_KEY": KEY, "HODIOS_MODELS": MODEL, **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("hodios")), "serve"],
            **{"env": env, "cwd": log.parent, "stdin": subprocess.DEVNULL, "stdout": output, "stderr": output},
        )
    server = LiveServer(process, "", log)

    def address() -> str | None:
        assert process.poll() is None, f"the server ended with code {process.returncode}: {server.told()}"
        found = re.search(r"serves at (http://\S+) ", log.read_text(errors="replace"))
        return found and found[1]

    try:
        server.url = until(address, lambda: f"the server does not come up: {server.told()}")
    except BaseException:
        server.stop()
        raise
    return server


def run_apart(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A foreign program, to its end, without our terminal: some stop the whole process group when they reach for it."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        **options,
    )


def stream_events(text: str) -> list[dict[str, Any]]:
    """The events of a stream that ended as it should, without comments and `[DONE]`."""
    events = [event for event in text.split("\n\n") if not event.startswith(":")]
    assert events[-2:] == ["data: [DONE]", ""], events[-3:]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def until(
    look: Callable[[], Any], explain: Callable[[], str], every_s: float = 0.05, patience_s: float = PATIENCE_S
) -> Any:
    """What `look` finds once it finds something. Polls: other processes offer nothing to await."""
    deadline_s = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, explain()
        time.sleep(every_s)
    return found
