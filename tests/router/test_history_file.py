from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passing import NOON_S, attempt, route
from seating import request

from hodios.router import history_file
from hodios.router.history import Archive, History
from hodios.router.history_file import MAGIC, VERSION, HistoryFile, keeping, packed, unpacked

NUM_KILLS = 3
HERE = Path(__file__).parent


def heard(num: int = 3) -> History:
    history = History(clock=lambda: NOON_S)
    for number in range(num):
        history.record(request(), route(attempt(model=f"m{number}")), None, None)
    return history


def file_of(body: bytes, version: int = VERSION, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(body) if checksum is None else checksum
    return MAGIC + version.to_bytes(4, "little") + crc.to_bytes(4, "little") + body


WHOLE = packed(heard().save())
ODD = {
    "empty": b"",
    "of something else": b"SQLite format 3\0" + bytes(100),
    "a head alone": WHOLE[: len(MAGIC) + 8],
    "cut off": WHOLE[:-1],
    "longer than it was": WHOLE + b"\0",
    "of a later version": file_of(b"what we cannot know", VERSION + 1),
    "of no sense": file_of(msgspec.msgpack.encode({"saved": "never"})),
    "of counts that there are not": file_of(
        msgspec.msgpack.encode([1.0, [["p", "m", 1.0, [[1, {99: 1}]], [], [], []]], [], []])
    ),
    "of counts of nothing": file_of(
        msgspec.msgpack.encode([1.0, [["p", "m", 1.0, [[1, {0: 0}]], [], [], []]], [], []])
    ),
    "nested without end": file_of(b"\x91" * 100_000),
}


def test_a_history_is_found_again(tmp_path: Path) -> None:
    archive = heard().save()
    file = HistoryFile(tmp_path)
    assert file.load() is None
    assert file.save(archive)
    assert file.load() == archive
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["health.lock", "health"]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_read_is_moved_aside(what: str, tmp_path: Path, caplog: Any) -> None:
    file = HistoryFile(tmp_path)
    assert file.save(heard().save())
    file.path.write_bytes(ODD[what])
    assert file.load() is None
    assert "statistics begin anew" in caplog.text
    assert file.path.with_name("health.unreadable").read_bytes() == ODD[what]
    assert file.load() is None
    assert len(caplog.records) == 1
    assert file.save(heard().save())
    assert file.load() is not None


def test_a_file_that_is_cut_anywhere_is_not_read() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(ValueError, match="is "):
            unpacked(WHOLE[:length])


@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_one_wrong_bit_is_noticed(bit: int) -> None:
    wrong = bytearray(WHOLE)
    wrong[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"is |has the version"):
        unpacked(bytes(wrong))


VALUES = st.recursive(st.integers(-(2**40), 2**40) | st.text(max_size=3) | st.floats(), st.lists, max_leaves=12)


@given(st.binary(max_size=50) | VALUES.map(msgspec.msgpack.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        found = unpacked(file_of(body))
    except ValueError:
        return
    assert isinstance(found, Archive)


def test_of_two_processes_the_first_writes(tmp_path: Path) -> None:
    first, second = HistoryFile(tmp_path), HistoryFile(tmp_path)
    assert first.save(heard(3).save())
    assert len(second.load().pasts) == 3  # type: ignore[union-attr]
    assert not second.save(heard(5).save())
    assert len(first.load().pasts) == 3  # type: ignore[union-attr]
    first.path.write_bytes(b"damaged")
    assert second.load() is None
    assert first.path.exists(), "only whoever has the file moves it"
    first.close()
    assert second.save(heard(5).save())
    assert len(second.load().pasts) == 5  # type: ignore[union-attr]


def test_a_full_disk_is_told_once_and_loses_nothing_old(tmp_path: Path, caplog: Any) -> None:
    file = HistoryFile(tmp_path)
    assert file.save(heard(3).save())
    part = file.path.with_name("health.part")
    for _ in range(3):
        part.symlink_to("/dev/full")
        assert not file.save(heard(5).save())
        assert not part.is_symlink(), "what is half-written takes no room"
    assert [record.message for record in caplog.records] == [
        f"statistics cannot be kept in {file.path.parent}: No space left on device"
    ]
    assert len(file.load().pasts) == 3  # type: ignore[union-attr]
    assert file.save(heard(5).save())
    assert len(file.load().pasts) == 5  # type: ignore[union-attr]


def test_a_home_that_is_none_is_told_once(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "state").write_bytes(b"a file")
    file = HistoryFile(tmp_path)
    assert file.load() is None
    assert not file.save(heard().save())
    assert not file.save(heard().save())
    assert sum("cannot be kept" in record.message for record in caplog.records) == 1
    file.close()


@pytest.mark.parametrize("num_kills", [NUM_KILLS, pytest.param(60, marks=pytest.mark.full)])
def test_who_is_killed_while_writing_leaves_a_whole_file(num_kills: int, tmp_path: Path) -> None:
    """Whatever was said to be saved is there, or what was saved after it."""
    rng, saved_s = random.Random(0), NOON_S
    for _ in range(num_kills):
        path = os.pathsep.join((str(HERE), *sys.path))
        writer = subprocess.Popen(
            [sys.executable, HERE / "history_writer.py", tmp_path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"saved\n"
        time.sleep(rng.uniform(0, 0.05))
        writer.kill()
        num_saved = 1 + writer.stdout.read().count(b"saved")
        writer.wait()
        writer.stdout.close()
        file = HistoryFile(tmp_path)
        archive = file.load()
        assert archive is not None
        assert archive.saved_s - saved_s in (num_saved, num_saved + 1)
        assert len(archive.pasts) == 400
        assert file.save(archive), "the lock ends with its process"
        file.close()


async def test_a_server_keeps_its_history(tmp_path: Path) -> None:
    history = heard(2)
    async with keeping(history, HistoryFile(tmp_path), every_s=0.005):
        path = tmp_path / "state" / "health"
        while not path.exists():  # noqa: ASYNC110 - a thread writes it
            await asyncio.sleep(0.005)
        history.record(request(), route(attempt(model="last")), None, None)
    later = History(clock=lambda: NOON_S)
    async with keeping(later, HistoryFile(tmp_path)):
        assert later.save() == history.save()


async def test_a_mistake_in_a_review_does_not_end_the_keeping(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    history = heard(2)
    num_reviews = 0

    def review() -> Any:
        nonlocal num_reviews
        num_reviews += 1
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(history, "review", review)
    async with keeping(history, HistoryFile(tmp_path), every_s=0.001):
        while num_reviews < 3:  # noqa: ASYNC110 - a task counts
            await asyncio.sleep(0.001)
    assert "statistics" in caplog.text


def test_the_file_is_written_piece_by_piece(monkeypatch: Any) -> None:
    """Encoding holds up the threads that serve, so no step of it may be a long one."""
    sizes = []
    encode = msgspec.msgpack.encode

    class Watched:
        @staticmethod
        def encode(value: Any) -> bytes:
            sizes.append(len(value.pasts) if isinstance(value, Archive) else 1)
            return encode(value)

    monkeypatch.setattr(history_file.msgspec, "msgpack", Watched)
    packed(heard(50).save())
    assert max(sizes) == 1
