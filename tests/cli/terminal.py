"""A conversation through a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys


class Terminal:
    """A conversation through a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hodios.cli.main", "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> str:
        """Read until `pattern` is there; what came so far, which is then forgotten."""
        while not re.search(pattern, self.seen):
            assert self._read(60), f"{pattern} does not come after {self.seen!r}"
        seen, self.seen = self.seen, ""
        return seen

    def interrupt(self, pattern: str) -> str:
        """Ctrl-C, until something comes of it: a signal between a check and a wait is noticed at the next one only."""
        for _ in range(60):
            if re.search(pattern, self.seen):
                break
            if not self._read(0.5):
                os.kill(self.process.pid, signal.SIGINT)
        return self.until(pattern)

    def _read(self, patience_s: float) -> bool:
        """Whether anything came."""
        if not select.select([self.master], [], [], patience_s)[0]:
            return False
        self.seen += os.read(self.master, 65536).decode(errors="replace")
        return True

    def end(self) -> int:
        code = self.process.wait()
        os.close(self.master)
        return code
