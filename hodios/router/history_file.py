"""The history on disk: HODIOS_HOME/state/health, written whole or not at all, by one process at a time. Of several API
processes of a server, each has a file of its own.

The file: MAGIC, the version of what follows, its CRC-32, and itself: a msgpack `Archive`. What cannot be read is moved
aside and never a reason not to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import threading
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from hodios.router.history import Archive, History

MAGIC = b"hodios health\n"
VERSION = 1
SAVE_S = 60.0
_HEAD = struct.Struct("<II")
_log = logging.getLogger(__name__)


class HistoryFile:
    """Of the processes with the same home, the first one has the file; the others go without until it ends. Safe to use
    from several threads."""

    def __init__(self, home: Path, number: int = 1) -> None:
        """`number`: of the API process, from 1."""
        self._folder = home / "state"
        self.path = self._folder / ("health" if number == 1 else f"health-{number}")
        self._lock: int | None = None
        self._writing = threading.Lock()
        self._has_complained = False

    def load(self) -> Archive | None:
        """What was saved; None where there is nothing, or nothing that can be read. Reads without the lock too."""
        self._take()
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read (%s): statistics begin anew", self.path, error.strerror)
            return None
        try:
            return unpacked(data)
        except ValueError as error:
            aside = self.path.with_suffix(".unreadable")
            _log.warning("%s %s: statistics begin anew, and the file is kept as %s", self.path, error, aside.name)
            if self._lock is not None:
                with contextlib.suppress(OSError):
                    self.path.replace(aside)
            return None

    def save(self, archive: Archive) -> bool:
        """Whether it was written. What goes wrong is told once and tried again the next time."""
        with self._writing:
            return self._take() and self._write(packed(archive))

    def _write(self, data: bytes) -> bool:
        part = self.path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self._complain(error)
            return False
        self._has_complained = False
        return True

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self) -> bool:
        """The lock ends with its process, however that ends."""
        if self._lock is not None:
            return True
        file = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if file is not None:
                os.close(file)
            if not isinstance(error, BlockingIOError):
                self._complain(error)
            return False
        self._lock = file
        return True

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            _log.warning("statistics cannot be kept in %s: %s", self._folder, error.strerror)
        self._has_complained = True


def packed(archive: Archive) -> bytes:
    """Encoded piece by piece: each holds up other threads, all of them together must not."""
    encode = msgspec.msgpack.encode
    pasts = [msgspec.Raw(encode(past)) for past in archive.pasts]
    body = encode((archive.saved_s, pasts, archive.declines, archive.incidents))
    return MAGIC + _HEAD.pack(VERSION, zlib.crc32(body)) + body


def unpacked(data: bytes) -> Archive:
    """Raises ValueError, which says what is wrong."""
    begin = len(MAGIC) + _HEAD.size
    if not data.startswith(MAGIC) or len(data) < begin:
        raise ValueError("is not a file of statistics")
    version, checksum = _HEAD.unpack_from(data, len(MAGIC))
    if version != VERSION:
        raise ValueError(f"has the version {version} and not {VERSION}")
    body = data[begin:]
    if zlib.crc32(body) != checksum:
        raise ValueError("is damaged")
    try:
        return msgspec.msgpack.decode(body, type=Archive)
    except ValueError as error:
        raise ValueError(f"does not make sense ({error})") from None


@contextlib.asynccontextmanager
async def keeping(history: History, file: HistoryFile, every_s: float = SAVE_S) -> AsyncGenerator[None, None]:
    """The history restored before the block, reviewed and saved within it, and saved at its end."""
    archive = await asyncio.to_thread(file.load)
    if archive is not None:
        history.restore(archive)
    task = asyncio.create_task(_keep(history, file, every_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(file.save, history.save())
        file.close()


async def _keep(history: History, file: HistoryFile, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            for _ in history.review():
                await asyncio.sleep(0)
            await asyncio.to_thread(file.save, history.save())
        except Exception:  # noqa: BLE001 - one bad minute must not be the last that is kept
            _log.exception("statistics could not be reviewed and kept; the next try is in %g s", every_s)
