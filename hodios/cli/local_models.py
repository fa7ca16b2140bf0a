"""The models that the parent serves from this machine: more are loaded and some unloaded while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import structs

from hodios.config import Config, environment
from hodios.errors import Conflict, InvalidRequest, NotFound, SetupError
from hodios.providers.control import Served
from hodios.providers.installed import InstalledModel, find, installed
from hodios.providers.launch import ask_for_death_signal
from hodios.providers.prepared import Prepared
from hodios.providers.sockets import socket_path

DRAIN_S = 30.0
"""How long answers may take that are under way when their model is unloaded."""
Prepare = Callable[[InstalledModel, Config], Awaitable[Prepared]]
"""Raises SetupError."""


class Engines(Protocol):
    """Who keeps the engine workers."""

    def start(self, prepared: Prepared) -> None: ...

    async def stop(self, model: str) -> None: ...


class LocalModels:
    """`on_change` is told what is to be served from now on; `drained` waits until nobody needs a model any more."""

    def __init__(
        self,
        config: Config,
        prepared: Sequence[Prepared],
        engines: Engines,
        on_change: Callable[[Served], None],
        drained: Callable[[str], Awaitable[None]],
        prepare: Prepare,
    ) -> None:
        self._prepare = prepare
        self._config = config
        self._served = {each.card.id: each for each in prepared}
        self._engines = engines
        self._on_change = on_change
        self._drained = drained
        self._leaving: list[str] = []
        self._problems: dict[str, str] = {}
        self._added: set[str] = set()
        """Loaded while the server ran."""
        self._lock = asyncio.Lock()

    @property
    def served(self) -> Served:
        return Served(list(self._served.values()), list(self._leaving), dict(self._problems))

    async def load(self, name: str) -> None:
        """Returns when its engine is being started. Raises NotFound, Conflict."""
        model = await self._installed(name)
        async with self._lock:
            if model.id in self._served:
                return
            try:
                prepared = await self._prepare(model, self._config)
            except SetupError as error:
                raise Conflict(f"{model.id} cannot be loaded: {error}") from error
            self._problems.pop(model.id, None)
            self._added.add(model.id)
            self._served[model.id] = prepared
            self._engines.start(prepared)
            self._on_change(self.served)

    async def unload(self, name: str) -> None:
        """New requests find it no more; those under way end first, as far as they do within DRAIN_S. Raises
        NotFound."""
        model = await self._installed(name)
        async with self._lock:
            if self._served.pop(model.id, None) is None:
                raise NotFound(f"{model.id} is not loaded")
            self._leaving.append(model.id)
            self._on_change(self.served)
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self._drained(model.id)
            except TimeoutError:
                pass
            await self._engines.stop(model.id)
            self._leaving.remove(model.id)
            self._on_change(self.served)

    def refused(self, model: str, reason: str) -> bool:
        """Its engine cannot run it. Whether somebody has asked for that while the server ran."""
        if self._served.pop(model, None) is None:
            return False
        self._problems[model] = reason
        self._on_change(self.served)
        return model in self._added

    async def _installed(self, name: str) -> InstalledModel:
        """Raises NotFound, InvalidRequest."""
        try:
            found = await asyncio.to_thread(installed, self._config.home)
        except OSError as error:
            raise InvalidRequest(f"{self._config.home} cannot be read: {error.strerror}") from error
        model = find(found, name)
        if model is None:
            there = ", ".join(each.id for each in found) or "none"
            raise NotFound(f"the model {name[:200]!r} is not installed; there: {there[:1000]}")
        return model


async def prepared_apart(model: InstalledModel, config: Config) -> Prepared:
    """As `providers.prepare.prepare`, in a process that takes with it what reading a model's file loads."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hodios.providers.prepare_worker", model.id),
        env=environment(structs.replace(config, launch=(), workers=1), with_key=False),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        preexec_fn=ask_for_death_signal(os.getpid()),
    )
    try:
        told, words = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        said = words.decode(errors="replace").strip().rpartition("\n")[2]
        raise SetupError(said or f"preparing it ended with code {process.returncode}")
    made = msgspec.json.decode(told, type=Prepared)
    # Its engine is this process's child.
    return structs.replace(made, socket=str(socket_path(config.home, Path(made.folder).name)))
