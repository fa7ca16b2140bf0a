"""A server that others run, as a provider: it is asked natively what it knows, and in words what it does not.

An answer that does not fit (calls that cannot be made, text of another form) is asked for once more with what is wrong
with it, as long as the client has seen nothing of it; what does not get better is passed on and reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime

from hodios.errors import HodiosError, ModelNotFound
from hodios.events import Event, Finish, Noticed, Started, Usage
from hodios.providers.base import ModelHealth, ServerLoad, TokenizerDoor, Verdict
from hodios.providers.chunks import CHARACTERS_PER_TOKEN, Ended, Said
from hodios.providers.draft import Draft
from hodios.providers.gauges import MOST_BYTES, loads_of, read_gauges
from hodios.providers.merging import merged
from hodios.providers.plan import Part, Plan, Sent, profile_of
from hodios.providers.prompt import run_aside
from hodios.providers.served import Served, serve
from hodios.providers.upstream import Document, Upstream
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
        return [served.card for served in self._models.values()]

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
        answers = [_Answer(self._upstream, plan, part, bill).events() for part in plan.parts()]
        notices: dict[Warning, Noticed] = {}
        is_started = False
        self._num_running[request.model] += 1
        try:
            async with aclosing(answers[0] if len(answers) == 1 else merged(answers, _MOST_AT_ONCE)) as events:
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
                        yield _start(request, served)
                        for notice in notices.values():
                            yield notice
                    yield event
        finally:
            self._num_running[request.model] -= 1
        if bill.is_estimated:
            yield Noticed(_estimated(self._name))
        yield Finish(bill.usage)


def _start(request: Request, served: Served) -> Started:
    card = served.card
    return Started(card.provider, card.id, card.fingerprint, _num_tokens(request))


def _num_tokens(request: Request) -> int:
    """About what the prompts have; the server counts only at the end."""
    if request.prompts is not None:
        return sum(_num_of(prompt) if isinstance(prompt, str) else len(prompt) for prompt in request.prompts)
    return sum(_num_of(text) for message in request.messages or () for text in _texts(message.get("content")))


def _num_of(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _texts(content: object) -> Iterable[str]:
    if isinstance(content, list):
        return [part.get("text") or "" for part in content if isinstance(part, dict)]
    return [content] if isinstance(content, str) else []


def _estimated(provider: str) -> Warning:
    message = f"{provider} did not count tokens: usage is estimated, {CHARACTERS_PER_TOKEN} characters to a token"
    return Warning("usage", "estimated_usage", message)


class _Bill:
    """What all requests for one answer have used: also those whose answers the client never saw."""

    def __init__(self) -> None:
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.is_estimated = False

    def add(self, usage: Usage) -> None:
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
        self._drafts: list[Draft] = []
        self._has_stops = False
        """Whether an answer may be over here before it is over there."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """All but the start and the finish."""
        request = self._plan.request
        for may_try_again in (self._plan.may_try_again(self._part), False):
            sent = await self._written(request)
            drafts = self._drafts
            for warning in sent.warnings:
                yield Noticed(warning)
            reader = sent.reader
            async with aclosing(self._upstream.documents(sent.route, sent.body)) as documents:
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
            for event in self._end(sent, request):
                yield event
            if not may_try_again or not drafts[0].problem or drafts[0].has_shown:
                break
            yield Noticed(_asked_again(drafts[0].problem))
            request = self._plan.again(request, drafts[0])
        for draft in self._drafts:
            for event in draft.settle():
                yield event

    async def _written(self, request: Request) -> Sent:
        """What the server is sent; the drafts of its answer are empty."""
        # A long chat may take a template a while.
        size = CHARACTERS_PER_TOKEN * _num_tokens(request)
        part = self._part
        sent = await run_aside(lambda: self._plan.send(part, request), size)
        self._has_stops = sent.reading.stops is not None
        self._drafts = [
            Draft(part.first + number, f"{request.id}/{part.first + number}", sent.reading, self._plan.rules)
            for number in range(part.n)
        ]
        return sent

    def _end(self, sent: Sent, request: Request) -> list[Event]:
        """Once the server has said all, or enough."""
        is_enough = self._has_stops and all(draft.is_stopped for draft in self._drafts)
        if not (is_enough or sent.reader.is_over or sent.reader.has_all):
            raise self._upstream.judge.broken("ended its answer before it began")
        events = [event for last in sent.reader.finish() for event in self._last(last)]
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
        if sent.reader.usage is not None:
            self._bill.add(sent.reader.usage)
        else:
            self._bill.estimate(_num_tokens(request), sum(draft.num_tokens for draft in self._drafts))


async def _last_of(documents: AsyncGenerator[Document | None, None]) -> Document | None:
    """The next document after the end of the answer, of which only the count is missing: not for long, and not at any
    price."""
    with contextlib.suppress(StopAsyncIteration, HodiosError, TimeoutError):
        async with asyncio.timeout(_USAGE_WAIT_S):
            return await anext(documents)
    return None


def _asked_again(problem: str) -> Warning:
    return Warning("model", "asked_again", f"the model was asked again: {problem}")
