"""A scripted upstream in a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scripted_upstream import Script, ScriptedUpstream, serving


@contextmanager
def upstream_in_thread(script: Script) -> Iterator[ScriptedUpstream]:
    """The upstream may be looked at while it serves; what it was asked only grows."""
    upstream = ScriptedUpstream(script=script)
    is_up, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        async with serving(upstream):
            is_up.set()
            await over.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    is_up.wait()
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
