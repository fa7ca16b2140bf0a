"""What the commands share: where to print, progress bars, and how to find the server that they ask."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hodios import admin_key
from hodios.config import Config
from hodios.providers.files import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys instead of showing them, or that make it show others in another order."""


def stdout() -> Console:
    """Lines are not broken; a table in a file or a pipe is not cut off at the width of a terminal."""
    # Imported here because the parent of all processes prints without it, and stays small.
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def visible(text: str) -> str:
    """What models and tools wrote, with what a terminal would obey spelled out."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def program() -> str:
    """How this program was called, for commands to paste."""
    name = sys.argv[0]
    return name if name.endswith("/hodios") else "hodios"


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def server_url(config: Config, port: int | None = None) -> str:
    """Where a program on this machine reaches the server: an address for all interfaces is none to connect to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port if port is None else port}"


def known_key(config: Config) -> str | None:
    """The key that was set or that an earlier start has kept; never a new one."""
    if config.admin_key is not None or not (config.home / "admin.key").is_file():
        return config.admin_key
    return admin_key.obtain(config.home).value


@contextlib.contextmanager
def download_progress() -> Iterator[Progress]:
    """Bars on a terminal, one line per file elsewhere; both on stderr."""
    console = stderr()
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich import progress

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn())
    rates = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, *rates, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenths: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self._tenths.get(name, -1):
            self._tenths[name] = tenth
            of = f" of {gigabytes(total)}" if total else ""
            self._console.print(f"{name}: {gigabytes(done)}{of}")
