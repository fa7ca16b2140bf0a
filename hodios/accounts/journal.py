"""What this process has under way, where it outlives the process: HODIOS_HOME/journal/PROCESS.N.segment.

Entries are written in place into mapped memory, so that however the process ends, the kernel has all of them; against a
loss of power `commit` writes them to the disk. A lock on PROCESS.lock says that the process is alive: whoever gets it
may settle what is left (see `replay`). Knows neither requests nor money.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import mmap
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from hodios.accounts.journal_format import (
    COPY_BYTES,
    MOST_TOKENS,
    SLOT_BYTES,
    TEXT_AT,
    Outcome,
    Phase,
    State,
    num_slots_for,
    packed_header,
    packed_state,
)
from hodios.errors import Overloaded, SetupError

NUM_SLOTS = 4096
"""Of a segment, so that it has 4 MiB."""
MOST_SEGMENTS = 64
ROOM_IN_ONE = SLOT_BYTES - TEXT_AT
RETRY_AFTER_S = 5
_FREE = State()
_HELD, _SETTLED, _LOGGED = Phase.HELD, Phase.SETTLED, Phase.LOGGED
"""Looked up once: on the path of every request, names of enumerations take as long as what is done with them."""
_log = logging.getLogger(__name__)


class Handle(Struct, eq=False):
    """One entry of this process."""

    segment: Segment
    slot: int
    state: State


class Segment:
    """One file. Raises OSError where it cannot be made. Blocks on the disk while it is made, and then no more."""

    def __init__(self, path: Path, nonce: bytes, num_slots: int) -> None:
        self.path = path
        self.num_slots = num_slots
        self.num_used = 0
        self.is_dirty = True
        self._used = bytearray(num_slots)
        self._sequences = [0] * num_slots
        self._salt = zlib.crc32(nonce)
        self._free_states: dict[int, bytes] = {}
        size = (1 + num_slots) * SLOT_BYTES
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Without room on the disk, writing into mapped memory would kill the process.
            os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size)
            header = packed_header(nonce, num_slots)
            self._map[: len(header)] = header
            os.fsync(self.fd)
        except OSError:
            os.close(self.fd)
            path.unlink()
            raise

    def write(self, text: bytes, state: State) -> Handle | None:
        """A new entry; None where there is no room for it."""
        num = 1 if len(text) <= ROOM_IN_ONE else num_slots_for(text)
        slot = self._used.find(0 if num == 1 else bytes(num))
        if slot < 0:
            return None
        self.num_used += num
        if num == 1:
            self._used[slot] = 1
        else:
            self._used[slot : slot + num] = b"\1" * num
            # Slots that are about to hold text are nobody's state from here on.
            self._put(slot, State(num_slots=num))
        begin = (1 + slot) * SLOT_BYTES + TEXT_AT
        self._map[begin : begin + len(text)] = text
        state.num_slots = num
        state.text_bytes = len(text)
        state.text_crc = zlib.crc32(text)
        self._put(slot, state)
        return Handle(self, slot, state)

    def update(self, handle: Handle) -> None:
        self._put(handle.slot, handle.state)

    def free(self, handle: Handle) -> None:
        num, slot = handle.state.num_slots, handle.slot
        self.num_used -= num
        if num == 1:
            self._put_free(slot)
            self._used[slot] = 0
            return
        self._put(slot, State(num_slots=num))
        for at in range(slot + 1, slot + num):
            begin = (1 + at) * SLOT_BYTES
            self._map[begin : begin + TEXT_AT] = bytes(TEXT_AT)
        self._put_free(slot)
        self._used[slot : slot + num] = bytes(num)

    def remove(self) -> None:
        self.close()
        self.path.unlink()

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)

    def _put(self, slot: int, state: State) -> None:
        sequence = self._sequences[slot] = self._sequences[slot] + 1
        begin = (1 + slot) * SLOT_BYTES + (COPY_BYTES if sequence & 1 else 0)
        self._map[begin : begin + COPY_BYTES] = packed_state(state, sequence, self._salt)
        self.is_dirty = True

    def _put_free(self, slot: int) -> None:
        """All slots of a segment go through the same numbers, so that what one has written others write again."""
        sequence = self._sequences[slot] = self._sequences[slot] + 1
        text = self._free_states.get(sequence)
        if text is None:
            if len(self._free_states) >= self.num_slots:
                self._free_states.clear()
            text = self._free_states[sequence] = packed_state(_FREE, sequence, self._salt)
        begin = (1 + slot) * SLOT_BYTES + (COPY_BYTES if sequence & 1 else 0)
        self._map[begin : begin + COPY_BYTES] = text
        self.is_dirty = True


class Journal:
    """Of one process, and of one event loop. `random_bytes(n)` makes its name and its nonces; making one blocks.

    Raises SetupError where nothing can be written.
    """

    def __init__(
        self,
        home: Path,
        random_bytes: Callable[[int], bytes] = os.urandom,
        *,
        num_slots: int = NUM_SLOTS,
        most_segments: int = MOST_SEGMENTS,
    ) -> None:
        self._folder = home / "journal"
        self._random_bytes = random_bytes
        self._num_slots = num_slots
        self._most_segments = most_segments
        self._num_made = 0
        self._segments: list[Segment] = []
        self.num_failed_commits = 0
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.process, self._lock_fd = self._begin()
            self._segments.append(self._make())
        except OSError as error:
            raise SetupError(f"The journal cannot be kept in {self._folder}: {error.strerror}.") from error

    @property
    def num_bytes(self) -> int:
        """What is taken of it."""
        return sum(segment.num_used for segment in self._segments) * SLOT_BYTES

    def hold(self, text: bytes, prompt_tokens: int, at_s: float) -> Handle:
        """An attempt begins. Raises Overloaded where there is no room for it."""
        state = State(_HELD)
        state.prompt_tokens = prompt_tokens if prompt_tokens <= MOST_TOKENS else MOST_TOKENS
        state.at_s = at_s
        return self._write(text, state)

    def log(self, text: bytes) -> Handle:
        """A request has ended. Raises Overloaded where there is no room for it."""
        return self._write(text, State(_LOGGED))

    def progress(self, handle: Handle, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        self.count(handle, prompt_tokens, cached_tokens, completion_tokens)
        handle.segment.update(handle)

    def count(self, handle: Handle, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        """What the entry says once it is written again."""
        state = handle.state
        if prompt_tokens > MOST_TOKENS or cached_tokens > MOST_TOKENS or completion_tokens > MOST_TOKENS:
            prompt_tokens, cached_tokens, completion_tokens = (
                min(num, MOST_TOKENS) for num in (prompt_tokens, cached_tokens, completion_tokens)
            )
        state.prompt_tokens = prompt_tokens
        state.cached_tokens = cached_tokens
        state.completion_tokens = completion_tokens

    def settle(self, handle: Handle, outcome: Outcome, cost: int | None, is_estimated: bool, at_s: float) -> None:
        """The attempt has ended, with the tokens that were counted last."""
        state = handle.state
        state.phase = _SETTLED
        state.outcome = outcome
        state.cost = cost
        state.is_estimated = is_estimated
        state.at_s = at_s
        handle.segment.update(handle)

    def free(self, handle: Handle) -> None:
        """The entry is kept elsewhere, or was never of use. Any one may be freed once."""
        segment = handle.segment
        segment.free(handle)
        if segment.num_used or len(self._segments) <= 2:
            return
        if sum(not one.num_used for one in self._segments) > 1:
            self._segments.remove(segment)
            segment.remove()

    async def commit(self) -> bool:
        """What was written so far outlives a loss of power. Whether that worked; if not, the next call tries again."""
        await self._prepare()
        dirty = [segment for segment in self._segments if segment.is_dirty]
        if not dirty:
            return True
        for segment in dirty:
            segment.is_dirty = False
        # Of descriptors of their own: a segment may be removed meanwhile.
        fds = [os.dup(segment.fd) for segment in dirty]
        try:
            await asyncio.to_thread(_sync, fds)
        except OSError as error:
            self.num_failed_commits += 1
            _log.error("the journal in %s cannot be written to the disk: %s", self._folder, error.strerror)
            for segment in dirty:
                segment.is_dirty = True
            return False
        return True

    def close(self, *, is_done: bool) -> None:
        """Where all is done that its entries ask for, nothing stays; otherwise it is left to whoever replays it."""
        for segment in self._segments:
            segment.remove() if is_done else segment.close()
        self._segments = []
        if is_done:
            (self._folder / f"{self.process}.lock").unlink()
        os.close(self._lock_fd)

    def _write(self, text: bytes, state: State) -> Handle:
        for segment in self._segments:
            handle = segment.write(text, state)
            if handle is not None:
                return handle
        if len(self._segments) < self._most_segments:
            with contextlib.suppress(OSError):
                self._segments.append(self._make())
                handle = self._segments[-1].write(text, state)
        if handle is None:
            raise Overloaded("What requests cost cannot be written down at the moment.", retry_after=RETRY_AFTER_S)
        return handle

    async def _prepare(self) -> None:
        """The next segment is there before it is needed."""
        num_free = sum(segment.num_slots - segment.num_used for segment in self._segments)
        if num_free >= self._num_slots // 2 or len(self._segments) >= self._most_segments:
            return
        with contextlib.suppress(OSError):
            self._segments.append(await asyncio.to_thread(self._make))

    def _begin(self) -> tuple[str, int]:
        """The process's name and the lock that says that it is alive."""
        while True:
            process = self._random_bytes(16).hex()
            path = self._folder / f"{process}.lock"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have taken it for the lock of a dead process in between, and removed it.
                if path.exists():
                    return process, fd
            os.close(fd)

    def _make(self) -> Segment:
        path = self._folder / f"{self.process}.{self._num_made}.segment"
        self._num_made += 1
        segment = Segment(path, self._random_bytes(8), self._num_slots)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment


def _sync(fds: list[int]) -> None:
    """Raises OSError after all of them were tried. On Linux this writes mapped pages too, and unlike `mmap.flush` lets
    other threads run."""
    failed: OSError | None = None
    for fd in fds:
        try:
            os.fsync(fd)
        except OSError as error:
            failed = error
        finally:
            os.close(fd)
    if failed is not None:
        raise failed
