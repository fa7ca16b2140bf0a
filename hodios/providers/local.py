"""The models on this machine: requests become submissions to engine workers, their outputs become events.

Starts no worker and prepares no model; waits for none either: a model that is away is answered with `Overloaded`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

from msgspec import structs

from hodios.dialog.stop import StopStrings
from hodios.dialog.template import ChatTemplate
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient, EngineState
from hodios.engine.messages import Hello, Submit
from hodios.errors import ModelNotFound, UnsupportedParameter
from hodios.events import Event, Finish, Started, Usage
from hodios.providers.answer import Answer, Prompt, num_continuations
from hodios.providers.base import ModelHealth, ModelState, TokenizerDoor
from hodios.providers.continuation import TokenTexts
from hodios.providers.prompt import PromptReader
from hodios.providers.tokenizer_door import LocalTokenizerDoor
from hodios.types import ModelCard, Request, Sampling

NAME = "local"
_STATES: dict[EngineState, tuple[ModelState, str]] = {
    "ready": ("ready", ""),
    "loading": ("loading", "the engine is loading the model"),
    "restarting": ("restarting", "the engine went away and is being restarted"),
    "closed": ("failed", "the connection to the engine was closed"),
}


class LocalModel:
    """One model: its tokenizer, its chat template, and the client of its engine."""

    def __init__(
        self, card: ModelCard, tokenizer: Tokenizer, template: ChatTemplate | None, client: EngineClient
    ) -> None:
        self.client = client
        self.tokenizer = tokenizer
        self.reader = PromptReader(card.id, tokenizer, template)
        self.texts = TokenTexts(tokenizer)
        self.eos_ids = sorted(tokenizer.eos_ids)
        self._card = card
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

    def health(self) -> ModelHealth:
        state, message = _STATES[self.client.state]
        stats = {} if self.client.stats is None else structs.asdict(self.client.stats)
        return ModelHealth(
            model=self._card.id, state=state, message=message, num_restarts=self.client.restarts, stats=stats
        )


async def load_local_model(
    card: ModelCard, tokenizer_path: Path, socket_path: Path, *, clock: Callable[[], datetime] = datetime.now
) -> LocalModel:
    """A prepared model, from the file that `Tokenizer.save` wrote. `clock` is for templates that tell the date.

    Raises: SetupError.
    """
    tokenizer = await asyncio.to_thread(Tokenizer.load, tokenizer_path)
    return LocalModel(card, tokenizer, _template(tokenizer, clock), EngineClient(socket_path, name=card.id))


def _template(tokenizer: Tokenizer, clock: Callable[[], datetime]) -> ChatTemplate | None:
    """None for base models, which cannot chat."""
    try:
        return ChatTemplate.for_tokenizer(tokenizer, clock)
    except UnsupportedParameter:
        return None


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
        model = self._models.get(request.model)
        if model is None:
            raise ModelNotFound(f"{request.model!r} does not run on this machine.", param="model")
        hello = model.client.require_ready()
        card = model.card
        prompts = await model.reader.read(
            request,
            vocab_size=min(hello.vocab_size, model.tokenizer.vocab_size),
            context_length=card.context_length,
        )
        prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        answers = _answers(model, request, prompts)
        is_started = False
        # A request of more prompts than the queue holds would never be taken whole.
        num_together = max(1, hello.max_queue // 4)
        for first in range(0, len(prompts), num_together):
            async with aclosing(_run(model, request, answers[first : first + num_together])) as batches:
                async for events in batches:
                    if not is_started:
                        is_started = True
                        cached_tokens = sum(answer.cached_tokens for answer in answers)
                        yield Started(NAME, card.id, card.fingerprint, prompt_tokens, cached_tokens)
                    for event in events:
                        yield event
        yield Finish(_usage(answers, prompt_tokens))


def _answers(model: LocalModel, request: Request, prompts: Sequence[Prompt]) -> list[Answer]:
    stop_strings = StopStrings(request.stop) if any(request.stop) else None
    return [
        Answer(prompt, request, number * request.n, model.tokenizer, model.texts, stop_strings)
        for number, prompt in enumerate(prompts)
    ]


async def _run(model: LocalModel, request: Request, answers: Sequence[Answer]) -> AsyncGenerator[Sequence[Event], None]:
    """The events of some prompts' answers, generated together; at least one batch, which may be empty."""
    client = model.client
    running = {client.new_id(): answer for answer in answers}
    submits = [_submission(id, model, request, answer.prompt) for id, answer in running.items()]
    async with aclosing(client.generate(*submits)) as outputs:
        async for output in outputs:
            answer = running[output.id]
            events = answer.push(output)
            for index in answer.take_superfluous():
                client.abort(output.id, index)
            yield events


def _submission(id: int, model: LocalModel, request: Request, prompt: Prompt) -> Submit:
    return Submit(
        id=id,
        prompt=prompt.token_ids,
        max_tokens=prompt.max_tokens,
        n=num_continuations(request),
        sampling=_sampling(request),
        eos_ids=model.eos_ids,
        grammar=request.grammar,
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


def _usage(answers: Sequence[Answer], prompt_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=sum(answer.num_tokens for answer in answers),
        cached_tokens=sum(answer.cached_tokens for answer in answers),
        accepted_prediction_tokens=sum(answer.accepted_tokens for answer in answers),
        queue_s=max((answer.queue_s for answer in answers), default=0.0),
    )
