"""The vocabulary as llguidance sees it: only control tokens are no text, and no text is ever taken for one of them.

llguidance's own reading of a tokenizer takes every added token of the form `<…>` for a control token, and cuts text
that a grammar forces as the tokenizer would cut a prompt: a string that spells a control token would become that
token, which the grammar then refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import llguidance
import msgspec


def build_tokenizer(tokenizer_json: str, vocab_size: int, eos_ids: Sequence[int]) -> Any:
    """An `llguidance.LLTokenizer`. Raises ValueError for what is no tokenizer."""
    native = llguidance.LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=list(eos_ids))
    added = msgspec.json.decode(tokenizer_json, type=_Tokenizer).added_tokens
    return llguidance.LLTokenizer(_Vocabulary(native, added), eos_token=list(eos_ids))


_MOST_KEPT, _LONGEST_KEPT = 4096, 256


class _Added(msgspec.Struct):
    id: int
    content: str
    special: bool


class _Tokenizer(msgspec.Struct):
    """What is read here of the `tokenizers` library's format."""

    added_tokens: list[_Added]


class _Vocabulary:
    """With the attributes that `llguidance.LLTokenizer` asks for."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, native: Any, added: Sequence[_Added]) -> None:
        self._native = native
        self._control = re.compile("|".join(re.escape(token.content) for token in added if token.special) or "(?!)")
        self.eos_token_id = native.eos_token
        is_text = {token.id for token in added if not token.special}
        ids = range(native.vocab_size)
        self.tokens = [native.decode_bytes([id]) for id in ids]
        self.special_token_ids = [id for id in ids if id not in is_text and native.is_special_token(id)]

        self._tokenize_short = lru_cache(_MOST_KEPT)(self._tokenize)

    def __call__(self, text: str) -> list[int]:
        # Asked at nearly every token of an answer, and always for the same few forced texts.
        return self._tokenize_short(text) if len(text) <= _LONGEST_KEPT else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        return [id for part in self._parts(text) for id in self._native.tokenize_str(part)]

    def _parts(self, text: str) -> Iterator[str]:
        """Cut so that no part holds the whole text of a control token."""
        start = 0
        while found := self._control.search(text, start):
            yield text[start : found.start() + 1]
            start = found.start() + 1
        yield text[start:]
