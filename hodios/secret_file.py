"""A secret that is made once and kept in a file for the owner's eyes alone."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct


class Kept(Struct, frozen=True):
    text: str
    is_new: bool
    was_exposed: bool
    """Others could read the file until now; the mode has been tightened."""


def obtain(path: Path, generate: Callable[[], str]) -> Kept:
    """The secret in `path`, made at the first call. Two processes that ask at once get the same one. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # The lock, and not exclusive creation, decides who generates: a start killed between
        # creating and writing then leaves an empty file that the next start fills.
        fcntl.flock(file, fcntl.LOCK_EX)
        was_exposed = bool(stat.S_IMODE(os.fstat(file).st_mode) & 0o077)
        if was_exposed:
            os.fchmod(file, 0o600)
        kept = os.read(file, 4096).decode("ascii", errors="replace").strip()
        is_new = not kept
        if is_new:
            kept = generate()
            os.write(file, f"{kept}\n".encode())
            os.fsync(file)
    finally:
        os.close(file)
    return Kept(kept, is_new, was_exposed)
