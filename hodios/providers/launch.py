"""Child processes under supervision: started, restarted with growing pauses, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct, structs

REFUSED = 78
"""Exit code of a child that cannot work as things are (EX_CONFIG of sysexits). Its last words on stderr say why."""
NOT_YET = 75
"""Of one that cannot work yet, as its last words say (EX_TEMPFAIL): it is started again as after a crash."""
_TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1


class Child(Struct, frozen=True, kw_only=True):
    """One process to keep alive. Nothing is read from its terminal, and its stderr passes through the parent."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    """None: the parent's own."""
    pass_fds: tuple[int, ...] = ()
    """Open descriptors it inherits, besides the supervisor's `parent_fd`."""
    stage: int = 0
    """Children of the highest stage are stopped first, and only when they have ended those of the next."""
    is_essential: bool = False
    """Where it refuses at its first start, all children are stopped. Once it has worked it is started for ever: what it
    lacks then may come back."""


class ChildEvent(Struct, frozen=True, kw_only=True):
    """What happened to a child, for whoever reports it."""

    kind: Literal["started", "crashed", "refused", "stopped"]
    child: Child
    pid: int = 0
    code: int = 0
    """Exit code; minus the signal's number where a signal ended it."""
    delay_s: float = 0.0
    """With "crashed": when it is started again."""
    message: str = ""
    """With "refused" and "crashed": the last it wrote to stderr."""


class Pace(Struct, frozen=True, kw_only=True):
    """How long a child may take to stop, and when one that crashed is started again."""

    stop_s: float = 10.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    stable_s: float = 60.0
    """A child that ran this long is forgiven its earlier crashes."""
    start_s: float = 5.0
    most_failed_starts: int = 5
    """An essential child that has given up so often within `start_s`, and never lived longer, counts as refusing."""


