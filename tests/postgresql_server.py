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


@contextlib.contextmanager
def running(need: Callable[[str, str], str], url: str = HERE) -> Iterator[str]:
    """The URL of its database `postgres`. `need` as the fixture of that name."""
    if answers(url):
        yield url
        return
    need("pg_lsclusters", "postgresql")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    # The server refuses to be run by root.
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name, contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        if owner:
            shutil.chown(name, "postgres", "postgres")
        folder = f"{name}/data"
        initdb = [programs / "initdb", "-D", folder, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=name, **owner)
        listener.close()
        command = [programs / "postgres", "-D", folder, "-p", str(port), "-k", name, "-h", "127.0.0.1", "-F"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=name, **owner)
        try:
            own = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            while not answers(own):
                assert server.poll() is None, "it does not start"
                time.sleep(0.02)
            yield own
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def answers(url: str) -> bool:
    async def ask() -> None:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
        await connection.close()

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True
