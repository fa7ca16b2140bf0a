"""The API behind a real socket, in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hodios.api import server


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@asynccontextmanager
async def serving(app: Any, **bounds: Any) -> AsyncIterator[int]:
    """The port of a server that runs in this event loop; SIGTERM is left alone."""
    sock = listening()
    running = server.server_of(app, drain_s=1, bounds=server.Bounds(**bounds))
    task = asyncio.create_task(running.serve(sockets=[sock]))
    try:
        yield sock.getsockname()[1]
    finally:
        running.should_exit = True
        await asyncio.wait_for(task, 20)
        sock.close()
