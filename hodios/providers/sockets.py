"""Where processes of one server listen for each other: sockets under HODIOS_HOME/run that this user alone can reach."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from hodios.errors import SetupError

MAX_SOCKET_PATH = 100
"""Unix sockets have no longer names (108 bytes on Linux, less elsewhere)."""


def socket_path(home: Path, name: str) -> Path:
    """At home where that is short enough for a socket, else in a folder of this user's own. Raises SetupError.

    With this process's id: two servers of one home must not meet each other's children.
    """
    path = home / "run" / f"{name[:12]}-{os.getpid()}.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"hodios-{os.getuid()}-{digest}" / path.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(path.parent)
    return path


def _check_private(folder: Path) -> None:
    """Whoever else may write to it could put a socket of their own there."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SetupError(
            f"{folder} is to hold the engines' sockets, but other users may write to it. Remove it, or set its owner "
            "and its mode (0700)."
        )
