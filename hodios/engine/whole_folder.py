"""A folder that is made once, by one process at a time, and found whole or not at all. Knows not what is in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

LOCK_NAME = ".lock"
UNFINISHED_NAME = ".unfinished"


def make_whole(folder: Path, fill: Callable[[Path], None], *, is_whole: Callable[[Path], bool] = Path.is_dir) -> None:
    """Let `fill` write into a folder that becomes `folder` when it returns, unless somebody else was faster.

    What is there and not whole is replaced. Whoever comes while another process is at it waits for it; what a killed
    one has left is removed. Raises OSError, and whatever `fill` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(folder):
            return
        unfinished = folder.parent / UNFINISHED_NAME
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            fill(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_durably(path: Path, data: bytes) -> None:
    """A file that is on the disk when this returns, so that a folder renamed later never holds an empty one."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
