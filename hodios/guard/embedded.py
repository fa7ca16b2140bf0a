"""The API process's end of the guard process's socket: hands over texts, sheds what would come too late, reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from hodios.errors import GuardDown
from hodios.guard.backlog import FIRST_COST_S, PER_TEXT, size_of
from hodios.guard.base import Assessed, Assessment, Passage
from hodios.guard.inquiry import Frame, Inquiry, Told
from hodios.guard.link import Link
from hodios.guard.memory import Memory
from hodios.guard.memory import Scores as Remembered
from hodios.guard.messages import Assess, FromClient, FromWorker, GiveUp, Hello, Scores, Shed
from hodios.guard.panel import BUSY, LATE, GuardState
from hodios.types import Category, Side

_FIRST_DELAY_S, _MAX_DELAY_S = 0.02, 0.5
_RETRY_AFTER_S = 1
_SMOOTHING = 0.2
_LATE_COSTS = 4.0
"""Times as long as anybody waited: soon learned, and soon forgotten."""
_LINGER_S = 0.002
"""For how long what nobody waits for yet may stay here, so that it goes out with more."""
DOWN = "guard_unavailable"
_REFUSALS = {
    DOWN: "the embedded guard is not running",
    BUSY: "the embedded guard has too much to do",
    LATE: "the embedded guard took too long",
}

logger = logging.getLogger(__name__)


class EmbeddedGuard:
    """For all requests of one event loop. `start` it; while nobody is connected, everything that was not judged before
    raises GuardDown."""

    name = "embedded"
    sides: frozenset[Side] = frozenset({"prompt", "answer", "document"})
    is_constant: Literal[True] = True
    """As `known.Constant`."""

    def __init__(
        self,
        socket_path: Path,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        memory: Memory[Remembered] | None = None,
    ) -> None:
        self.version = ""
        """Of the last worker that said hello."""
        self._socket_path = socket_path
        self._sleep = sleep
        self._memory = Memory[Remembered]() if memory is None else memory
        self._ids = itertools.count(1)
        self._waiting: dict[int, Frame] = {}
        self._num_own = 0
        """Characters of ours that are with the worker, as the next one."""
        self._num_others = 0
        self._cost_s = FIRST_COST_S
        """Of a character, all that was before it being judged first."""
        self._unsent: list[FromClient] = []
        self._flusher: asyncio.Handle | None = None
        self._lingers = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._link: Link | None = None
        """Set while a worker that said hello is connected."""
        self._hello: Hello | None = None
        self._num_restarts = 0
        self._connection: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def categories(self) -> frozenset[Category]:
        return frozenset(self._hello.categories if self._hello else ())

    def state(self) -> GuardState:
        """As `panel.Stateful`."""
        problem: Literal["", "closed", "starting", "restarting"] = ""
        if self._link is None:
            problem = "closed" if self._is_closed else "restarting" if self._hello else "starting"
        return GuardState(problem=problem, num_restarts=self._num_restarts, num_waiting=self._num_own)

    async def start(self) -> None:
        """Begin to connect, in the background, and never stop trying. Returns at once."""
        if self._connection is None and not self._is_closed:
            self._connection = asyncio.create_task(self._stay_connected(), name="guard client")

    def refusal(self, num_characters: int, budget_s: float) -> str:
        """As `panel.Bounded`."""
        if self._link is None:
            return DOWN
        if not self._num_own:
            # Whoever asks nothing never learns that it has become faster.
            return ""
        is_busy = (self._num_own + self._num_others + num_characters + PER_TEXT) * self._cost_s > budget_s
        return BUSY if is_busy else ""

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`."""
        answer: asyncio.Future[Assessed] = asyncio.get_running_loop().create_future()

        def told(found: Assessed) -> None:
            if not answer.done():
                answer.set_result(found)

        found = self.ask(passages, budget_s, told)
        if callable(found):
            give_up = found
            try:
                found = await answer
            finally:
                give_up()
        if isinstance(found, GuardDown):
            raise found
        return found

    def ask(
        self, passages: Sequence[Passage], budget_s: float, told: Told, *, may_linger: bool = False
    ) -> Assessed | Callable[[], None]:
        """As `panel.Direct`."""
        inquiry = Inquiry(passages, self._memory, told)
        if not inquiry.missing:
            return inquiry.assessments()
        size = size_of(inquiry.missing.values())
        refused = self.refusal(size, budget_s)
        if refused:
            return _down(refused)
        now_s = asyncio.get_running_loop().time()
        for frame in inquiry.frames(size):
            inquiry.num_open += 1
            self._hand_over(frame, now_s, budget_s, may_linger=may_linger)
        return lambda: self._give_up(inquiry)

    def _hand_over(self, frame: Frame, now_s: float, budget_s: float, *, may_linger: bool) -> None:
        id = next(self._ids)
        self._waiting[id] = frame
        self._num_own += frame.size
        frame.began_s, frame.until_s, frame.ahead = now_s, now_s + budget_s, self._num_own + self._num_others
        self._send(Assess(id, frame.texts, budget_s), may_linger=may_linger)
        sweeper = self._sweeper
        if sweeper is None or sweeper.when() > frame.until_s:
            if sweeper is not None:
                sweeper.cancel()
            self._sweeper = asyncio.get_running_loop().call_at(frame.until_s, self._sweep)

    def _sweep(self) -> None:
        """Nobody waits any longer for what is late."""
        loop = asyncio.get_running_loop()
        now_s, self._sweeper = loop.time(), None
        for id, frame in list(self._waiting.items()):
            if frame.until_s <= now_s and id in self._waiting:
                self._fail(frame.inquiry, _down(LATE))
        if self._waiting:
            next_s = min(frame.until_s for frame in self._waiting.values())
            self._sweeper = loop.call_at(next_s, self._sweep)

    def _give_up(self, inquiry: Inquiry) -> None:
        if not inquiry.is_over:
            inquiry.give_up()
            self._forget(inquiry)

    def _fail(self, inquiry: Inquiry, error: GuardDown) -> None:
        self._forget(inquiry)
        inquiry.fail(error)

    def _forget(self, inquiry: Inquiry) -> None:
        """The worker need not judge it. It would have taken longer than it was waited for; how much longer nobody
        knows."""
        for id in [id for id, frame in self._waiting.items() if frame.inquiry is inquiry]:
            self._drop(id)
            self._send(GiveUp(id))

    def _drop(self, id: int) -> None:
        frame = self._waiting.pop(id)
        self._num_own -= frame.size
        took_s = asyncio.get_running_loop().time() - frame.began_s
        self._learn(max(self._cost_s, _LATE_COSTS * took_s / frame.ahead))

    def _learn(self, cost_s: float) -> None:
        self._cost_s += _SMOOTHING * (cost_s - self._cost_s)

    async def aclose(self) -> None:
        self._is_closed = True
        for timer in (self._sweeper, self._flusher):
            if timer is not None:
                timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
            await asyncio.wait([connection])

    def _send(self, message: FromClient, *, may_linger: bool = False) -> None:
        """What is sent in one turn of the event loop goes out as one piece, with what has lingered."""
        if self._link is None:
            return
        self._unsent.append(message)
        if self._flusher is not None and not (self._lingers and not may_linger):
            return
        if self._flusher is not None:
            self._flusher.cancel()
        loop = asyncio.get_running_loop()
        self._lingers = may_linger
        self._flusher = loop.call_later(_LINGER_S, self._flush) if may_linger else loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flusher = None
        unsent, self._unsent = self._unsent, []
        if self._link is not None and unsent:
            self._link.send(unsent)

    async def _stay_connected(self) -> None:
        delay_s = _FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, link = await loop.create_unix_connection(lambda: Link(self._hear), str(self._socket_path))
                if await self._converse(link):
                    delay_s = _FIRST_DELAY_S
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_DELAY_S)

    async def _converse(self, link: Link) -> bool:
        """To the end of the connection. Returns whether the worker ever said hello."""
        try:
            await link.ended
            logger.info("guard process: connection lost")
            return self._link is link
        finally:
            was_ready = self._link is link
            self._link = None
            self._unsent.clear()
            self._num_others = 0
            self._num_restarts += was_ready and not self._is_closed
            link.close()
            for frame in tuple(self._waiting.values()):
                self._fail(frame.inquiry, GuardDown("the embedded guard has gone away", retry_after=_RETRY_AFTER_S))

    def _hear(self, message: FromWorker, link: Link) -> None:
        match message:
            case Hello() as hello:
                if self.version != hello.version:
                    self._memory.clear()
                self._hello, self._link, self.version = hello, link, hello.version
            case Scores(id, scores, num_waiting):
                self._num_others = max(0, num_waiting - self._num_own)
                frame = self._waiting.get(id)
                if frame is not None and len(frame.texts) == len(scores):
                    del self._waiting[id]
                    self._take(frame, scores)
            case Shed(id, num_waiting):
                self._num_others = max(0, num_waiting - self._num_own)
                frame = self._waiting.get(id)
                if frame is not None:
                    self._drop(id)
                    self._fail(frame.inquiry, _down(BUSY))

    def _take(self, frame: Frame, scores: Sequence[Sequence[float]]) -> None:
        assert self._hello is not None
        self._num_own -= frame.size
        self._learn((asyncio.get_running_loop().time() - frame.began_s) / frame.ahead)
        names = self._hello.categories
        found: list[Mapping[str, float]] = [dict(zip(names, each, strict=True)) for each in scores]
        for digest, each in zip(frame.digests, found, strict=True):
            self._memory.put(digest, each)
        frame.inquiry.answered(frame, found)


def _down(code: str) -> GuardDown:
    return GuardDown(_REFUSALS[code], code=code, retry_after=_RETRY_AFTER_S)
