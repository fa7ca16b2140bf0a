"""A Redis of our own for tests, which may stop and start it."""

from __future__ import annotations

import subprocess
from pathlib import Path


class RedisServer:
    """Keeps nothing when it ends."""

    def __init__(self, program: str, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self._command = [program, "--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(folder)]
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        """Unless it runs."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        while "ready to accept connections" not in (line := self._process.stdout.readline()):
            assert line, "Redis has ended"

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
