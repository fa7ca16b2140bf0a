"""Servers of the tests in a thread of their own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from scripted_upstream import Script, ScriptedUpstream, serving


@contextmanager
def in_thread(context: AbstractAsyncContextManager[object]) -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of the thread in which the context is open, for `call_soon_threadsafe`."""
    is_up, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        async with context:
            is_up.set()
            await over.wait()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    is_up.wait()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


@contextmanager
def upstream_in_thread(script: Script) -> Iterator[ScriptedUpstream]:
    """The upstream may be looked at while it serves; what it was asked only grows."""
    upstream = ScriptedUpstream(script=script)
    with in_thread(serving(upstream)):
        yield upstream
