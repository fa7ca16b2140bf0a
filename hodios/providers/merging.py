"""Several streams of events as one, in the order in which events come. Closing it closes them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from hodios.events import Event

_MOST_WAITING = 64
"""Events that are ready before the one who reads them is."""


async def merged(streams: Sequence[AsyncGenerator[Event, None]], most_at_once: int) -> AsyncGenerator[Event, None]:
    """At most so many streams run at a time. Raises what the first of them to fail raises."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as events:
            async for event in events:
                yield event
        return
    ready: asyncio.Queue[Event | None] = asyncio.Queue()
    room, turns = asyncio.Semaphore(_MOST_WAITING), asyncio.Semaphore(most_at_once)
    pumps = [asyncio.create_task(_pump(stream, ready, room, turns)) for stream in streams]
    try:
        num_open = len(pumps)
        while num_open:
            next_event = await ready.get()
            if next_event is not None:
                room.release()
                yield next_event
                continue
            num_open -= 1
            for pump in pumps:
                if pump.done():
                    pump.result()
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    stream: AsyncGenerator[Event, None],
    ready: asyncio.Queue[Event | None],
    room: asyncio.Semaphore,
    turns: asyncio.Semaphore,
) -> None:
    """Puts None at the end, whatever the end is."""
    try:
        async with turns, aclosing(stream) as events:
            async for event in events:
                await room.acquire()
                ready.put_nowait(event)
    finally:
        ready.put_nowait(None)
