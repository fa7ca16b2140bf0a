"""That something was used or has ended, on disk: all processes with the same home agree on it, and restarts do not
forget.

A mark is an empty file, which names until when it matters and is removed after that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from hodios.errors import Overloaded


class Marks:
    """In a folder of their own. `clock` gives Unix seconds. Blocks on the disk, for a moment."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    def set(self, name: str, until_s: int) -> bool:
        """False where it was set before. `name` is fit for a file. Raises Overloaded where it cannot be kept."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_old()
            return self._create(self._path(name, until_s))
        except OSError as error:
            raise Overloaded(f"{self._folder} cannot be written: {error.strerror}", retry_after=60) from error

    def has(self, name: str, until_s: int) -> bool:
        return self._path(name, until_s).exists()

    def _create(self, path: Path) -> bool:
        """Who creates it is first, whichever process that is."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True

    def _path(self, name: str, until_s: int) -> Path:
        return self._folder / f"{until_s}-{name}"

    def _remove_old(self) -> None:
        now_s = self._clock()
        for path in self._folder.iterdir():
            until_s = path.name.partition("-")[0]
            if until_s.isdecimal() and int(until_s) < now_s:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
