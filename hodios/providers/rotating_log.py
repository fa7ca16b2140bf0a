"""What a server writes, kept in a file that does not grow without bound: the last one, and the one before."""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 8 * 2**20
_TAIL_BYTES = 4096


class RotatingLog:
    """Appends to `path`; once that holds `most_bytes`, it becomes `path.1`. Readable by its owner alone."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._most_bytes = most_bytes
        self._tail = b""
        self._open()

    def write(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        view = memoryview(data)
        while view:
            if self._num_bytes >= self._most_bytes:
                self._rotate()
            num_bytes = os.write(self._file, view[: self._most_bytes - self._num_bytes])
            self._num_bytes += num_bytes
            view = view[num_bytes:]

    @property
    def last_line(self) -> str:
        """The last one that has words in it, of what was written by this object."""
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._num_bytes = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._open()
