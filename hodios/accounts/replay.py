"""Settles what processes have left that are dead: what they had not passed on, and what they were in the middle of.

Then gives back what was leased to them. May be broken off anywhere, and several may try: the store takes each attempt
once, and a journal is removed only after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from hodios.accounts.drain import BATCH, Bookkeeper
from hodios.accounts.entries import recovered
from hodios.accounts.journal_format import Contents, Phase, read_segment
from hodios.store.records import LoggedRequest, SettledAttempt

_log = logging.getLogger(__name__)


class Releaser(Protocol):
    """As `store.leases.Leases`."""

    async def release(self, process: str) -> object: ...


class Replayed(Struct):
    """What was found."""

    num_processes: int = 0
    num_attempts: int = 0
    num_estimated: int = 0
    """Of the attempts, those that their process was in the middle of."""
    num_requests: int = 0
    num_damaged: int = 0
    """Entries and files that make no sense, as after a loss of power. They are kept aside."""


async def replay(home: Path, bookkeeper: Bookkeeper, releaser: Releaser) -> Replayed:
    """All that dead processes of this home have left. Raises StoreUnavailable, after which it may be called again."""
    folder = home / "journal"
    found = Replayed()
    for lock in sorted(await asyncio.to_thread(_locks, folder)):
        async with _locked(lock) as is_dead:
            if is_dead:
                await _settle(folder, lock.stem, bookkeeper, found)
                await releaser.release(lock.stem)
                await asyncio.to_thread(_remove, folder, lock.stem)
                found.num_processes += 1
    if found.num_attempts or found.num_damaged:
        _log.warning(
            "%d attempts of %d processes that have ended were settled, %d of them estimated; %d entries were damaged",
            found.num_attempts,
            found.num_processes,
            found.num_estimated,
            found.num_damaged,
        )
    return found


async def _settle(folder: Path, process: str, bookkeeper: Bookkeeper, found: Replayed) -> None:
    for path in await asyncio.to_thread(_segments, folder, process):
        contents = await asyncio.to_thread(_read, path)
        damaged = contents.num_torn if contents else 1
        records: list[SettledAttempt | LoggedRequest] = []
        for entry in contents.entries if contents else ():
            try:
                records.append(recovered(entry))
            except ValueError as error:
                _log.error("an entry of %s makes no sense: %s", path, error)
                damaged += 1
            found.num_estimated += entry.state.phase == Phase.HELD
        for some in _batches(records):
            attempts = [record for record in some if isinstance(record, SettledAttempt)]
            requests = [record for record in some if isinstance(record, LoggedRequest)]
            await bookkeeper.settle(process, attempts, requests)
            found.num_attempts += len(attempts)
            found.num_requests += len(requests)
        if damaged:
            found.num_damaged += damaged
            await asyncio.to_thread(path.rename, path.with_suffix(".damaged"))


def _batches(
    records: list[SettledAttempt | LoggedRequest],
) -> Iterable[list[SettledAttempt | LoggedRequest]]:
    return (records[at : at + BATCH] for at in range(0, len(records), BATCH))


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[bool]:
    """Whether its process is dead, and nobody else is at it. Locks end with whoever holds them."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        yield False
        return
    try:
        yield True
    finally:
        os.close(fd)


def _locks(folder: Path) -> list[Path]:
    return list(folder.glob("*.lock"))


def _segments(folder: Path, process: str) -> list[Path]:
    return sorted(folder.glob(f"{process}.*.segment"))


def _read(path: Path) -> Contents | None:
    try:
        return read_segment(path.read_bytes())
    except ValueError as error:
        _log.error("%s %s", path, error)
        return None


def _remove(folder: Path, process: str) -> None:
    """The lock last: as long as it is there, the rest is found."""
    for path in _segments(folder, process):
        path.unlink(missing_ok=True)
    (folder / f"{process}.lock").unlink(missing_ok=True)