class Supervisor:
    """Keeps children alive until `stop`. They end with the parent in any case, even one that is killed: each inherits
    `parent_fd`, whose reading end sees the end of file then, and on Linux the kernel sends it SIGTERM."""

    def __init__(
        self,
        *,
        on_event: Callable[[ChildEvent], None],
        on_output: Callable[[Child, bytes], None],
        pace: Pace = Pace(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_event = on_event
        self._on_output = on_output
        self._pace = pace
        self._clock = clock
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[ChildEvent]] = {}
        self._turns: dict[str, tuple[Child, asyncio.Event]] = {}
        """When each child is to be stopped."""
        self.parent_fd, self._write_fd = os.pipe()
        """`parent_fd` is the same number in every child."""

    def stop(self) -> None:
        """Ask all children to end; when called again, end them at once. `run` returns when they have."""
        if self._stopping.is_set():
            self._killing.set()
        self._stopping.set()

    async def run(self, children: tuple[Child, ...], *, handle_signals: bool = True) -> dict[str, ChildEvent]:
        """Keep `children` until `stop`, SIGINT, SIGTERM, SIGHUP, or all have refused. The last event of each."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if handle_signals else ()
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        for child in children:
            self.add(child)
        try:
            await self._stopped_or_ended()
            for stage in sorted({child.stage for child, _ in self._turns.values()}, reverse=True):
                names = [name for name, (child, _) in self._turns.items() if child.stage == stage]
                for name in names:
                    self._turns[name][1].set()
                await asyncio.gather(*(self._tasks[name] for name in names))
            return {name: task.result() for name, task in self._tasks.items()}
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            for number in signals:
                loop.remove_signal_handler(number)
            os.close(self.parent_fd)
            os.close(self._write_fd)

    def add(self, child: Child) -> None:
        """Keep one more, from now on. While `run` is at work, and not under the name of one that is kept."""
        if self._stopping.is_set():
            return
        turn = asyncio.Event()
        self._turns[child.name] = (child, turn)
        self._tasks[child.name] = asyncio.create_task(self._keep(child, turn))
        self._changed.set()

    async def remove(self, name: str) -> None:
        """Stop one of them, and return when it has ended."""
        if name in self._tasks:
            self._turns[name][1].set()
            await asyncio.wait((self._tasks[name],))
            # Whoever stops everything meanwhile waits for it too.
            self._turns.pop(name, None)
            self._tasks.pop(name, None)

    async def _stopped_or_ended(self) -> None:
        stop = asyncio.create_task(self._stopping.wait())
        while not stop.done() and not all(task.done() for task in self._tasks.values()):
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait((stop, changed, *self._running()), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        stop.cancel()

    def _running(self) -> list[asyncio.Task[ChildEvent]]:
        return [task for task in self._tasks.values() if not task.done()]

    async def _keep(self, child: Child, turn: asyncio.Event) -> ChildEvent:
        """Start the child again and again; the event that ended this."""
        delay_s = self._pace.first_delay_s
        failed_starts = 0 if child.is_essential else -math.inf
        while True:
            has_worked = child.is_essential and failed_starts == -math.inf
            began = self._clock()
            event = await self._live_once(child, turn)
            lived_s = self._clock() - began
            if lived_s >= self._pace.stable_s:
                delay_s = self._pace.first_delay_s
            failed_starts += 1 if lived_s < self._pace.start_s and event.code > 0 else -math.inf
            if event.kind == "refused" and has_worked:
                event = structs.replace(event, kind="crashed")
            if event.kind == "crashed":
                is_last = failed_starts >= self._pace.most_failed_starts
                event = structs.replace(event, kind="refused") if is_last else structs.replace(event, delay_s=delay_s)
            self._on_event(event)
            if event.kind == "refused" and child.is_essential:
                self._stopping.set()
            if event.kind != "crashed" or await self._is_over_within(turn, delay_s):
                return event
            delay_s = min(2 * delay_s, self._pace.longest_delay_s)

    async def _is_over_within(self, turn: asyncio.Event, timeout_s: float) -> bool:
        """Whether it need not be started again."""
        waits = [asyncio.create_task(event.wait()) for event in (self._stopping, turn)]
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return bool(done)

    async def _live_once(self, child: Child, turn: asyncio.Event) -> ChildEvent:
        """One process from its start to its end."""
        stderr = _Tail(lambda data: self._on_output(child, data))
        try:
            process = await asyncio.create_subprocess_exec(
                *child.argv,
                env=child.env,
                pass_fds=(*child.pass_fds, self.parent_fd),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=stderr.write_fd,
                start_new_session=True,
                preexec_fn=ask_for_death_signal(os.getpid()),
            )
        except OSError as error:
            stderr.close()
            return ChildEvent(kind="refused", child=child, message=f"{child.argv[0]}: {error.strerror}")
        try:
            stderr.listen()
            self._on_event(ChildEvent(kind="started", child=child, pid=process.pid))
            code = await self._attend(process, turn)
        finally:
            await _kill(process)
            stderr.close()
        if code == REFUSED:
            kind: Literal["refused", "stopped", "crashed"] = "refused"
        else:
            kind = "stopped" if self._stopping.is_set() or turn.is_set() else "crashed"
        return ChildEvent(kind=kind, child=child, pid=process.pid, code=code, message=stderr.text())

    async def _attend(self, process: asyncio.subprocess.Process, turn: asyncio.Event) -> int:
        """Wait for the end, or for this child's turn to be stopped, and then for so long as it may take."""
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(turn.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                killed = asyncio.create_task(self._killing.wait())
                await asyncio.wait((ended, killed), timeout=self._pace.stop_s, return_when=asyncio.FIRST_COMPLETED)
                killed.cancel()
            if not ended.done():
                await _kill(process)
            return await ended
        finally:
            ended.cancel()
            stopped.cancel()


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process and what it has started itself, unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


class _Tail:
    """A pipe for a child's stderr: hands everything on and remembers the end of it."""

    def __init__(self, forward: Callable[[bytes], None]) -> None:
        self._forward = forward
        self._tail = b""
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)

    def listen(self) -> None:
        """To be called when the child has its end: ours is closed, so that its end is seen."""
        os.close(self.write_fd)
        self.write_fd = -1
        asyncio.get_running_loop().add_reader(self._read_fd, self._read)

    def close(self) -> None:
        """Takes what is left in the pipe first."""
        while self.write_fd == -1 and self._read():
            pass
        asyncio.get_running_loop().remove_reader(self._read_fd)
        os.close(self._read_fd)
        if self.write_fd != -1:
            os.close(self.write_fd)

    def text(self) -> str:
        return self._tail.decode(errors="replace").strip()

    def _read(self) -> bool:
        try:
            data = os.read(self._read_fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._read_fd)
            return False
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        self._forward(data)
        return True


def ask_for_death_signal(parent_pid: int) -> Callable[[], None] | None:
    """Runs in the child before its program: SIGTERM shall come when the parent dies. None where no kernel offers it."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:
            os._exit(1)

    return ask
