"""The API process's end of an engine worker's socket: submits, hands out outputs, reconnects while the worker is away.

Token ids in, token ids out. Starts no process and repeats no request: who waits when the worker dies is told to retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from hodios.engine.messages import Abort, FromWorker, Hello, Output, Refused, Stats, Step, Submit
from hodios.errors import HodiosError, InvalidRequest, Overloaded, ProviderError

EngineState = Literal["loading", "ready", "restarting", "closed"]

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 26
"""Above anything a step can bring; a longer frame is garbage."""
READ_BUFFER_BYTES = 1 << 18

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


class BrokenProtocolError(Exception):
    """The other end sends what no worker would send; the connection is given up."""


class EngineClient:
    """One worker's client, for all requests of one event loop. `generate` answers while `state` is "ready"."""

    def __init__(
        self,
        socket_path: Path,
        *,
        name: str,
        first_delay_s: float = 0.02,
        max_delay_s: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`name` is the model's id, for the sentences of errors. The delay between two attempts to connect doubles from
        `first_delay_s` to `max_delay_s`, and starts anew with every worker that said hello.
        """
        self.hello: Hello | None = None
        """The latest worker's, also while it is away."""
        self.stats: Stats | None = None
        """Of its latest step; None while it is away."""
        self.restarts = 0
        """How often a worker that was ready has gone away."""
        self._socket_path = socket_path
        self._name = name
        self._first_delay_s = first_delay_s
        self._max_delay_s = max_delay_s
        self._sleep = sleep
        self._decoder = msgspec.msgpack.Decoder(FromWorker)
        self._encoder = msgspec.msgpack.Encoder()
        self._ids = itertools.count(1)
        self._inboxes: dict[int, _Inbox] = {}
        self._writer: asyncio.StreamWriter | None = None
        """Set while a worker that said hello is connected."""
        self._connected = asyncio.Event()
        self._connection: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def state(self) -> EngineState:
        if self._is_closed:
            return "closed"
        if self._writer is not None:
            return "ready"
        return "loading" if self.hello is None else "restarting"

    async def start(self) -> None:
        """Begin to connect, in the background, and never stop trying. Returns at once."""
        if self._connection is None and not self._is_closed:
            self._connection = asyncio.create_task(self._stay_connected(), name=f"engine client of {self._name}")

    async def aclose(self) -> None:
        """Give up the connection; streams still open end in `ProviderError`. May be called twice."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
            await asyncio.wait([connection])
        self._connected.set()

    async def wait_ready(self) -> Hello:
        """Wait, however long, for a worker that has loaded its model. Raises ProviderError once closed."""
        while self._writer is None and not self._is_closed:
            await self._connected.wait()
        return self.require_ready()

    def require_ready(self) -> Hello:
        """Raises: Overloaded while the worker is away, ProviderError once closed."""
        if self._writer is None or self.hello is None:
            raise self._absence()
        return self.hello

    def new_id(self) -> int:
        """An id for `Submit` that was never used on this client."""
        return next(self._ids)

    async def generate(self, *submits: Submit) -> AsyncGenerator[Output, None]:
        """Outputs of all `submits` (each with a `new_id()`) as they come; those that pile up are merged into one for
        each continuation. Ends when every continuation has finished or was aborted; closing it aborts what has not.

        Raises: Overloaded (the worker is away, dies, or its queue is full), InvalidRequest (it can never be taken, or
        its grammar becomes too complex), ProviderError (a continuation failed, or the client was closed).
        """
        self.require_ready()
        inbox = _Inbox(submits)
        for submit in submits:
            self._inboxes[submit.id] = inbox
        try:
            await self._submit(submits)
            while True:
                for output in inbox.take():
                    if output.finish_reason == "error":
                        raise self._failure(output)
                    yield output
                if inbox.outputs:
                    continue
                if inbox.failure is not None:
                    raise inbox.failure
                if not inbox.unfinished:
                    return
                inbox.arrived.clear()
                await inbox.arrived.wait()
        finally:
            for submit in submits:
                del self._inboxes[submit.id]
            for unfinished in {id for id, _ in inbox.unfinished}:
                self._send(Abort(unfinished))

    def abort(self, id: int, index: int) -> None:
        """Stop one continuation of a request that is being generated; its generator yields nothing more of it."""
        inbox = self._inboxes.get(id)
        if inbox is not None and inbox.drop(id, index):
            self._send(Abort(id, index))

    async def _submit(self, submits: Iterable[Submit]) -> None:
        for submit in submits:
            self._send(submit)
            if self._writer is not None:
                # A connection that breaks here is noticed by its reader, which fails every inbox.
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()

    def _send(self, message: Submit | Abort) -> None:
        if self._writer is not None and not self._writer.is_closing():
            frame = bytearray(LENGTH_BYTES)
            self._encoder.encode_into(message, frame, LENGTH_BYTES)
            frame[:LENGTH_BYTES] = (len(frame) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")
            self._writer.write(frame)

    async def _stay_connected(self) -> None:
        delay_s = self._first_delay_s
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=READ_BUFFER_BYTES)
                if await self._converse(reader, writer):
                    delay_s = self._first_delay_s
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, self._max_delay_s)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one connection to its end. Returns whether the worker ever said hello."""
        try:
            await self._read(reader, writer)
        except (OSError, EOFError) as reason:
            logger.info("engine of %s: connection lost: %r", self._name, reason)
        except (msgspec.DecodeError, BrokenProtocolError, RecursionError, UnicodeDecodeError) as reason:
            logger.error("engine of %s: unreadable frame, reconnecting: %s", self._name, reason)
        finally:
            was_ready = self._writer is not None
            self._writer = self.stats = None
            self._connected.clear()
            self.restarts += was_ready and not self._is_closed
            writer.transport.abort()
            for inbox in set(self._inboxes.values()):
                inbox.lose(self._loss())
        return was_ready

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await self._next_message(reader)
        if not isinstance(hello, Hello):
            raise BrokenProtocolError(f"{type(hello).__name__} came before Hello")
        self.hello, self._writer = hello, writer
        self._connected.set()
        while True:
            match await self._next_message(reader):
                case Step(outputs=outputs, stats=stats):
                    self.stats = stats
                    for output in outputs:
                        if (inbox := self._inboxes.get(output.id)) is not None:
                            inbox.put(output)
                case Refused() as refused:
                    if (inbox := self._inboxes.get(refused.id)) is not None:
                        inbox.refuse(refused.id, self._refusal(refused))
                case Hello():
                    raise BrokenProtocolError("Hello came twice")

    async def _next_message(self, reader: asyncio.StreamReader) -> Hello | Step | Refused:
        num_bytes = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        if num_bytes > MAX_FRAME_BYTES:
            raise BrokenProtocolError(f"a frame of {num_bytes} bytes; the most is {MAX_FRAME_BYTES}")
        message: Hello | Step | Refused = self._decoder.decode(await reader.readexactly(num_bytes))
        return message

    def _absence(self) -> HodiosError:
        if self._is_closed:
            return ProviderError(f"The engine for {self._name} has been shut down.", code="engine_closed")
        if self.hello is None:
            return Overloaded(
                f"The engine for {self._name} is loading its model; try again shortly.",
                retry_after=2,
                code="engine_loading",
            )
        return Overloaded(
            f"The engine for {self._name} is restarting; try again shortly.", retry_after=1, code="engine_restarting"
        )

    def _loss(self) -> HodiosError:
        if self._is_closed:
            return self._absence()
        return Overloaded(
            f"The engine for {self._name} stopped while it answered and is being restarted; try again.",
            retry_after=1,
            code="engine_restarted",
        )

    def _failure(self, output: Output) -> HodiosError:
        message = output.error or f"The engine for {self._name} failed to answer."
        if output.error_param is not None:
            return InvalidRequest(f"{output.error_param}: {message}", param=output.error_param)
        return ProviderError(message)

    def _refusal(self, refused: Refused) -> HodiosError:
        if refused.reason == "full":
            return Overloaded(refused.message, retry_after=1)
        return InvalidRequest(refused.message, param=refused.param)


class _Inbox:
    """What has arrived for one call of `generate` and was not yet taken: at most one output for each continuation."""

    __slots__ = ("arrived", "failure", "outputs", "unfinished")

    def __init__(self, submits: Iterable[Submit]) -> None:
        self.outputs: dict[tuple[int, int], Output] = {}
        self.unfinished = {(submit.id, index) for submit in submits for index in range(submit.n)}
        self.failure: HodiosError | None = None
        self.arrived = asyncio.Event()

    def put(self, output: Output) -> None:
        key = (output.id, output.index)
        if key not in self.unfinished:
            return
        earlier = self.outputs.get(key)
        self.outputs[key] = output if earlier is None else _merge(earlier, output)
        if output.finish_reason is not None:
            self.unfinished.discard(key)
        self.arrived.set()

    def take(self) -> Iterable[Output]:
        outputs, self.outputs = self.outputs, {}
        return outputs.values()

    def drop(self, id: int, index: int) -> bool:
        """Forget one continuation. Returns whether it was still being generated."""
        key = (id, index)
        self.outputs.pop(key, None)
        if key not in self.unfinished:
            return False
        self.unfinished.discard(key)
        self.arrived.set()
        return True

    def refuse(self, id: int, failure: HodiosError) -> None:
        self.unfinished = {key for key in self.unfinished if key[0] != id}
        self.failure = failure
        self.arrived.set()

    def lose(self, failure: HodiosError) -> None:
        """The connection is gone: nothing more will come, and nothing is left to abort."""
        if self.unfinished:
            self.failure = failure
            self.unfinished = set()
        self.arrived.set()


def _merge(earlier: Output, later: Output) -> Output:
    """Both as if one step had brought them. The earlier one's lists grow in place: nobody else has seen them."""
    return msgspec.structs.replace(
        later,
        tokens=_join(earlier.tokens, later.tokens),
        logprobs=_join(earlier.logprobs, later.logprobs),
        prompt_logprobs=_join(earlier.prompt_logprobs, later.prompt_logprobs),
        cached_tokens=max(earlier.cached_tokens, later.cached_tokens),
        queue_s=max(earlier.queue_s, later.queue_s),
        accepted_drafts=earlier.accepted_drafts + later.accepted_drafts,
    )


def _join(earlier: list[Item] | None, later: list[Item] | None) -> list[Item] | None:
    if earlier is None or later is None:
        return later if earlier is None else earlier
    earlier.extend(later)
    return earlier
