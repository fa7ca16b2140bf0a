"""The models on this machine: requests become submissions to engine workers, their outputs become events.

Starts no worker and prepares no model; waits for none either: a model that is away is answered with `Overloaded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path

from msgspec import structs

from hodios.dialog.guard import neutralised_warning
from hodios.dialog.profile import Profile
from hodios.dialog.stop import StopStrings
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient, EngineState
from hodios.engine.messages import Hello, Submit
from hodios.errors import ConfigError, InvalidRequest, ModelNotFound, UnsupportedParameter
from hodios.events import Event, Finish, Noticed, Started, Usage
from hodios.providers.answer import Answer, Prompt, num_continuations
from hodios.providers.base import ModelHealth, ModelState, TokenizerDoor
from hodios.providers.chat import Chat
from hodios.providers.continuation import TokenTexts
from hodios.providers.prompt import PromptReader, num_characters, run_aside
from hodios.providers.tokenizer_door import LocalTokenizerDoor
from hodios.types import Feature, Grammar, ModelCard, Request, Sampling

NAME = "local"
_STATES: dict[EngineState, tuple[ModelState, str]] = {
    "ready": ("ready", ""),
    "loading": ("loading", "the engine is loading the model"),
    "restarting": ("restarting", "the engine went away and is being restarted"),
    "closed": ("failed", "the connection to the engine was closed"),
}


class LocalModel:
    """One model: its tokenizer, its chat template, and the client of its engine."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, profile: Profile | None, client: EngineClient) -> None:
        self.client = client
        self.tokenizer = tokenizer
        self.reader = PromptReader(card.id, tokenizer, profile)
        self.texts = TokenTexts(tokenizer)
        self.eos_ids = sorted(tokenizer.eos_ids)
        self._num_open = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._card = structs.replace(card, features=_features(profile), continues=True)
        self._hello: Hello | None = None

    @property
    def card(self) -> ModelCard:
        """With the fingerprint and the context that the engine has told; without a fingerprint before it has."""
        hello = self.client.hello
        if hello is not None and hello is not self._hello:
            self._hello = hello
            context = min(self._card.context_length, hello.context_length)
            self._card = structs.replace(
                self._card,
                context_length=context,
                max_output_tokens=min(self._card.max_output_tokens, context),
                fingerprint=fingerprint(self._card, hello),
            )
        return self._card

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While an answer is under way."""
        self._num_open += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._num_open -= 1
            if not self._num_open:
                self._is_idle.set()

    async def close_when_idle(self) -> None:
        await self._is_idle.wait()
        await self.client.aclose()

    def health(self) -> ModelHealth:
        state, message = _STATES[self.client.state]
        stats = {} if self.client.stats is None else structs.asdict(self.client.stats)
        return ModelHealth(
            model=self._card.id, state=state, message=message, num_restarts=self.client.restarts, stats=stats
        )


def _features(profile: Profile | None) -> tuple[Feature, ...]:
    if profile is None:
        return ("json_schema", "logprobs")
    thinking: tuple[Feature, ...] = ("reasoning",) if profile.is_thinking else ()
    return ("tools", "json_schema", "logprobs", "documents", *thinking)


async def load_local_model(
    card: ModelCard,
    tokenizer_path: Path,
    socket_path: Path,
    *,
    family: str | None = None,
    clock: Callable[[], datetime] = datetime.now,
) -> LocalModel:
    """A prepared model, from the file that `Tokenizer.save` wrote. `family` talks to it otherwise than its file says;
    `clock` is for templates that tell the date.

    Raises: SetupError.
    """
    tokenizer = await asyncio.to_thread(Tokenizer.load, tokenizer_path)
    try:
        profile = Profile.for_tokenizer(tokenizer, clock, family, model=card.id)
    except UnsupportedParameter as error:
        if family is not None:
            raise ConfigError(f"engine.families: {card.id} = {family!r}: {error}") from error
        profile = None  # a base model, which cannot chat
    return LocalModel(card, tokenizer, profile, EngineClient(socket_path, name=card.id))


def fingerprint(card: ModelCard, hello: Hello) -> str:
    """Equal only where the same weights in the same representation answer through the same engine."""
    parts = (NAME, card.id, hello.weights_hash, card.quantization, hello.representation, hello.engine_version)
    return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


class LocalProvider:
    """`providers.base.Provider` over the engine workers of this machine."""

    def __init__(self, models: Sequence[LocalModel]) -> None:
        self._models = {model.card.id: model for model in models}

    @property
    def name(self) -> str:
        return NAME

    def find(self, id: str) -> LocalModel | None:
        return self._models.get(id)

    async def add(self, model: LocalModel) -> None:
        """Serve it from now on."""
        self._models[model.card.id] = model
        await model.client.start()

    def retire(self, id: str) -> LocalModel | None:
        """Take no more requests for it; whoever asks for this closes it."""
        return self._models.pop(id, None)

    async def start(self) -> None:
        for model in self._models.values():
            await model.client.start()

    async def aclose(self) -> None:
        for model in self._models.values():
            await model.client.aclose()

    def models(self) -> Sequence[ModelCard]:
        return [model.card for model in self._models.values()]

    def health(self) -> Sequence[ModelHealth]:
        return [model.health() for model in self._models.values()]

    def tokenizer(self, model: str) -> TokenizerDoor | None:
        found = self._models.get(model)
        return None if found is None else LocalTokenizerDoor(found.reader, context_length=found.card.context_length)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """As `providers.base.Provider.generate`; choice index = prompt × n + continuation."""
        reading = await self.read(request)
        async with aclosing(reading.answer()) as events:
            async for event in events:
                yield event

    async def read(self, request: Request) -> LocalReading:
        """As `providers.base.Counting.read`."""
        model = self._models.get(request.model)
        if model is None:
            raise ModelNotFound(f"{request.model!r} does not run on this machine.", param="model")
        hello = model.client.require_ready()
        card = model.card
        with model.in_use():
            prompts = await model.reader.read(
                request,
                vocab_size=min(hello.vocab_size, model.tokenizer.vocab_size),
                context_length=card.context_length,
            )
        return LocalReading(model, request, prompts, most=hello.max_queue // 4)


class LocalReading:
    """As `providers.base.Reading`. At most `most` prompts are answered together."""

    def __init__(self, model: LocalModel, request: Request, prompts: Sequence[Prompt], *, most: int) -> None:
        self.num_prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        self._model = model
        self._request = request
        self._prompts = prompts
        self._most = most

    async def answer(self) -> AsyncGenerator[Event, None]:
        model, request, prompts, prompt_tokens = self._model, self._request, self._prompts, self.num_prompt_tokens
        card = model.card
        refused: dict[str, str] = {}
        with model.in_use():
            while True:
                chat = await _chat(model, request, prompts, refused)
                answers = _answers(model, request, prompts, chat)
                try:
                    async with aclosing(_batches(model, request, answers, chat, most=self._most)) as batches:
                        first = await anext(batches)
                        cached_tokens = sum(answer.cached_tokens for answer in answers)
                        yield Started(NAME, card.id, card.fingerprint, prompt_tokens, cached_tokens)
                        for event in (*(chat.notices if chat else ()), *first):
                            yield event
                        async for events in batches:
                            for event in events:
                                yield event
                    break
                except InvalidRequest as error:
                    param = error.param or ""
                    if chat is None or param in refused or not chat.can_loosen(param):
                        raise
                    refused[param] = error.message
        yield Finish(_usage(answers, prompt_tokens, chat))


async def _batches(
    model: LocalModel, request: Request, answers: Sequence[Answer], chat: Chat | None, *, most: int
) -> AsyncGenerator[Sequence[Event], None]:
    """The events of all answers. A request of more prompts than the queue holds would never be taken whole, so at most
    `most` of them are generated together."""
    num_together = max(1, most)
    for first in range(0, len(answers), num_together):
        async with aclosing(_run(model, request, answers[first : first + num_together], chat)) as batches:
            async for events in batches:
                yield events


async def _chat(
    model: LocalModel, request: Request, prompts: Sequence[Prompt], refused: Mapping[str, str]
) -> Chat | None:
    """None for raw completions. `refused`: tool schemas that the engine did not take, and why."""
    profile = model.reader.profile
    if not request.is_chat or profile is None:
        return None
    control_id, opened = model.tokenizer.control_id, prompts[0].opened
    begun = prompts[0].begun.text if prompts[0].begun else ""
    make = partial(Chat, request, profile, control_id=control_id, opened=opened, begun=begun, refused=refused)
    chat = await run_aside(make, num_characters(tool.parameters for tool in request.tools))
    if prompts[0].num_altered:
        chat.notices.append(Noticed(neutralised_warning(prompts[0].num_altered)))
    return chat


def _answers(model: LocalModel, request: Request, prompts: Sequence[Prompt], chat: Chat | None) -> list[Answer]:
    texts = request.stop + (chat.stop_strings if chat else ())
    stop_strings = StopStrings(texts) if any(texts) else None
    shown_ids = chat.shown_ids if chat else frozenset()
    return [
        Answer(prompt, request, number * request.n, model.tokenizer, model.texts, stop_strings, shown_ids)
        for number, prompt in enumerate(prompts)
    ]


async def _run(
    model: LocalModel, request: Request, answers: Sequence[Answer], chat: Chat | None
) -> AsyncGenerator[Sequence[Event], None]:
    """The events of some prompts' answers, generated together; at least one batch, which may be empty."""
    client = model.client
    running = {client.new_id(): answer for answer in answers}
    grammar = chat.grammar if chat else request.grammar
    submits = [_submission(id, model, request, answer.prompt, grammar) for id, answer in running.items()]
    async with aclosing(client.generate(*submits)) as outputs:
        async for output in outputs:
            answer = running[output.id]
            events = answer.push(output)
            for index in answer.take_superfluous():
                client.abort(output.id, index)
            yield chat.read(events) if chat else events


