"""Child processes that stand still while another one is measured, and die with the benchmark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.tasks import Figures, Task

_PR_SET_PDEATHSIG = 1
_QUIET_SHARE = 0.1
"""Of a core: below this a process has nothing more to do."""


class BenchmarkError(Exception):
    """A measurement cannot be taken; the message says why and where to look."""


class Process:
    """A child whose standard error goes to a file, and its standard output too, unless it is read here line by line: a
    pipe that nobody reads is full after 64 KiB, and then the child stands still."""

    def __init__(
        self,
        argv: Sequence[str],
        log_path: Path,
        *,
        pass_fds: Sequence[int] = (),
        env: dict[str, str],
        is_read: bool = False,
    ) -> None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path = log_path
        with log_path.open("wb") as log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if is_read else log,
                stderr=log,
                env=env,
                pass_fds=pass_fds,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no threads when it starts children
            )

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def pause(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self.resume()
        self._child.terminate()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def require_running(self) -> None:
        if not self.is_running:
            raise BenchmarkError(f"{self._child.args!r:.200} ended with {self._child.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        return " / ".join(self.log_path.read_text(errors="replace").strip().splitlines()[-5:])

    def wait_quiet(self, interval_s: float = 0.5) -> None:
        """Until it uses hardly any processor time: what it does in the background after its start is done."""
        before = self._cpu_s()
        while True:
            time.sleep(interval_s)
            self.require_running()
            now = self._cpu_s()
            if now - before < _QUIET_SHARE * interval_s:
                return
            before = now

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def write(self, line: bytes) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + b"\n")
        self._child.stdin.flush()

    def read(self) -> bytes:
        """One line of its standard output. Raises BenchmarkError at its end."""
        assert self._child.stdout is not None, "its output goes to its log"
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
            self.require_running()
        return line


class Peer:
    """Another engine behind a driver that says a JSON object when it is ready, and then one for each it is given."""

    def __init__(
        self, name: str, python: Path, driver: Path, arguments: Sequence[str], log_path: Path, env: dict[str, str]
    ) -> None:
        self.name = name
        # -P: modules that lie beside the driver must not stand in for the libraries it imports.
        self._process = Process([str(python), "-P", str(driver), *arguments], log_path, env=env, is_read=True)
        self._read_object()

    def resume(self) -> None:
        self._process.resume()

    def pause(self) -> None:
        self._process.pause()

    def close(self) -> None:
        self._process.close()

    def measure(self, task: Task) -> Figures:
        self._process.write(msgspec.json.encode(task))
        return msgspec.json.decode(self._read_object(), type=Figures)

    def describe(self) -> str:
        self._process.write(b'{"type":"Describe"}')
        return str(msgspec.json.decode(self._read_object())["text"])

    def _read_object(self) -> bytes:
        """The next line that is a JSON object; libraries may print lines of their own."""
        while not (line := self._process.read()).startswith(b"{"):
            pass
        return line


def _die_with_parent() -> None:
    """A stopped child would not notice that the benchmark has been killed."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
