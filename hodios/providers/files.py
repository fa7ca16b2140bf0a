"""Model files reach their place whole or not at all: checksums, atomic moves, room on the disk, one pull at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from hodios.errors import DownloadFailed

CHUNK_BYTES = 2**20
_SPARE_BYTES = 64 * 2**20


class Progress(Protocol):
    def __call__(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of the file `name` have been written; may step back where a download starts again."""


@contextlib.contextmanager
def pull_lock(home: Path) -> Iterator[None]:
    """Waits until no other process pulls into `home`. The lock ends with its process, however that ends."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(home / ".pull.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DownloadFailed(
            f"{home} is not writable ({error.strerror}). Set HODIOS_HOME to another folder."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def require_space(folder: Path, num_bytes: int) -> None:
    """Raises DownloadFailed unless `num_bytes` more fit on the disk of `folder`, which must exist."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes + _SPARE_BYTES:
        raise DownloadFailed(
            f"{num_bytes / 1e9:.2f} GB are needed in {folder}, and {free / 1e9:.2f} GB are free. "
            "Free some, or set HODIOS_HOME to a folder on another disk."
        )


def store(source: IO[bytes], target: Path, sha256: str | None = None) -> None:
    """Copy `source` to `target`, by way of a `.part` file. Raises DownloadFailed where the checksum is not `sha256`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    with part.open("wb") as output:
        shutil.copyfileobj(source, output, CHUNK_BYTES)
    finish(part, target, sha256)


def part_of(target: Path) -> Path:
    """Where `target` grows; never taken for a model, because its name does not end in .gguf."""
    return target.with_name(f"{target.name}.part")


def finish(part: Path, target: Path, sha256: str | None) -> None:
    """Move a complete `part` to its place, after its magic number and checksum were right; else remove it and raise."""
    try:
        require_gguf(part)
        if sha256 is not None:
            verify(part, sha256)
    except DownloadFailed:
        part.unlink()
        raise
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)


def require_gguf(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise DownloadFailed(f"{path.name.removesuffix('.part')} is no GGUF file: it begins with {magic!r}.")


def verify(path: Path, sha256: str) -> None:
    """Raises DownloadFailed where the file's SHA-256 is another."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise DownloadFailed(
            f"{path.name.removesuffix('.part')} has the checksum {found}, and {sha256} was expected. "
            "What arrived is not what was published; fetch it again."
        )
