"""A local model's tokenizer as `providers.base.TokenizerDoor`. Long texts are worked on in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodios.providers.prompt import PromptReader, check_token_ids, run_aside


class LocalTokenizerDoor:
    """The tokenizer of one model, and the chat prompts that generation would see."""

    def __init__(self, reader: PromptReader, *, context_length: int) -> None:
        self._reader = reader
        self._tokenizer = reader.tokenizer
        self._context_length = context_length

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return await self._reader.encode(text, add_special=add_special_tokens)

    async def encode_messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: Mapping[str, Any] | None,
    ) -> list[int]:
        return await self._reader.encode_messages(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )

    async def decode(self, token_ids: Sequence[int]) -> str:
        check_token_ids(token_ids, "tokens", self._tokenizer.vocab_size)
        return await run_aside(lambda: self._tokenizer.decode(token_ids, skip_special=False), len(token_ids))

    async def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        check_token_ids(token_ids, "tokens", self._tokenizer.vocab_size)
        return await run_aside(lambda: [self._tokenizer.token_text(id) for id in token_ids], len(token_ids))

    def info(self) -> dict[str, Any]:
        tokenizer = self._tokenizer
        return {
            "tokenizer_class": "LlamaTokenizerFast" if tokenizer.is_sentence_piece else "PreTrainedTokenizerFast",
            "bos_token": self._text(tokenizer.bos_id),
            "eos_token": self._text(tokenizer.eos_id),
            "pad_token": None,
            "add_bos_token": tokenizer.add_bos,
            "model_max_length": self._context_length,
            "chat_template": self._reader.template_source,
        }

    def _text(self, token_id: int | None) -> str | None:
        return None if token_id is None else self._tokenizer.token_text(token_id)
