"""From a request to token ids that fit the model: renders, encodes, checks every number against its range.

Long texts are worked on in a thread, and texts that cannot fit are refused before they are tokenized.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import structs

from hodios.dialog.beginning import Stretch, write_beginning
from hodios.dialog.guard import Rendered
from hodios.dialog.profile import Profile
from hodios.dialog.reasoning import THINK
from hodios.dialog.tokenizer import Tokenizer
from hodios.errors import ContextLengthExceeded, InvalidRequest
from hodios.providers.answer import Prompt
from hodios.providers.healing import Spellings
from hodios.types import Grammar, Request, Tool

THREAD_CHARACTERS = 20_000
"""From here on tokenizing takes longer than other requests should wait."""
DEFAULT_MAX_TOKENS = 16_384
"""Of an answer whose length the client leaves open."""

Result = TypeVar("Result")


class PromptReader:
    """Turns text and chats into token ids for one model."""

    def __init__(self, model: str, tokenizer: Tokenizer, profile: Profile | None) -> None:
        self.tokenizer = tokenizer
        self._model = model
        self.profile = profile
        self._spellings: Spellings | None = None

    @property
    def template_source(self) -> str | None:
        """The chat template in use; None where the model has none."""
        return None if self.profile is None else self.profile.template_source

    async def read(self, request: Request, *, vocab_size: int, context_length: int) -> list[Prompt]:
        """Raises: InvalidRequest, ContextLengthExceeded."""
        check_token_parameters(request, vocab_size)
        if request.messages is not None:
            return [await self._read_chat(request, vocab_size, context_length)]
        return [
            await self._read_prompt(prompt, request, vocab_size, context_length) for prompt in request.prompts or ()
        ]

    async def _read_chat(self, request: Request, vocab_size: int, context_length: int) -> Prompt:
        opened, num_altered = "", 0

        def refuse(rendered: Rendered) -> None:
            nonlocal opened, num_altered
            opened, num_altered = rendered.opens_thought, rendered.num_altered
            self._too_long(rendered.text, param="messages", context_length=context_length)

        token_ids = await self.encode_messages(
            request.messages or (),
            tools=request.tools if request.tool_choice != "none" else (),
            documents=request.documents,
            schema=self._shown_schema(request.grammar),
            is_parallel=request.parallel_tool_calls,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            template_kwargs=request.template_kwargs,
            refuse=refuse,
        )
        if request.beginning is not None:
            return await self._read_begun(token_ids, request, opened, vocab_size, context_length)
        prompt = self._fit(token_ids, "", request, "messages", context_length)
        return structs.replace(prompt, opened=opened, num_altered=num_altered)

    async def _read_begun(
        self, token_ids: list[int], request: Request, opened: str, vocab_size: int, context_length: int
    ) -> Prompt:
        """The prompt with the beginning of its answer."""
        spellings, stretches = await self._spell(vocab_size), self._beginning(request, opened)
        size = sum(len(stretch.text) for stretch in stretches)
        kept, begun = await run_aside(lambda: spellings.begin(stretches), size)
        param = "messages" if request.is_chat else "prompt"
        prompt = self._fit([*token_ids, *kept], "", request, param, context_length)
        return structs.replace(prompt, opened=opened, begun=begun)

    async def _spell(self, vocab_size: int) -> Spellings:
        if self._spellings is None:
            self._spellings = await asyncio.to_thread(Spellings, self.tokenizer, vocab_size)
        return self._spellings

    def _beginning(self, request: Request, opened: str) -> list[Stretch]:
        beginning, profile = request.beginning, self.profile
        assert beginning is not None, "only an answer that was begun has a beginning"
        if not request.is_chat or profile is None:
            return [Stretch(beginning.text)]
        thought = next(iter(profile.thought_tags), THINK)
        is_token = self.tokenizer.has_token
        return write_beginning(beginning, profile.format, is_token=is_token, opened=opened, thought=thought)

    def _shown_schema(self, grammar: Grammar | None) -> str | None:
        """Hermes models were trained to be told the schema; others are only held to it."""
        if grammar is None or grammar.kind != "json_schema" or self.profile is None:
            return None
        return grammar.source if self.profile.format.name == "hermes" else None

    async def _read_prompt(
        self, prompt: str | tuple[int, ...], request: Request, vocab_size: int, context_length: int
    ) -> Prompt:
        if isinstance(prompt, str):
            refuse = functools.partial(self._too_long, param="prompt", context_length=context_length)
            token_ids = await self.encode(prompt, add_special=True, refuse=refuse)
            if request.beginning is not None:
                return await self._read_begun(token_ids, request, "", vocab_size, context_length)
            return self._fit(token_ids, prompt, request, "prompt", context_length)
        check_token_ids(prompt, "prompt", vocab_size)
        if request.beginning is not None:
            return await self._read_begun(list(prompt), request, "", vocab_size, context_length)
        echo = ""
        if request.echo:
            echo = await run_aside(lambda: self.tokenizer.decode(prompt, skip_special=False), len(prompt))
        return self._fit(list(prompt), echo, request, "prompt", context_length)

    async def encode(self, text: str, *, add_special: bool, refuse: Callable[[str], None] | None = None) -> list[int]:
        """Token ids of raw text. `refuse` may raise for a text before it is tokenized."""

        def work() -> list[int]:
            if refuse is not None:
                refuse(text)
            return self.tokenizer.encode(text, add_special=add_special)

        return await run_aside(work, len(text))

    async def encode_messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: Mapping[str, Any] | None,
        tools: Sequence[Tool] = (),
        documents: Sequence[dict[str, Any]] = (),
        schema: str | None = None,
        is_parallel: bool = True,
        refuse: Callable[[Rendered], None] | None = None,
    ) -> list[int]:
        """Token ids of a chat as the model's own template writes it, with exactly one BOS where the model wants one.

        `refuse` may raise for a prompt before it is tokenized."""
        profile = self.profile
        if profile is None:
            raise InvalidRequest(
                f"{self._model} has no chat template: ask for it through /v1/completions.", param="messages"
            )

        def work() -> list[int]:
            rendered = profile.render(
                messages,
                tools=tools,
                documents=documents,
                schema=schema,
                is_parallel=is_parallel,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                kwargs=template_kwargs,
            )
            if refuse is not None:
                refuse(rendered)
            token_ids = self.tokenizer.encode_rendered(rendered)
            bos_id = self.tokenizer.bos_id
            if self.tokenizer.add_bos and bos_id is not None and token_ids[:1] != [bos_id]:
                token_ids.insert(0, bos_id)
            return token_ids

        told: list[object] = [
            *messages,
            *documents,
            *(template_kwargs or {}).items(),
            *(tool.parameters for tool in tools),
            schema,
        ]
        return await run_aside(work, num_characters(told))

    def _too_long(self, text: str, *, param: str, context_length: int) -> None:
        """Refuses text of which even the longest tokens would not fit: no client can make us tokenize megabytes."""
        num_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if num_bytes <= THREAD_CHARACTERS:
            return
        at_least = -(-num_bytes // self._longest_token)
        if at_least > context_length:
            raise ContextLengthExceeded(
                f"{param} has {len(text)} characters, at least {at_least} tokens; "
                f"the context of {self._model} holds {context_length}.",
                param=param,
            )

    @functools.cached_property
    def _longest_token(self) -> int:
        """In bytes."""
        return max(len(self.tokenizer.token_bytes(token_id)) for token_id in range(self.tokenizer.vocab_size))

    def _fit(self, token_ids: list[int], echo: str, request: Request, param: str, context_length: int) -> Prompt:
        """An empty prompt starts where a document does: at BOS or, without one, after an end-of-sequence token."""
        if not token_ids:
            start = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            if start is None:
                raise InvalidRequest(f"{param} is empty, and {self._model} has no token to start with.", param=param)
            token_ids = [start]
        max_tokens = self._max_tokens(len(token_ids), request, param, context_length)
        return Prompt(token_ids, echo, max_tokens)

    def _max_tokens(self, num_tokens: int, request: Request, param: str, context_length: int) -> int:
        asked = request.max_tokens
        if asked == 0 and not request.echo:
            raise InvalidRequest(
                "max_tokens is 0: that is possible only with echo; use at least 1.", param="max_tokens"
            )
        room = context_length - num_tokens
        if room < min(1, 1 if asked is None else asked):
            raise ContextLengthExceeded(
                f"{param} has {num_tokens} tokens; the context of {self._model} holds {context_length}, "
                "prompt and answer together.",
                param=param,
            )
        if asked is None:
            return min(room, DEFAULT_MAX_TOKENS)
        if asked > room:
            raise ContextLengthExceeded(
                f"max_tokens is {asked} and {param} has {num_tokens} tokens: {asked + num_tokens} together; "
                f"the context of {self._model} holds {context_length}. Ask for at most {room}.",
                param="max_tokens",
            )
        return asked


def check_token_ids(token_ids: Sequence[int], param: str, vocab_size: int) -> None:
    """Raises InvalidRequest for an id outside the vocabulary."""
    if token_ids and not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
        raise InvalidRequest(
            f"{param} holds the token id {wrong!r}; the ids of this model are 0 … {vocab_size - 1}.", param=param
        )


def check_token_parameters(request: Request, vocab_size: int) -> None:
    """Raises InvalidRequest for a sampling parameter that names a token the model does not have."""
    sampling = request.sampling
    check_token_ids(sampling.stop_token_ids, "stop_token_ids", vocab_size)
    check_token_ids([token_id for token_id, _ in sampling.logit_bias], "logit_bias", vocab_size)


async def run_aside(work: Callable[[], Result], size: int) -> Result:
    """Do `work` on so many characters or tokens: at once where it is little, else in a thread."""
    return work() if size < THREAD_CHARACTERS else await asyncio.to_thread(work)


def num_characters(values: Iterable[object]) -> int:
    """Roughly how much text JSON values hold."""
    total = 0
    left = list(values)
    while left:
        match left.pop():
            case str() as text:
                total += len(text)
            case dict() as fields:
                left += fields.values()
            case list() | tuple() as entries:
                left += entries
        total += 10
    return total
