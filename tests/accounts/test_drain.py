from __future__ import annotations

import asyncio
import random
import zlib
from pathlib import Path

import msgspec
import pytest
from book import Book
from office import NOW_S, Process, charging, key, wanted

from hodios.accounts.background import repeat
from hodios.accounts.drain import BATCH, MOST_RETRY_S, Drain
from hodios.accounts.entries import Spent, packed
from hodios.accounts.purse import Purse
from hodios.accounts.replay import replay
from hodios.store.failures import StoreUnavailable
from hodios.store.records import LoggedRequest

SPENT = Spent(prompt_tokens=10, cached_tokens=0, completion_tokens=5)


def logged(id: str, route: bytes = b"{}") -> LoggedRequest:
    return LoggedRequest(
        request_id=id,
        answer_id=None,
        key_id="k",
        project_id=None,
        user=None,
        wanted_model="m",
        model="m",
        provider="x",
        status=200,
        upstream_status=200,
        finish_reason="stop",
        error_code=None,
        latency_s=1.0,
        first_token_s=0.5,
        prompt_tokens=10,
        cached_tokens=0,
        completion_tokens=5,
        cost=7,
        is_streamed=True,
        is_estimated=False,
        route=route,
        at_s=NOW_S,
    )


async def settle(process: Process, num: int) -> None:
    for at in range(num):
        reservation = await process.reservations.hold(wanted(charging(key()), f"{process.name} {at}"), NOW_S)
        process.reservations.settle(reservation, "answered", SPENT, NOW_S)


async def test_batches_are_passed_on_and_the_journal_is_freed(tmp_path: Path) -> None:
    book = Book()
    process = Process(tmp_path, book, num_slots=4096)
    await settle(process, BATCH + 10)
    assert len(process.drain) == BATCH + 10
    assert await process.drain.pass_on()
    assert len(book.attempts) == BATCH
    assert await process.drain.flush(10)
    assert len(book.attempts) == BATCH + 10
    assert process.journal.num_bytes == 0
    process.journal.close(is_done=True)


async def test_nothing_is_forgotten_before_the_store_has_it_and_pauses_grow(tmp_path: Path) -> None:
    book = Book()
    process = Process(tmp_path, book)
    await settle(process, 3)
    book.faults = ["before", "after", "before"]
    for failures in (1, 2, 3):
        assert not await process.drain.pass_on()
        assert process.drain.num_failures == failures
        assert len(process.drain) == 3
        assert process.journal.num_bytes
    assert await process.drain.pass_on()
    assert process.drain.num_failures == 0
    assert len(book.attempts) == 3
    process.journal.close(is_done=True)


