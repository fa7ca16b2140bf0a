"""A PostgreSQL server for tests: the one that runs on this machine if it lets us in, else one of our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg

HERE = "postgresql://postgres@127.0.0.1:5432/postgres"
TIMEOUT_S = 5
PATIENCE_S = 120
"""Far above what a start takes, with the recovery after a crash."""


class OwnServer:
    """One of our own, which tests may stop, kill and start again. `url` is that of its database `postgres`."""

    def __init__(self, folder: Path) -> None:
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: int(found.parent.name))
        self._folder = folder
        # The server refuses to be run by root.
        self._owner: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._owner:
            shutil.chown(folder, "postgres", "postgres")
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            self._port = listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        initdb = [self._programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._owner)

    def start(self) -> None:
        """Returns when it answers. As long as there are processes of a server that was killed, no other one starts."""
        deadline_s = time.monotonic() + PATIENCE_S
        self._process = self._begin()
        while not answers(self.url):
            assert time.monotonic() < deadline_s, "it does not start"
            if self._process.poll() is not None:
                self._process = self._begin()
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends all connections and shuts down, SIGQUIT ends without shutting down; SIGKILL ends the parent, and
        its children notice."""
        self._process.send_signal(how)
        self._process.wait(PATIENCE_S)

    def _begin(self) -> subprocess.Popen[bytes]:
        listening = ["-p", str(self._port), "-k", self._folder, "-h", "127.0.0.1"]
        command = [self._programs / "postgres", "-D", self._folder / "data", *listening, "-F"]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._folder, **self._owner)


@contextlib.contextmanager
def running(need: Callable[[str, str], str], url: str = HERE) -> Iterator[str]:
    """The URL of its database `postgres`. `need` as the fixture of that name."""
    if answers(url):
        yield url
        return
    with own(need) as server:
        yield server.url


@contextlib.contextmanager
def own(need: Callable[[str, str], str]) -> Iterator[OwnServer]:
    """At work until the block ends."""
    need("pg_lsclusters", "postgresql")
    # Where its user may go, which need not be ours.
    with tempfile.TemporaryDirectory() as name:
        server = OwnServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def answers(url: str) -> bool:
    async def ask() -> None:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
        await connection.close()

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True
