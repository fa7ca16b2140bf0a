"""What a stream writes is all there, in order, and in few pieces; its beginning waits for nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.api.outbox import MOST_BYTES, Outbox


class Written:
    """In place of an exchange: a client that takes a piece at a time, at once or when it is told to."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.may_go_on = asyncio.Event()
        self.is_slow = is_slow

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)
        if self.is_slow:
            await self.may_go_on.wait()


def outbox_of(written: Any) -> Outbox:
    return Outbox(written)


async def test_a_burst_is_few_pieces() -> None:
    written = Written()
    async with outbox_of(written) as outbox:
        for number in range(1000):
            await outbox.put(b"%d," % number)
    assert b"".join(written.pieces) == b"".join(b"%d," % number for number in range(1000))
    assert written.pieces[0] == b"0,"
    assert len(written.pieces) <= 4


async def test_the_first_piece_is_on_its_way_before_the_second_is_put() -> None:
    order: list[str] = []
    written = Written()
    async with outbox_of(written) as outbox:
        asyncio.get_running_loop().call_soon(order.append, "the loop has turned")
        await outbox.put(b"a")
        order.append("put")
    assert order == ["the loop has turned", "put"]


async def test_nothing_waits_for_a_later_piece() -> None:
    written = Written()
    async with outbox_of(written) as outbox:
        for data in (b"a", b"b", b"c"):
            await outbox.put(data)
        for _ in range(3):
            await asyncio.sleep(0)
        assert b"".join(written.pieces) == b"abc"


async def test_who_reads_slowly_holds_the_writer_up() -> None:
    written = Written(is_slow=True)
    piece = bytes(MOST_BYTES // 4)
    num_put = 0

    async def write() -> None:
        nonlocal num_put
        async with outbox_of(written) as outbox:
            for _ in range(100):
                await outbox.put(piece)
                num_put += 1

    writing = asyncio.create_task(write())
    for _ in range(50):
        await asyncio.sleep(0)
    assert num_put < 10
    written.may_go_on.set()
    await writing
    assert b"".join(written.pieces) == piece * 100


async def test_an_error_comes_after_all_that_was_put() -> None:
    written = Written()

    async def write() -> None:
        async with outbox_of(written) as outbox:
            for data in (b"a", b"b", b"c"):
                await outbox.put(data)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await write()
    assert b"".join(written.pieces) == b"abc"


async def test_who_left_is_written_nothing_more() -> None:
    written = Written(is_slow=True)

    async def write() -> None:
        async with outbox_of(written) as outbox:
            while True:
                await outbox.put(b"x" * 1000)

    writing = asyncio.create_task(write())
    for _ in range(20):
        await asyncio.sleep(0)
    num_pieces = len(written.pieces)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    written.may_go_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(written.pieces) == num_pieces


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=MOST_BYTES // 2)), max_size=20), st.booleans())
def test_whenever_the_loop_turns_all_is_there_in_order(steps: list[bytes | None], is_slow: bool) -> None:
    async def run() -> None:
        written = Written(is_slow=is_slow)
        asyncio.get_running_loop().call_later(0, written.may_go_on.set)
        async with outbox_of(written) as outbox:
            for step in steps:
                if step is None:
                    await asyncio.sleep(0)
                else:
                    await outbox.put(step)
        assert b"".join(written.pieces) == b"".join(filter(None, steps))

    asyncio.run(run())