async def test_what_the_store_has_is_told_to_nobody_again_wherever_it_is_cancelled(tmp_path: Path) -> None:
    for num_turns in range(12):
        (home := tmp_path / str(num_turns)).mkdir()
        book = Book()
        process = Process(home, book, num_slots=4096)
        await settle(process, 200)
        unsettled = {account: pocket.unsettled for account, pocket in process.purse._pockets.items()}
        task = asyncio.create_task(process.drain.pass_on())
        for _ in range(num_turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not len(process.drain):
            assert process.journal.num_bytes == 0
            assert all(not pocket.unsettled for pocket in process.purse._pockets.values())
        else:
            assert {account: pocket.unsettled for account, pocket in process.purse._pockets.items()} == unsettled
        assert await process.drain.flush(10)
        assert len(book.attempts) == 200
        process.journal.close(is_done=True)


async def test_retries_are_spread_and_bounded() -> None:
    book = Book()
    drain = Drain("p", book, Purse("p", book), random.Random(1))
    pauses = []
    for failures in range(1, 30):
        drain.num_failures = failures
        pauses.append(drain._retry_s())
    assert 0.25 <= pauses[0] <= 0.5
    assert max(pauses) <= MOST_RETRY_S
    assert min(pauses[-10:]) >= MOST_RETRY_S / 2


async def test_the_background_passes_on_what_comes(tmp_path: Path) -> None:
    book = Book()
    process = Process(tmp_path, book)
    process.drain._pause_s = 0.0
    task = asyncio.create_task(repeat(process.drain.step))
    await settle(process, 5)
    has_come = asyncio.Event()
    process.drain.add(logged("the last one"), asyncio.Event.set, has_come)
    await has_come.wait()
    assert len(book.attempts) == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    process.journal.close(is_done=True)


async def test_one_step_that_goes_wrong_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hodios.accounts.background.RETRY_S", 0.0)
    outcomes = [ZeroDivisionError(), 0.0, asyncio.CancelledError()]

    async def step() -> float:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(asyncio.CancelledError):
        await repeat(step)
    assert outcomes == []


async def test_the_dead_are_settled_once_and_the_living_left_alone(tmp_path: Path) -> None:
    book = Book()
    living, dead = Process(tmp_path, book), Process(tmp_path, book)
    where = charging(key(total=10**9))
    held = await living.reservations.hold(wanted(where, "living"), NOW_S)
    interrupted = await dead.reservations.hold(wanted(where, "interrupted", number=3), NOW_S)
    dead.reservations.progress(interrupted, SPENT)
    await dead.reservations.hold(wanted(where, "silent"), NOW_S)
    await settle(dead, 2)
    dead.journal.log(packed(logged("logged", route=b"x" * 5000)))
    dead.die()
    found = await replay(tmp_path, book, book)
    assert (found.num_processes, found.num_attempts, found.num_estimated, found.num_requests) == (1, 4, 2, 1)
    attempt = book.attempts["interrupted", 3]
    assert (attempt.is_estimated, attempt.outcome, attempt.completion_tokens) == (True, "broke_off", 5)
    assert attempt.cost == 10 * 200 + 5 * 1000 + 3
    ended = book.attempts[f"{dead.name} 0", 1]
    assert (ended.is_estimated, ended.outcome, ended.completion_tokens) == (False, "answered", 5)
    silent = book.attempts["silent", 1]
    assert (silent.is_estimated, silent.outcome, silent.cost) == (True, "failed", 0)
    assert book.requests["logged"] == logged("logged", route=b"x" * 5000)
    assert {process for process, _ in book.leases} == {living.name}
    assert (await replay(tmp_path, book, book)).num_processes == 0
    living.reservations.release(held)
    living.journal.close(is_done=True)


async def test_what_a_version_before_has_left_is_settled_too(tmp_path: Path) -> None:
    """Its segments have the same form, and the texts of its attempts say all in one list."""
    book = Book()
    dead = Process(tmp_path, book)
    opening = wanted(charging(key(total=10**9)), "before", number=2).opening
    handle = dead.journal.hold(msgspec.msgpack.encode(opening), 10, NOW_S)
    dead.journal.progress(handle, 10, 0, 5)
    dead.journal.log(packed(logged("logged")))
    dead.die()
    (path,) = (tmp_path / "journal").glob("*.segment")
    data = bytearray(path.read_bytes())
    data[16:20] = (2).to_bytes(4, "little")
    data[32:36] = zlib.crc32(data[:32]).to_bytes(4, "little")
    path.write_bytes(data)
    found = await replay(tmp_path, book, book)
    assert (found.num_attempts, found.num_estimated, found.num_requests, found.num_damaged) == (1, 1, 1, 0)
    attempt = book.attempts["before", 2]
    assert (attempt.model, attempt.user, attempt.accounts) == ("m", "u", opening.accounts)
    assert (attempt.outcome, attempt.cost) == ("broke_off", 10 * 200 + 5 * 1000 + 3)


async def test_what_is_damaged_is_kept_aside_and_stops_nobody(tmp_path: Path) -> None:
    book = Book()
    dead = Process(tmp_path, book)
    await settle(dead, 2)
    dead.journal.log(b"no message at all")
    dead.die()
    folder = tmp_path / "journal"
    (folder / f"{dead.name}.99.segment").write_bytes(b"something else")
    found = await replay(tmp_path, book, book)
    assert (found.num_attempts, found.num_damaged) == (2, 2)
    assert sorted(path.suffix for path in folder.iterdir()) == [".damaged", ".damaged"]


async def test_several_may_try_at_once_and_be_broken_off(tmp_path: Path) -> None:
    book = Book()
    for _ in range(3):
        dead = Process(tmp_path, book)
        await settle(dead, 4)
        dead.die()
    book.faults = ["after"]
    outcomes = await asyncio.gather(*(replay(tmp_path, book, book) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(outcome, StoreUnavailable) for outcome in outcomes) == 1
    await replay(tmp_path, book, book)
    assert len(book.attempts) == 12
    assert list((tmp_path / "journal").iterdir()) == []
