"""The parent's end of the control channel: hears the API processes, and tells them what is served."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from hodios.cli.local_models import LocalModels
from hodios.cli.pulls import Pulls
from hodios.errors import Conflict, HodiosError, NotFound
from hodios.providers.control import Answered, Asked, Refusal, Served, ToParent, read_frame, write_frame


class ControlServer:
    """On a socket that the owner alone can reach."""

    def __init__(self, path: Path, pulls: Pulls) -> None:
        self.path = path
        self._pulls = pulls
        self._models: LocalModels
        self._writers: set[asyncio.StreamWriter] = set()
        self._hearing: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, set[asyncio.StreamWriter]] = {}
        """By model: who has not said yet that it has no more use for it."""
        self._drained = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def start(self, models: LocalModels) -> None:
        """From now on `models` and the pulls do what is asked."""
        self._models = models
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._converse, self.path)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        for answering in tuple(self._answering):
            answering.cancel()
        # What hears them ends when there is nothing more to be heard.
        for writer in tuple(self._writers):
            writer.close()
        await asyncio.gather(*self._answering, *self._hearing, return_exceptions=True)
        await self._pulls.aclose()
        self.path.unlink(missing_ok=True)

    def tell(self, served: Served) -> None:
        for writer in self._writers:
            write_frame(writer, served)

    async def drained(self, model: str) -> None:
        """Returns when nobody who is connected needs the engine of the model."""
        waiting = self._waiting[model] = set(self._writers)
        try:
            async with self._drained:
                await self._drained.wait_for(lambda: not waiting & self._writers)
        finally:
            del self._waiting[model]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._hearing.add(task)
        self._writers.add(writer)
        decoder: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)
        try:
            write_frame(writer, self._models.served)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
                while True:
                    message = await read_frame(reader, decoder)
                    if isinstance(message, Asked):
                        answering = asyncio.create_task(self._answer(message, writer))
                        self._answering.add(answering)
                        answering.add_done_callback(self._answering.discard)
                    else:
                        self._waiting.get(message.model, set()).discard(writer)
                        await self._wake()
        finally:
            self._writers.discard(writer)
            self._hearing.discard(task)
            writer.close()
            await self._wake()

    async def _wake(self) -> None:
        async with self._drained:
            self._drained.notify_all()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        try:
            match asked.action:
                case "load":
                    await self._models.load(asked.name)
                case "unload":
                    await self._models.unload(asked.name)
                case "pull":
                    self._pulls.start(asked.name)
                case "cancel":
                    await self._pulls.cancel(asked.name)
                case "pulls":
                    pass
        except HodiosError as error:
            write_frame(writer, Answered(asked.id, refusal=_refusal(error), message=error.message))
        else:
            write_frame(writer, Answered(asked.id, pulls=self._pulls.all()))


def _refusal(error: HodiosError) -> Refusal:
    if isinstance(error, NotFound):
        return "not_found"
    return "conflict" if isinstance(error, Conflict) else "invalid"
