"""A server that others run, as a provider: it is asked natively what it knows, and in words what it does not.

An answer that does not fit (calls that cannot be made, text of another form) is asked for once more with what is wrong
with it, as long as the client has seen nothing of it; what does not get better is passed on and reported.
"""

from __future__ import annotations

import asyncio
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
        self._num_running[request.model] += 1
        try:
            async with aclosing(merged(answers, _MOST_AT_ONCE)) as events:
                async for event in _started(events, request, served):
                    yield event
        finally:
            self._num_running[request.model] -= 1
        if bill.is_estimated:
            yield Noticed(_estimated(self._name))
        yield Finish(bill.usage)


async def _started(
    events: AsyncGenerator[Event, None], request: Request, served: Served
) -> AsyncGenerator[Event, None]:
    """With the start before the first event, and each notice once. A notice is no sign that the server answers."""
    notices: dict[Warning, Noticed] = {}
    is_started = False
    async for event in events:
        if isinstance(event, Noticed):
            if event.warning not in notices:
                notices[event.warning] = event
                if is_started:
                    yield event
            continue
        if not is_started:
            is_started = True
            yield Started(served.card.provider, served.card.id, served.card.fingerprint, _num_tokens(request))
            for notice in notices.values():
                yield notice
        yield event


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

    async def events(self) -> AsyncGenerator[Event, None]:
        """All but the start and the finish."""
        request = self._plan.request
        for may_try_again in (self._plan.may_try_again(self._part), False):
            async with aclosing(self._try(request)) as events:
                async for event in events:
                    yield event
            draft = self._drafts[0]
            if not may_try_again or not draft.problem or draft.has_shown:
                break
            yield Noticed(_asked_again(draft.problem))
            request = self._plan.again(request, draft)
        for draft in self._drafts:
            for event in draft.settle():
                yield event

    async def _try(self, request: Request) -> AsyncGenerator[Event, None]:
        """One request to the server; what may be shown of its answer at once."""
        part = self._part
        # A long chat may take a template a while.
        size = CHARACTERS_PER_TOKEN * _num_tokens(request)
        sent = await run_aside(lambda: self._plan.send(part, request), size)
        self._drafts = [
            Draft(part.first + number, f"{request.id}/{part.first + number}", sent.reading, self._plan.rules)
            for number in range(part.n)
        ]
        for warning in sent.warnings:
            yield Noticed(warning)
        async with aclosing(self._said(sent)) as pieces:
            async for said in pieces:
                for event in self._drafts[said.index].push(said):
                    yield event
                if all(draft.is_stopped for draft in self._drafts):
                    break
        for last in sent.reader.finish():
            for event in self._last(last):
                yield event
        self._account(sent, request)

    def _last(self, last: Said | Ended) -> list[Event]:
        draft = self._drafts[last.index]
        if isinstance(last, Said):
            return draft.push(last)
        if last.finish_reason == "error":
            raise self._upstream.judge.broken("failed in the middle of its answer")
        return draft.end(last)

    async def _said(self, sent: Sent) -> AsyncGenerator[Said, None]:
        """Until the server has said all. Raises ProviderError where it breaks off before."""
        reader = sent.reader
        async with aclosing(self._upstream.documents(sent.route, sent.body)) as documents:
            try:
                while (document := await _next(documents, is_over=reader.is_over)) is not None:
                    for said in reader.push(document):
                        yield said
            except StopAsyncIteration:
                if not reader.is_over:
                    raise self._upstream.judge.broken("broke off its answer") from None
            except (HodiosError, TimeoutError):
                # The answer is whole; only the count is missing.
                if not reader.is_over:
                    raise
        if not reader.is_over and not reader.has_all:
            raise self._upstream.judge.broken("ended its answer before it began")

    def _account(self, sent: Sent, request: Request) -> None:
        if sent.reader.usage is not None:
            self._bill.add(sent.reader.usage)
        else:
            self._bill.estimate(_num_tokens(request), sum(draft.num_tokens for draft in self._drafts))


async def _next(documents: AsyncGenerator[Document | None, None], *, is_over: bool) -> Document | None:
    """The next document; not for long once the answer is over. Raises StopAsyncIteration, TimeoutError."""
    if not is_over:
        return await anext(documents)
    async with asyncio.timeout(_USAGE_WAIT_S):
        return await anext(documents)


def _asked_again(problem: str) -> Warning:
    return Warning("model", "asked_again", f"the model was asked again: {problem}")
