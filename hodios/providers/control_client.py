"""An API process's end of the control channel: serves what the parent says, and asks it for more or less."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import msgspec

from hodios.errors import Overloaded, SetupError
from hodios.providers.control import Action, Answered, Asked, Drained, FromParent, Served, read_frame, write_frame
from hodios.providers.local import LocalModel, LocalProvider
from hodios.providers.prepared import Prepared

RETRY_S = 0.2
_log = logging.getLogger(__name__)


class Control:
    """`load` makes a model of what was prepared; `models` are those that `local` serves from the start."""

    def __init__(
        self,
        path: Path,
        local: LocalProvider,
        load: Callable[[Prepared], Awaitable[LocalModel]],
        models: list[Prepared],
    ) -> None:
        self.local = local
        self.problems: dict[str, str] = {}
        """Why models could not be loaded, by their ids."""
        self.leaving: list[str] = []
        self.changed = asyncio.Condition()
        """Notified when something is served, or goes, or could not be loaded."""
        self._path = path
        self._load = load
        self._served = {each.card.id: each for each in models}
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answered]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._draining: set[asyncio.Task[None]] = set()

    def is_served(self, id: str) -> bool:
        """Whether it is to be, be it ready or not."""
        return id in self._served

    async def ask(self, action: Action, name: str = "") -> Answered:
        """Raises NotFound, Conflict and InvalidRequest as the parent says, Overloaded where it cannot be asked."""
        writer = self._writer
        if writer is None:
            raise Overloaded("the process that keeps the models cannot be reached now", retry_after=1)
        asked = Asked(next(self._ids), action, name)
        self._answers[asked.id] = asyncio.get_running_loop().create_future()
        try:
            write_frame(writer, asked)
            answer = await self._answers[asked.id]
        finally:
            del self._answers[asked.id]
        answer.check()
        return answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """At work within the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            tasks = [task, *self._draining]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._converse()
            await asyncio.sleep(RETRY_S)

    async def _converse(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path)
        self._writer = writer
        decoder: msgspec.msgpack.Decoder[FromParent] = msgspec.msgpack.Decoder(FromParent)
        try:
            while True:
                message = await read_frame(reader, decoder)
                if isinstance(message, Served):
                    await self._become(message)
                elif (answer := self._answers.get(message.id)) is not None and not answer.done():
                    answer.set_result(message)
        finally:
            self._writer = None
            writer.close()
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(Overloaded("the process that keeps the models has ended", retry_after=1))

    async def _become(self, served: Served) -> None:
        wanted = {each.card.id: each for each in served.models}
        gone = [id for id, each in self._served.items() if wanted.get(id) != each]
        for id in gone:
            del self._served[id]
            self._drain(id)
        for id in served.leaving:
            if id not in gone and id not in self.leaving:
                self._tell_drained(id)
        for id, each in wanted.items():
            if id not in self._served:
                await self._serve(each)
        self.problems, self.leaving = served.problems, served.leaving
        async with self.changed:
            self.changed.notify_all()

    async def _serve(self, prepared: Prepared) -> None:
        self._served[prepared.card.id] = prepared
        try:
            await self.local.add(await self._load(prepared))
        except SetupError as error:
            _log.error("%s cannot be served: %s", prepared.card.id, error)

    def _drain(self, id: str) -> None:
        model = self.local.retire(id)
        if model is None:
            self._tell_drained(id)
            return
        task = asyncio.create_task(self._close_when_idle(id, model))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _close_when_idle(self, id: str, model: LocalModel) -> None:
        await model.close_when_idle()
        self._tell_drained(id)

    def _tell_drained(self, id: str) -> None:
        if self._writer is not None:
            write_frame(self._writer, Drained(id))
