"""Looking at something again and again beside the requests, and the tasks that this begins: none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping


@contextlib.asynccontextmanager
async def rounds(
    look: Callable[[], None], pause_s: Callable[[], float], tasks: Mapping[str, asyncio.Task[None]]
) -> AsyncGenerator[None, None]:
    """`look` after every pause within the block. `tasks` are those that it has begun and that are not over; at the end
    they are cancelled."""

    async def run() -> None:
        while True:
            await asyncio.sleep(pause_s())
            look()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        begun = [task, *tasks.values()]
        for each in begun:
            each.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
