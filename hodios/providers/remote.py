"""A server that others run, as a provider: it is asked natively what it knows, and in words what it does not.

An answer that does not fit (calls that cannot be made, text of another form) is asked for once more with what is wrong
with it, as long as the client has seen nothing of it; what does not get better is passed on and reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime

from hodios.errors import HodiosError, ModelNotFound
from hodios.events import Event, Finish, Noticed, Started, Usage
from hodios.providers.base import ModelHealth, ServerLoad, TokenizerDoor, Verdict
from hodios.providers.chunks import CHARACTERS_PER_TOKEN, Ended, Said
from hodios.providers.draft import Draft
from hodios.providers.gauges import MOST_BYTES, loads_of, read_gauges
from hodios.providers.merging import merged
from hodios.providers.plain import plain_answer
from hodios.providers.plan import Part, Plan, Sent, num_tokens_of, profile_of
from hodios.providers.prompt import run_aside
from hodios.providers.served import Served, serve
from hodios.providers.upstream import Document, Reply, Upstream
from hodios.remotes import Remote
from hodios.types import ModelCard, Request, Warning

_MOST_AT_ONCE = 16
"""Requests to the server for one request of a client."""
_PROBE_S = 5.0
_LOADS_S = 2.0
_USAGE_WAIT_S = 5.0
"""How long to wait for the usage of an answer that is complete."""
_BROKEN_OFF: Document = {}
"""Instead of a document: there are no more, and the server has not said that this was all."""


class RemoteProvider:
    """`providers.base.Provider` over one server. Raises ConfigError for a row that makes no sense."""

    def __init__(self, remote: Remote, key: str | None, *, clock: Callable[[], datetime] = datetime.now) -> None:
        self._name = remote.name
        self._upstream = Upstream(remote, key)
        self._gauges = remote.load
        self._models = {row.id: serve(remote, row) for row in remote.models}
        families = {served.family for served in self._models.values() if served.is_raw or served.has_completions}
        self._profiles = {family.name: profile_of(family, clock) for family in families}
        self._cards = tuple(served.card for served in self._models.values())
        """The same object each time, so that whoever looks for changes sees at once that there are none."""
        self._num_running = dict.fromkeys(self._models, 0)

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        """Connects to nobody yet: whether the server answers shows when it is asked."""
        await self._upstream.start()

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def models(self) -> Sequence[ModelCard]:
        return self._cards

    def tokenizer(self, model: str) -> TokenizerDoor | None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return [
            ModelHealth(model=model, state="ready", stats={"num_running": float(num_running)})
            for model, num_running in self._num_running.items()
        ]

    async def probe(self) -> Verdict:
        """As `providers.base.Probed.probe`: asks which models there are. What is not an error of the server's own
        says nothing: some have no such route, and some keep it for other keys."""
        status = await self._upstream.status_of("/models", _PROBE_S)
        if status is None or status >= 500:
            return "ill"
        return "well" if status == 200 else "unknown"

    async def loads(self) -> Mapping[str, ServerLoad]:
        """As `providers.base.Reporting.loads`."""
        gauges = self._gauges
        if gauges is None:
            return {}
        text = await self._upstream.text_at_root(gauges.route, _LOADS_S, MOST_BYTES)
        if text is None:
            return {}
        names = {model: served.upstream_id for model, served in self._models.items()}
        return loads_of(await run_aside(lambda: read_gauges(text, gauges), len(text)), names)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """As `providers.base.Provider.generate`; choice index = prompt × n + continuation."""
        served = self._models.get(request.model)
        if served is None:
            raise ModelNotFound(f"{request.model!r} is not served by {self._name}.", param="model")
        plan = Plan(request, served, self._profiles.get(served.family.name))
        bill = _Bill()
        answers = [_Answer(self._upstream, plan, part, bill) for part in plan.parts()]
        notices: dict[Warning, Noticed] = {}
        is_started = False
        self._num_running[request.model] += 1
        try:
            if plan.is_plain and (at_once := await answers[0].at_once()) is not None:
                for shown in (_start(plan, served, is_whole=True), *at_once, Finish(bill.usage)):
                    yield shown
                return
            async with aclosing(_together(answers)) as events:
                async for event in events:
                    if type(event) is Noticed:
                        # No sign that the server answers.
                        if event.warning not in notices:
                            notices[event.warning] = event
                            if is_started:
                                yield event
                        continue
                    if not is_started:
                        is_started = True
                        yield _start(plan, served)
                        for notice in notices.values():
                            yield notice
                    yield event
        finally:
            self._num_running[request.model] -= 1
            for answer in answers:
                answer.close()
        if bill.is_estimated:
            yield Noticed(_estimated(self._name))
        yield Finish(bill.usage)


def _together(answers: Sequence[_Answer]) -> AsyncGenerator[Event, None]:
    """What all of them say, as it comes."""
    return answers[0].events() if len(answers) == 1 else merged([each.events() for each in answers], _MOST_AT_ONCE)


def _start(plan: Plan, served: Served, *, is_whole: bool = False) -> Started:
    card = served.card
    return Started(card.provider, card.id, card.fingerprint, plan.num_tokens, is_whole=is_whole)


def _estimated(provider: str) -> Warning:
    message = f"{provider} did not count tokens: usage is estimated, {CHARACTERS_PER_TOKEN} characters to a token"
    return Warning("usage", "estimated_usage", message)


class _Bill:
    """What all requests for one answer have used: also those whose answers the client never saw."""

    def __init__(self) -> None:
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.is_estimated = False
        self._is_begun = False

    def add(self, usage: Usage) -> None:
        if not self._is_begun:
            self._is_begun, self.usage = True, usage
            return
        mine = self.usage
        self.usage = Usage(
            prompt_tokens=mine.prompt_tokens + usage.prompt_tokens,
            completion_tokens=mine.completion_tokens + usage.completion_tokens,
            cached_tokens=mine.cached_tokens + usage.cached_tokens,
            accepted_prediction_tokens=mine.accepted_prediction_tokens + usage.accepted_prediction_tokens,
            reasoning_tokens=mine.reasoning_tokens + usage.reasoning_tokens,
        )

    def estimate(self, num_prompt_tokens: int, num_completion_tokens: int) -> None:
        self.is_estimated = True
        self.add(Usage(prompt_tokens=num_prompt_tokens, completion_tokens=num_completion_tokens))


class _Answer:
    """The choices of one part."""

    def __init__(self, upstream: Upstream, plan: Plan, part: Part, bill: _Bill) -> None:
        self._upstream = upstream
        self._plan = plan
        self._part = part
        self._bill = bill
        self._asked: tuple[Sent, Reply] | None = None
        self._drafts: list[Draft] = []
        self._has_stops = False
        """Whether an answer may be over here before it is over there."""

    async def at_once(self) -> list[Event] | None:
        """As `events`, where the answer comes in one piece and is text and nothing else. None where one has to look
        closer; then `events` go on with what was asked here."""
        sent, reply = self._asked = await self._ask(self._plan.request)
        if reply.is_stream or sent.reading.stops is not None:
            return None
        answer = plain_answer(await reply.document(), self._part.first)
        if answer is None:
            return None
        self._bill.add(answer.usage)
        return [*map(Noticed, sent.warnings), answer.text, answer.stopped]

    async def events(self) -> AsyncGenerator[Event, None]:
        """All but the start and the finish."""
        request = self._plan.request
        for may_try_again in (self._plan.may_try_again(self._part), False):
            sent, reply = self._asked or await self._ask(request)
            self._asked = sent, reply
            self._begin(sent, request)
            drafts = self._drafts
            for warning in sent.warnings:
                yield Noticed(warning)
            reader = self._reader
            async with aclosing(reply.documents()) as documents:
                while True:
                    document = await (_last_of(documents) if reader.is_over else anext(documents, _BROKEN_OFF))
                    if document is _BROKEN_OFF:
                        raise self._upstream.judge.broken("broke off its answer")
                    if document is None:
                        break
                    for said in reader.push(document):
                        for event in drafts[said.index].push(said):
                            yield event
                    if self._has_stops and all(draft.is_stopped for draft in drafts):
                        break
            self.close()
            for event in self._end(sent, request):
                yield event
            if not may_try_again or not drafts[0].problem or drafts[0].has_shown:
                break
            yield Noticed(_asked_again(drafts[0].problem))
            request = self._plan.again(request, drafts[0])
        for draft in self._drafts:
            for event in draft.settle():
                yield event

    def close(self) -> None:
        """Nobody wants the rest of what was asked last."""
        if self._asked is not None:
            self._asked[1].close()
            self._asked = None

    async def _ask(self, request: Request) -> tuple[Sent, Reply]:
        # A long chat may take a template a while.
        size = CHARACTERS_PER_TOKEN * self._plan.num_tokens
        sent = await run_aside(lambda: self._plan.send(self._part, request), size)
        return sent, await self._upstream.ask(sent.route, sent.body)

    def _begin(self, sent: Sent, request: Request) -> None:
        """Reader and drafts of the answer are empty."""
        self._reader = sent.new_reader()
        self._has_stops = sent.reading.stops is not None
        part = self._part
        self._drafts = [
            Draft(part.first + number, f"{request.id}/{part.first + number}", sent.reading, self._plan.rules)
            for number in range(part.n)
        ]

    def _end(self, sent: Sent, request: Request) -> list[Event]:
        """Once the server has said all, or enough."""
        is_enough = self._has_stops and all(draft.is_stopped for draft in self._drafts)
        if not (is_enough or self._reader.is_over or self._reader.has_all):
            raise self._upstream.judge.broken("ended its answer before it began")
        events = [event for last in self._reader.finish() for event in self._last(last)]
        if not (is_enough or self._reader.is_over):
            events.append(Noticed(_unsaid(self._plan.provider)))
        self._account(sent, request)
        return events

    def _last(self, last: Said | Ended) -> Sequence[Event]:
        draft = self._drafts[last.index]
        if isinstance(last, Said):
            return draft.push(last)
        if last.finish_reason == "error":
            raise self._upstream.judge.broken("failed in the middle of its answer")
        return draft.end(last)

    def _account(self, sent: Sent, request: Request) -> None:
        if self._reader.usage is not None:
            self._bill.add(self._reader.usage)
        else:
            self._bill.estimate(num_tokens_of(request), sum(draft.num_tokens for draft in self._drafts))


async def _last_of(documents: AsyncGenerator[Document | None, None]) -> Document | None:
    """The next document after the end of the answer, of which only the count is missing: not for long, and not at any
    price."""
    with contextlib.suppress(StopAsyncIteration, HodiosError, TimeoutError):
        async with asyncio.timeout(_USAGE_WAIT_S):
            return await anext(documents)
    return None


def _unsaid(provider: str) -> Warning:
    """Some say only that this was all."""
    message = f"{provider} did not say why its answer ended: it is taken for whole"
    return Warning("finish_reason", "assumed_finish_reason", message)


def _asked_again(problem: str) -> Warning:
    return Warning("model", "asked_again", f"the model was asked again: {problem}")
