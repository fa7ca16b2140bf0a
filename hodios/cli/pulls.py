"""Downloads that were asked for while the server runs: each a process of its own, its progress read from what it
says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
from msgspec import structs

from hodios.errors import Conflict, InvalidRequest, NotFound
from hodios.providers.control import PullProgress, PullStanding
from hodios.providers.launch import ask_for_death_signal

MOST_RUNNING = 4
MOST_KEPT = 50
LONGEST_SOURCE = 2000
_SPEED_S = 5.0
"""Over how long a speed is measured."""


class _Pull:
    def __init__(self, id: str, source: str) -> None:
        self.standing = PullStanding(id=id, source=source)
        self.task: asyncio.Task[None] | None = None
        self.samples: deque[tuple[float, int]] = deque()


class Pulls:
    """`argv` and the source are the process; `env` is its environment."""

    def __init__(
        self,
        env: Mapping[str, str],
        argv: tuple[str, ...] = (sys.executable, "-m", "hodios.providers.pull_worker"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env = dict(env)
        self._argv = argv
        self._clock = clock
        self._pulls: dict[str, _Pull] = {}
        self._num = 0

    def all(self) -> list[PullStanding]:
        """The newest first."""
        return [pull.standing for pull in reversed(self._pulls.values())]

    def start(self, source: str) -> PullStanding:
        """Raises InvalidRequest, Conflict."""
        source = source.strip()
        if not source or len(source) > LONGEST_SOURCE or source.startswith("-") or not source.isprintable():
            raise InvalidRequest(
                "source: name a model of the catalog, author/name of a hub, a URL or a file", param="source"
            )
        running = [pull for pull in self._pulls.values() if pull.standing.state == "running"]
        if any(pull.standing.source == source for pull in running):
            raise Conflict(f"{source} is being pulled already")
        if len(running) >= MOST_RUNNING:
            raise Conflict(f"{len(running)} pulls are under way; wait for one of them, or cancel it")
        self._num += 1
        pull = self._pulls[str(self._num)] = _Pull(str(self._num), source)
        for id in [id for id, each in self._pulls.items() if each.standing.state != "running"][: -MOST_KEPT or None]:
            del self._pulls[id]
        pull.task = asyncio.create_task(self._run(pull))
        return pull.standing

    async def cancel(self, id: str) -> PullStanding:
        """Of one that is over nothing but the entry is removed. Raises NotFound."""
        pull = self._pulls.get(id)
        if pull is None:
            raise NotFound(f"there is no pull {id[:60]!r}; GET /admin/v1/local/pulls lists them")
        if pull.standing.state != "running":
            return self._pulls.pop(id).standing
        assert pull.task is not None
        pull.task.cancel()
        await asyncio.gather(pull.task, return_exceptions=True)
        return pull.standing

    async def aclose(self) -> None:
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, pull: _Pull) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                pull.standing.source,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=ask_for_death_signal(os.getpid()),
            )
        except OSError as error:
            self._end(pull, state="failed", error=str(error))
            return
        assert process.stdout is not None
        assert process.stderr is not None
        words = asyncio.create_task(process.stderr.read())
        try:
            async for line in process.stdout:
                self._note(pull, line)
            code = await process.wait()
            said = (await words).decode(errors="replace").strip().rpartition("\n")[2]
            if code:
                self._end(pull, state="failed", error=said or f"it ended with code {code}")
            else:
                self._end(pull, state="done", total_bytes=pull.standing.bytes)
        except asyncio.CancelledError:
            self._end(pull, state="cancelled")
            raise
        finally:
            words.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _note(self, pull: _Pull, line: bytes) -> None:
        try:
            progress = msgspec.json.decode(line, type=PullProgress)
        except msgspec.MsgspecError:
            return
        now_s = self._clock()
        pull.samples.append((now_s, progress.bytes))
        while now_s - pull.samples[0][0] > _SPEED_S and len(pull.samples) > 2:
            pull.samples.popleft()
        since_s, before = pull.samples[0]
        speed = (progress.bytes - before) / (now_s - since_s) if now_s > since_s and progress.bytes >= before else None
        pull.standing = structs.replace(
            pull.standing, bytes=progress.bytes, total_bytes=progress.total_bytes, bytes_per_s=speed
        )

    def _end(self, pull: _Pull, **changes: object) -> None:
        pull.standing = structs.replace(pull.standing, bytes_per_s=None, **changes)