def _submission(id: int, model: LocalModel, request: Request, prompt: Prompt, grammar: Grammar | None) -> Submit:
    begun = prompt.begun
    room = model.card.context_length - len(prompt.token_ids)
    return Submit(
        id=id,
        prompt=prompt.token_ids,
        max_tokens=min(room, prompt.max_tokens + (begun.num_tokens if begun else 0)),
        num_begun=begun.num_kept if begun else 0,
        opening=begun.opening if begun else [],
        n=num_continuations(request),
        sampling=_sampling(request),
        eos_ids=model.eos_ids,
        grammar=grammar,
        prompt_logprobs=request.sampling.logprobs if request.echo else None,
        salt=_salt(request),
        caller=request.caller,
    )


def _sampling(request: Request) -> Sampling:
    """The best of several are found by their log-probabilities."""
    if request.best_of > request.n and request.sampling.logprobs is None:
        return structs.replace(request.sampling, logprobs=0)
    return request.sampling


def _salt(request: Request) -> str:
    """Of this caller alone: a cache shared between callers tells by its speed what others have asked."""
    return f"{len(request.caller)}:{request.caller}{request.cache_salt}"


def _usage(answers: Sequence[Answer], prompt_tokens: int, chat: Chat | None) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=sum(answer.num_tokens for answer in answers),
        cached_tokens=sum(answer.cached_tokens for answer in answers),
        reasoning_tokens=chat.reasoning_tokens if chat else 0,
        accepted_prediction_tokens=sum(answer.accepted_tokens for answer in answers),
        queue_s=max((answer.queue_s for answer in answers), default=0.0),
    )
