"""Providers that all know one answer by heart: engines and servers that go on with it wherever it stops, as scripted as
they are strict. What they are asked has to be the answer's own beginning, byte for byte.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripted_engine import EOS, FIRST_WORD, WORDS, ByteTokenizer, Frames, ScriptedEngine, hello
from scripted_upstream import CUT, DONE, Asked, Reply, ScriptedUpstream, event, piece, serving, usage

from hodios.dialog.profile import Profile
from hodios.engine.client import EngineClient
from hodios.engine.messages import Output, Submit
from hodios.errors import HodiosError
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall
from hodios.gateway import Gateway
from hodios.providers.base import Provider
from hodios.providers.local import LocalModel, LocalProvider
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel
from hodios.router.router import Record, Router
from hodios.router_settings import RouterSettings
from hodios.types import ModelCard, Request, Routing

MODEL = "maker/model"
CONTEXT = 16_384
THINKING = "{# <think> #}{% for message in messages %}{{ message['content'] }}\n{% endfor %}>"
"""The template of a model that thinks aloud."""


class Engine(LocalProvider):
    """One of several on this machine."""

    def __init__(self, name: str, model: LocalModel) -> None:
        super().__init__([model])
        self._name = name

    @property
    def name(self) -> str:
        return self._name


@dataclass
class Speaker:
    """Says `answer` from where it was begun, and breaks off after its first `cut` bytes."""

    answer: str
    cut: int | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    begun: list[str] = field(default_factory=list)
    """What each request had of the answer."""
    overlap: int = 0
    """Characters of the beginning that are said again."""
    prompt: str | None = None
    """What a server is asked before the answer has begun."""

    def engine(self, submit: Submit) -> Frames:
        """As `scripted_engine.Script`."""
        data = self.answer.encode()
        kept = _spelled(submit.prompt[len(submit.prompt) - submit.num_begun :])
        assert data.startswith(kept), (data, kept)
        self.begun.append(kept.decode())
        end = len(data) if self.cut is None else max(self.cut, len(kept))
        tokens = list(self._tokens(data[len(kept) : end]))
        _check_opening(submit, data[len(kept) :])
        num_left = submit.max_tokens
        while tokens and num_left:
            portion = [tokens.pop(0) for _ in range(min(len(tokens), num_left, self.rng.randint(1, 3)))]
            num_left -= len(portion)
            yield [Output(id=submit.id, index=0, tokens=portion, finish_reason=None if num_left else "length")]
        if self.cut is not None:
            yield [None]
        elif num_left:
            yield [Output(id=submit.id, index=0, tokens=[EOS], finish_reason="stop", stop_token=EOS)]

    def _tokens(self, data: bytes) -> Iterable[int]:
        while data:
            words = [(word, FIRST_WORD + place) for place, word in enumerate(WORDS) if data.startswith(word)]
            word, token = self.rng.choice([*words, (data[:1], data[0])])
            yield token
            data = data[len(word) :]

    def server(self, asked: Asked) -> Reply:
        """As `scripted_upstream.Script`, for raw completions."""
        prompt = asked.body["prompt"]
        if self.prompt is None:
            self.prompt = prompt
        begun = prompt.removeprefix(self.prompt)
        assert self.answer.startswith(begun), (self.answer, begun)
        assert prompt.startswith(self.prompt)
        self.begun.append(begun)
        rest = begun[len(begun) - self.overlap :] * bool(self.overlap) + self.answer[len(begun) :]
        for stop in asked.body.get("stop", ()):
            rest = rest.partition(stop)[0]
        parts = [event(piece(text)) for text in self._pieces(rest)]
        if self.cut is None:
            return Reply([*parts, event(piece("", finish="stop")), event(usage(7, 3)), DONE])
        return Reply([b"".join(parts)[: self.cut], CUT])

    def _pieces(self, text: str) -> Iterable[str]:
        while text:
            size = self.rng.randint(1, 6)
            yield text[:size]
            text = text[size:]


def _spelled(tokens: Sequence[int]) -> bytes:
    tokenizer = ByteTokenizer()
    return b"".join(tokenizer.token_bytes(token) for token in tokens)


def _check_opening(submit: Submit, rest: bytes) -> None:
    """What must be spelled is what comes next, in single bytes or in words, and nothing else is allowed."""
    tokenizer = ByteTokenizer()
    for start, place in enumerate(submit.opening):
        assert rest[start] in {**place.inner, **dict.fromkeys(place.last)}
        for token, end in place.inner.items():
            assert tokenizer.token_bytes(token) == rest[start:end]
        for token in place.last:
            assert tokenizer.token_bytes(token).startswith(rest[start : len(submit.opening)])


@dataclass
class Heard:
    """What the client got."""

    events: list[Event] = field(default_factory=list)
    error: HodiosError | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Reasoning))

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        calls: list[tuple[str, str, str]] = []
        for each in self.events:
            if isinstance(each, ToolCall):
                if each.name:
                    calls.append((each.id, each.name, ""))
                id, name, arguments = calls[each.number]
                calls[each.number] = (id, name, arguments + each.arguments)
        return calls

    @property
    def answer(self) -> tuple[str, str, list[tuple[str, str, str]], list[Stopped]]:
        """All that must be the same however often it broke off."""
        return self.reasoning, self.text, self.calls, [event for event in self.events if isinstance(event, Stopped)]

    @property
    def codes(self) -> list[str]:
        return [event.warning.code for event in self.events if isinstance(event, Noticed)]

    @property
    def finish(self) -> Finish:
        last = self.events[-1]
        assert isinstance(last, Finish)
        return last

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        assert self.finish.route is not None
        return [(attempt.provider, attempt.outcome) for attempt in self.finish.route.attempts]


async def hear(gateway: Gateway, request: Request) -> Heard:
    heard = Heard()
    try:
        async with aclosing(gateway.generate(request)) as events:
            async for each in events:
                heard.events.append(each)
    except HodiosError as error:
        heard.error = error
    assert sum(isinstance(each, Started) for each in heard.events) <= 1
    return heard


class Parlour:
    """Providers in the order in which they are asked: `engine` and `server` add one each."""

    def __init__(self, stack: AsyncExitStack, folder: Path, family: str, template: str = "") -> None:
        self.providers: list[Provider] = []
        self.clients: list[EngineClient] = []
        self._stack, self._folder = stack, folder
        self._family, self._template = family, template

    async def engine(self, speaker: Speaker, *, continues: bool = True) -> ScriptedEngine:
        path = self._folder / f"{len(self.providers)}.sock"
        greeting = hello(context_length=CONTEXT)
        scripted = await self._stack.enter_async_context(ScriptedEngine(path, speaker.engine, greeting))
        tokenizer: Any = ByteTokenizer()
        if self._template:
            tokenizer.chat_templates = {"default": self._template}
        profile = Profile.for_tokenizer(
            tokenizer, lambda: datetime(2026, 1, 2, tzinfo=UTC), None if self._template else self._family
        )
        client = EngineClient(path, name=MODEL, sleep=lambda _: asyncio.sleep(0))
        card = ModelCard(id=MODEL, context_length=CONTEXT, max_output_tokens=CONTEXT)
        provider = Engine(f"p{len(self.providers)}", LocalModel(card, tokenizer, profile, client))
        await provider.start()
        self._stack.push_async_callback(provider.aclose)
        await client.wait_ready()
        self.clients.append(client)
        self.providers.append(provider)
        return scripted

    async def server(self, speaker: Speaker, **settings: Any) -> ScriptedUpstream:
        upstream = await self._stack.enter_async_context(serving(ScriptedUpstream(script=speaker.server)))
        row = {"id": MODEL, "context_length": CONTEXT, "family": self._family, "continues": True}
        model = RemoteModel(**(row | settings.pop("row", {})))
        remote = {"name": f"p{len(self.providers)}", "base_url": f"{upstream.url}/v1", "models": (model,)}
        provider = RemoteProvider(Remote(**({"dialect": "completions"} | remote | settings)), None)
        await provider.start()
        self._stack.push_async_callback(provider.aclose)
        self.providers.append(provider)
        return upstream

    def gateway(self, record: Record | None = None) -> Gateway:
        """A new one each time: nobody is remembered for having failed."""
        more = {} if record is None else {"record": record}
        return Gateway(self.providers, Router(RouterSettings(), **more))

    async def whole(self, request: Request) -> Heard:
        """What the first one answers. Servers, too, are asked once, so that they know where an answer begins."""
        for provider in self.providers[1:]:
            if isinstance(provider, RemoteProvider):
                await hear(Gateway([provider]), request)
        return await hear(self.gateway(), request)

    async def ready(self) -> None:
        """Whoever broke off is back."""
        for client in self.clients:
            await client.wait_ready()

    def request(self, **fields: Any) -> Request:
        routing = Routing(order=tuple(provider.name for provider in self.providers))
        said = {} if "prompts" in fields else {"messages": ({"role": "user", "content": "Hello!"},)}
        return Request(**({"id": "chat-1", "model": MODEL, "routing": routing} | said | fields))


@asynccontextmanager
async def parlour(family: str = "hermes", template: str = "") -> AsyncIterator[Parlour]:
    folder = Path(tempfile.mkdtemp())
    try:
        async with AsyncExitStack() as stack:
            yield Parlour(stack, folder, family, template)
    finally:
        shutil.rmtree(folder)
