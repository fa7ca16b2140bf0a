"""The API process's end of the guard process's socket: hands over texts, sheds what would come too late, reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from hodios.engine.connection import LENGTH_BYTES, MAX_FRAME_BYTES
from hodios.errors import GuardDown
from hodios.guard.backlog import FIRST_COST_S, PER_TEXT, size_of
from hodios.guard.base import Assessment, Passage
from hodios.guard.injection import INDIRECT_INJECTION
from hodios.guard.messages import Assess, FromClient, FromWorker, GiveUp, Hello, Scores, Shed
from hodios.guard.panel import BUSY, LATE, GuardState
from hodios.types import Category, Side

_FIRST_DELAY_S, _MAX_DELAY_S = 0.02, 0.5
_RETRY_AFTER_S = 1
_SMOOTHING = 0.2
_LATE_COSTS = 4.0
"""Times as long as anybody waited: soon learned, and soon forgotten."""
DOWN = "guard_unavailable"
_REFUSALS = {DOWN: "the embedded guard is not running", BUSY: "the embedded guard has too much to do"}

T = TypeVar("T")
SLICE, OVERLAP = 2000, 200
"""Characters that are judged in one piece, so that what is urgent soon has its turn; and how many of them the next one
reads again."""

logger = logging.getLogger(__name__)


class EmbeddedGuard:
    """For all requests of one event loop. `start` it; while nobody is connected, everything raises GuardDown."""

    name = "embedded"
    sides: frozenset[Side] = frozenset({"prompt", "answer", "document"})

    def __init__(self, socket_path: Path, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._socket_path = socket_path
        self._sleep = sleep
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[dict[Category, float]]]] = {}
        self._num_own = 0
        """Characters of ours that are with the worker, as the next one."""
        self._num_others = 0
        self._cost_s = FIRST_COST_S
        """Of a character, all that was before it being judged first."""
        self._unsent: list[FromClient] = []
        self._writer: asyncio.StreamWriter | None = None
        """Set while a worker that said hello is connected."""
        self._hello: Hello | None = None
        self._num_restarts = 0
        self._connection: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def version(self) -> str:
        return self._hello.version if self._hello else ""

    @property
    def categories(self) -> frozenset[Category]:
        return frozenset(self._hello.categories if self._hello else ())

    def state(self) -> GuardState:
        """As `panel.Stateful`."""
        problem: Literal["", "closed", "starting", "restarting"] = ""
        if self._writer is None:
            problem = "closed" if self._is_closed else "restarting" if self._hello else "starting"
        return GuardState(problem=problem, num_restarts=self._num_restarts, num_waiting=self._num_own)

    async def start(self) -> None:
        """Begin to connect, in the background, and never stop trying. Returns at once."""
        if self._connection is None and not self._is_closed:
            self._connection = asyncio.create_task(self._stay_connected(), name="guard client")

    def refusal(self, num_characters: int, budget_s: float) -> str:
        """As `panel.Bounded`."""
        if self._writer is None:
            return DOWN
        if not self._num_own:
            # Whoever asks nothing never learns that it has become faster.
            return ""
        is_busy = (self._num_own + self._num_others + num_characters + PER_TEXT) * self._cost_s > budget_s
        return BUSY if is_busy else ""

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`."""
        refused = self.refusal(sum(len(passage.text) + PER_TEXT for passage in passages), budget_s)
        if refused:
            raise GuardDown(_REFUSALS[refused], code=refused, retry_after=_RETRY_AFTER_S)
        parts = [(place, text) for place, passage in enumerate(passages) for text in _slices(passage.text)]
        groups = list(_groups(parts))
        if len(groups) == 1:
            scores = await self._ask([text for _, text in parts], budget_s)
        else:
            asked = [self._ask([text for _, text in group], budget_s) for group in groups]
            scores = [each for answer in await _all(asked) for each in answer]
        highest: list[dict[str, float]] = [{} for _ in passages]
        for (place, _), found in zip(parts, scores, strict=True):
            known = highest[place]
            highest[place] = {name: max(score, known.get(name, 0.0)) for name, score in found.items()}
        return [assessment(passage.side, each) for passage, each in zip(passages, highest, strict=True)]

    async def _ask(self, texts: list[str], budget_s: float) -> list[dict[Category, float]]:
        """In one piece, during which the worker does nothing else."""
        size = size_of(texts)
        loop = asyncio.get_running_loop()
        id = next(self._ids)
        answer: asyncio.Future[list[dict[Category, float]]] = loop.create_future()
        self._waiting[id] = answer
        self._num_own += size
        began_s, ahead = loop.time(), self._num_own + self._num_others
        self._send(Assess(id, texts, budget_s))
        timer = loop.call_later(budget_s, self._fail, id, GuardDown("the embedded guard took too long", code=LATE))
        try:
            scores = await answer
            self._learn((loop.time() - began_s) / ahead)
            return scores
        except (GuardDown, asyncio.CancelledError):
            # It would have taken longer than it was waited for; how much longer nobody knows.
            self._learn(max(self._cost_s, _LATE_COSTS * (loop.time() - began_s) / ahead))
            raise
        finally:
            timer.cancel()
            self._num_own -= size
            if self._waiting.pop(id, None) is not None:
                self._send(GiveUp(id))

    def _learn(self, cost_s: float) -> None:
        self._cost_s += _SMOOTHING * (cost_s - self._cost_s)

    async def aclose(self) -> None:
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
            await asyncio.wait([connection])

    def _send(self, message: FromClient) -> None:
        """What is sent in one turn of the event loop goes out as one piece."""
        if self._writer is None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(message)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._writer is not None and not self._writer.is_closing():
            frames = [self._encoded(message) for message in unsent]
            self._writer.write(b"".join(len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in frames))

    def _encoded(self, message: FromClient) -> bytes:
        """Halves of characters, which UTF-8 cannot say, become question marks."""
        try:
            return self._encoder.encode(message)
        except UnicodeEncodeError:
            assert isinstance(message, Assess)
            texts = [text.encode(errors="replace").decode() for text in message.texts]
            return self._encoder.encode(Assess(message.id, texts, message.within_s))

    def _fail(self, id: int, error: GuardDown) -> None:
        answer = self._waiting.get(id)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    async def _stay_connected(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
                if await self._converse(reader, writer):
                    delay_s = _FIRST_DELAY_S
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_DELAY_S)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one connection to its end. Returns whether the worker ever said hello."""
        was_ready = False
        try:
            while True:
                num_bytes = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if num_bytes > MAX_FRAME_BYTES:
                    raise EOFError(f"a frame of {num_bytes} bytes")
                was_ready = self._hear(self._decoder.decode(await reader.readexactly(num_bytes)), writer) or was_ready
        except (OSError, EOFError, msgspec.DecodeError) as reason:
            logger.info("guard process: connection lost: %r", reason)
        finally:
            self._writer = None
            self._unsent.clear()
            self._num_others = 0
            self._num_restarts += was_ready and not self._is_closed
            writer.transport.abort()
            for id in tuple(self._waiting):
                self._fail(id, GuardDown("the embedded guard has gone away", retry_after=_RETRY_AFTER_S))
        return was_ready

    def _hear(self, message: FromWorker, writer: asyncio.StreamWriter) -> bool:
        match message:
            case Hello() as hello:
                self._hello, self._writer = hello, writer
                return True
            case Scores(id, scores, num_waiting):
                self._num_others = max(0, num_waiting - self._num_own)
                answer = self._waiting.pop(id, None)
                if answer is not None and not answer.done():
                    answer.set_result(scores)
            case Shed(id, num_waiting):
                self._num_others = max(0, num_waiting - self._num_own)
                answer = self._waiting.pop(id, None)
                if answer is not None and not answer.done():
                    answer.set_exception(GuardDown(_REFUSALS[BUSY], code=BUSY, retry_after=_RETRY_AFTER_S))
        return False


def assessment(side: Side, scores: Mapping[Any, float]) -> Assessment:
    """What the classifier's scores mean of a text. Of what somebody else wrote it only matters whether it gives the
    model orders, which is what jailbreaks are like."""
    if side != "document":
        return Assessment(scores=scores)
    score = scores.get("jailbreak")
    return (
        Assessment(scores={})
        if score is None
        else Assessment(scores={"jailbreak": score}, further={INDIRECT_INJECTION: score})
    )


def _slices(text: str) -> Iterator[str]:
    """Of a long text."""
    for begin in range(0, max(len(text) - OVERLAP, 1), SLICE - OVERLAP):
        yield text[begin : begin + SLICE]


def _groups(parts: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Short texts together."""
    group: list[tuple[int, str]] = []
    size = 0
    for part in parts:
        if group and size + len(part[1]) > SLICE:
            yield group
            group, size = [], 0
        group.append(part)
        size += len(part[1])
    yield group


async def _all(asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give; where one fails, or nobody waits any longer, the others are given up."""
    tasks = [asyncio.create_task(each) for each in asked]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
