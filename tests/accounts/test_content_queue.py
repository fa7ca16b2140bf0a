"""What is to be stored reaches the store in batches, waits while that is away, and is lost where there is no room."""

from __future__ import annotations

from collections.abc import Iterable

from hodios.accounts.content_queue import BATCH_BYTES, ContentQueue
from hodios.store.failures import StoreUnavailable
from hodios.store.records import StoredContent


class Shelf:
    def __init__(self) -> None:
        self.is_away = False
        self.batches: list[list[str]] = []

    async def add(self, told: Iterable[StoredContent]) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        self.batches.append([content.request_id for content in told])

    async def of(self, request_id: str) -> StoredContent | None:
        return content(request_id, b"stored") if any(request_id in batch for batch in self.batches) else None


def content(request_id: str, request: bytes = b"{}") -> StoredContent:
    return StoredContent(
        request_id=request_id,
        key_id="k1",
        project_id=None,
        user=None,
        request=request,
        answer=b"{}",
        is_request_cut=False,
        is_answer_cut=False,
        at_s=0.0,
    )


async def test_all_of_it_reaches_the_store_in_batches() -> None:
    shelf = Shelf()
    queue = ContentQueue(shelf)
    half = bytes(BATCH_BYTES // 2)
    assert all(queue.add(content(f"r{n}", half)) for n in range(5))
    while len(queue):
        await queue.step()
    assert shelf.batches == [["r0", "r1"], ["r2", "r3"], ["r4"]]
    assert queue.num_bytes == 0


async def test_it_waits_while_the_store_is_away_as_long_as_there_is_room() -> None:
    shelf = Shelf()
    queue = ContentQueue(shelf, most_bytes=10_000)
    shelf.is_away = True
    kept = [n for n in range(10) if queue.add(content(f"r{n}", bytes(1000)))]
    assert kept == [0, 1, 2, 3]
    pause_s = await queue.step()
    assert (len(queue), await queue.of("r3")) == (4, content("r3", bytes(1000)))
    assert not queue.add(content("r10", bytes(8000)))
    shelf.is_away = False
    assert await queue.step() < pause_s
    assert shelf.batches == [["r0", "r1", "r2", "r3"]]
    assert await queue.of("r3") == content("r3", b"stored")
    assert await queue.of("r4") is None
    assert queue.add(content("r10", bytes(8000)))


async def test_what_waits_at_the_end_is_passed_on() -> None:
    shelf = Shelf()
    queue = ContentQueue(shelf)
    async with queue.keeping():
        queue.add(content("r1"))
    assert shelf.batches == [["r1"]]
