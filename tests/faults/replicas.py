"""API processes that share a database, which are killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ADMIN_KEY = "replicas-admin-key-0123456789abcdef"
_ENDED_WELL = (0, -signal.SIGTERM)
_STOP_S = 60.0
"""More than the 30 s that open requests have, and the 10 s for what the store does not have yet."""


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Of a process with these settings, HODIOS_*, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
    return {**kept, "HODIOS_HOME": str(home), "HODIOS_ADMIN_KEY": ADMIN_KEY, "HODIOS_MODELS": "", **settings}


class Replica:
    """One API process. Its socket stays open while it is dead, so that clients wait for the next one. Several may have
    a home in common."""

    def __init__(self, home: Path, log: Path, settings: Mapping[str, str]) -> None:
        self.home = home
        self.num_starts = 0
        self.num_failed_starts = 0
        """Times that it ended by itself, since the store could not be reached."""
        self.num_answers = 0
        """Since it was started last."""
        self._env = environment(home, **settings)
        self._log = log
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hodios.api", "--fd", str(self._listener.fileno())],
                env=self._env,
                pass_fds=(self._listener.fileno(),),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.num_starts += 1
        self.num_answers = 0

    def tend(self) -> None:
        """Start it again where it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self.num_failed_starts += 1
            self.start()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(_STOP_S) in _ENDED_WELL, self.told()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._listener.close()

    def told(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-3000:]


def sections(**servers: tuple[str, float]) -> str:
    """HODIOS_REMOTE of servers with one model, each by its URL and its dollars per million tokens."""
    return json.dumps({name: _section(url, dollars) for name, (url, dollars) in servers.items()})


def _section(url: str, dollars: float) -> dict[str, object]:
    model = {
        "id": MODEL,
        "context_length": 1000,
        "max_output_tokens": 200,
        "family": "hermes",
        "continues": True,
        "price": {"prompt": dollars, "completion": dollars},
    }
    return {"base_url": url, "prefill": "assistant", "models": [model]}


MODEL = "maker/model"
