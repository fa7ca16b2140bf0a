"""The process that holds one server of others: `python -m hodios.providers.keeper --parent-fd N`, with its launch as
the only one of the settings.

Keeps its log, gives up on it where it does not become ready, and ends with everything that it has started: the server
is in this process's group, and however this ends, that group is killed. Asks it for nothing but whether it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from hodios import config
from hodios.errors import SetupError
from hodios.launches import LAUNCHED_AS, Launch, ready_urls
from hodios.providers.launch import REFUSED, ask_for_death_signal
from hodios.providers.probe import status_of_first
from hodios.providers.rotating_log import RotatingLog
from hodios.setting_values import is_loopback

_POLL_S = 0.25
_READ_BYTES = 65536


def log_path(home: Path, launch: Launch) -> Path:
    return home / "logs" / f"{launch.name}.log"


class Keeper:
    """One run of one server. A server that ends with REFUSED is one that cannot be started."""

    def __init__(self, launch: Launch, env: dict[str, str], key: str | None, log: RotatingLog) -> None:
        self._launch = launch
        self._env = env
        self._key = key
        self._log = log
        self._stopping = asyncio.Event()
        self._silent = asyncio.Event()
        """Set when nobody is left who could write into the log."""
        self._output_fd = -1

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> str:
        """Why it ended, "" where that was wished for. Raises SetupError where it cannot be started at all."""
        taken = _taken_port(self._launch)
        if taken:
            return f"another program has port {taken}, where it should listen"
        self._output_fd, write_fd = os.pipe()
        try:
            process = await self._start(write_fd)
        finally:
            os.close(write_fd)
        os.set_blocking(self._output_fd, False)
        asyncio.get_running_loop().add_reader(self._output_fd, self._read)
        reason = await self._attend(process)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._launch.stop_timeout_s):
                os.killpg(0, signal.SIGTERM)
                await process.wait()
                await self._silent.wait()
        return reason

    async def _start(self, output_fd: int) -> asyncio.subprocess.Process:
        launch = self._launch
        try:
            return await asyncio.create_subprocess_exec(
                *launch.command,
                env=self._env,
                cwd=os.path.expanduser(launch.cwd) if launch.cwd else None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output_fd,
                stderr=output_fd,
                preexec_fn=ask_for_death_signal(os.getpid()),
            )
        except OSError as error:
            what = launch.cwd if launch.cwd and not Path(launch.cwd).expanduser().is_dir() else launch.command[0]
            raise SetupError(f"{launch.name} cannot be started: {what}: {error.strerror}.") from None

    async def _attend(self, process: asyncio.subprocess.Process) -> str:
        """Until it is to end, or has ended, or takes too long to become ready."""
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        late = asyncio.create_task(self._late())
        await asyncio.wait((ended, stopped, late), return_when=asyncio.FIRST_COMPLETED)
        if not late.done():
            late.cancel()
        stopped.cancel()
        if self._stopping.is_set():
            return ""
        if ended.done():
            # What it said last may still be in the pipe.
            while self._read():
                pass
            words = self._log.last_line
            if process.returncode == REFUSED:
                raise SetupError(words or f"{self._launch.name} ended with code {REFUSED}")
            return f"its command ended with code {process.returncode}{f', saying: {words}' if words else ''}"
        return f"it was not ready within {self._launch.start_timeout_s:g} s"

    async def _late(self) -> None:
        """Returns when its time to become ready is over, never where it is ready before."""
        try:
            async with asyncio.timeout(self._launch.start_timeout_s):
                while not await self._is_ready():  # noqa: ASYNC110 - another process becomes ready
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return
        await asyncio.Event().wait()

    async def _is_ready(self) -> bool:
        try:
            return await status_of_first(ready_urls(self._launch), self._key) == 200
        except TimeoutError:
            return False

    def _read(self) -> bool:
        """Whether there was anything, so that there may be more."""
        if self._silent.is_set():
            return False
        try:
            data = os.read(self._output_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._log.write(data)
            return True
        asyncio.get_running_loop().remove_reader(self._output_fd)
        os.close(self._output_fd)
        self._silent.set()
        return False


def _taken_port(launch: Launch) -> int | None:
    """The port of this machine on which it should listen, where somebody else does."""
    parts = urlsplit(launch.base_url)
    if parts.port is None or not is_loopback(parts.hostname or ""):
        return None
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((parts.hostname, parts.port))
        except OSError:
            return parts.port
    return None


async def keep(settings: config.Config, parent_fd: int | None) -> str:
    """As `Keeper.run`, until SIGTERM or the end of the parent."""
    (launch,) = settings.launch
    log = RotatingLog(log_path(settings.home, launch))
    kept = {*launch.pass_env, *([launch.api_key_env] if launch.api_key_env else [])}
    env = config.foreign_environment(settings, kept, {**launch.env, LAUNCHED_AS: launch.name})
    key = config.key_in(launch.api_key_env) if launch.api_key_env else None
    keeper = Keeper(launch, env, key, log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, keeper.stop)
    if parent_fd is not None:
        loop.add_reader(parent_fd, _end, parent_fd, keeper)
    return await keeper.run()


def _end(parent_fd: int, keeper: Keeper) -> None:
    asyncio.get_running_loop().remove_reader(parent_fd)
    keeper.stop()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.providers.keeper")
    parser.add_argument("--parent-fd", type=int)
    parsed = parser.parse_args(arguments)
    if os.getpgrp() != os.getpid():
        os.setsid()
    try:
        settings = config.load()
        reason = asyncio.run(keep(settings, parsed.parent_fd))
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    if reason:
        (launch,) = settings.launch
        sys.stderr.write(f"{launch.name}: {reason} (log: {log_path(settings.home, launch)})\n")
        sys.stderr.flush()
    # The only way to reach all that the server may have left behind, this process among them.
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
