"""From a request to token ids that fit the model: renders, encodes, checks every number against its range.

Long texts are worked on in a thread, and texts that cannot fit are refused before they are tokenized.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hodios.dialog.template import ChatTemplate
from hodios.dialog.tokenizer import Tokenizer
from hodios.errors import ContextLengthExceeded, InvalidRequest
from hodios.providers.answer import Prompt
from hodios.types import Request

THREAD_CHARACTERS = 20_000
"""From here on tokenizing takes longer than other requests should wait."""
DEFAULT_MAX_TOKENS = 16_384
"""Of an answer whose length the client leaves open."""

Result = TypeVar("Result")


class PromptReader:
    """Turns text and chats into token ids for one model."""

    def __init__(self, model: str, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self.tokenizer = tokenizer
        self._model = model
        self._template = template

    @property
    def template_source(self) -> str | None:
        """The chat template in use; None where the model has none."""
        return None if self._template is None else self._template.source

    async def read(self, request: Request, *, vocab_size: int, context_length: int) -> list[Prompt]:
        """Raises: InvalidRequest, ContextLengthExceeded."""
        check_token_parameters(request, vocab_size)
        if request.messages is not None:
            refuse = functools.partial(self._too_long, param="messages", context_length=context_length)
            token_ids = await self.encode_messages(
                request.messages,
                add_generation_prompt=request.add_generation_prompt,
                continue_final_message=request.continue_final_message,
                template_kwargs=request.template_kwargs,
                refuse=refuse,
            )
            return [self._fit(token_ids, "", request, "messages", context_length)]
        return [
            await self._read_prompt(prompt, request, vocab_size, context_length) for prompt in request.prompts or ()
        ]

    async def _read_prompt(
        self, prompt: str | tuple[int, ...], request: Request, vocab_size: int, context_length: int
    ) -> Prompt:
        if isinstance(prompt, str):
            refuse = functools.partial(self._too_long, param="prompt", context_length=context_length)
            token_ids = await self.encode(prompt, add_special=True, refuse=refuse)
            return self._fit(token_ids, prompt, request, "prompt", context_length)
        check_token_ids(prompt, "prompt", vocab_size)
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
        refuse: Callable[[str], None] | None = None,
    ) -> list[int]:
        """Token ids of a chat as the model's own template writes it, with exactly one BOS where the model wants one."""
        template = self._template
        if template is None:
            raise InvalidRequest(
                f"{self._model} has no chat template: ask for it through /v1/completions.", param="messages"
            )

        def work() -> list[int]:
            text = template.render(
                messages,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                kwargs=template_kwargs,
            )
            if refuse is not None:
                refuse(text)
            token_ids = self.tokenizer.encode(text, add_special=False)
            bos_id = self.tokenizer.bos_id
            if self.tokenizer.add_bos and bos_id is not None and token_ids[:1] != [bos_id]:
                token_ids.insert(0, bos_id)
            return token_ids

        return await run_aside(work, _num_characters([*messages, *(template_kwargs or {}).items()]))

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


def _num_characters(values: list[object]) -> int:
    """Roughly how much text JSON values hold."""
    total = 0
    while values:
        match values.pop():
            case str() as text:
                total += len(text)
            case dict() as fields:
                values += fields.values()
            case list() | tuple() as entries:
                values += entries
        total += 10
    return total
