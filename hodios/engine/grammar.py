"""Which tokens may come next: grammars, compiled by llguidance. Refuses what it cannot honour or afford."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

import llguidance
import numpy as np
from numpy.typing import NDArray

from hodios.engine.culprit import blame
from hodios.engine.grammar_tokenizer import build_tokenizer
from hodios.engine.translation import Refusal, Translated, may_explode, translate
from hodios.engine.trial import ends_in_time, parser_limits
from hodios.types import Grammar

_MOST_KEPT = 64
_MOST_CHARACTERS_KEPT = 1_000_000
"""A compiled grammar takes about 100 bytes a character."""


class GrammarFailure(Exception):
    """The grammar cannot go on: it became too complex, or was given a token that it does not allow."""


class Constraint(Protocol):
    """What one answer may say next."""

    def fill_mask(self, bitmask: NDArray[np.int32], row: int) -> None:
        """Write the allowed tokens to `bitmask[row]`, token t as bit t % 32 of word t // 32; raises GrammarFailure."""
        ...

    def accept(self, token: int) -> None:
        """Go on by `token`. Raises GrammarFailure."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether nothing but an end token can follow."""
        ...


class Matcher:
    """Where one answer stands in its grammar: a `Constraint`."""

    def __init__(self, state: Any) -> None:
        """`state` is an `llguidance.LLMatcher` of its own."""
        self._state = state

    def fill_mask(self, bitmask: NDArray[np.int32], row: int) -> None:
        """Write the allowed tokens to `bitmask[row]`, token t as bit t % 32 of word t // 32; raises GrammarFailure.

        `bitmask` is [rows, ceil(V / 32)] and contiguous. At least one token is allowed; where the answer may end, the
        end tokens are.
        """
        words = bitmask[row]
        if words.dtype != np.int32 or not words.flags.c_contiguous:
            raise ValueError("a bitmask is a contiguous array of int32")
        self._state.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        if not words.any():
            raise GrammarFailure("the grammar allows no token here")

    def accept(self, token: int) -> None:
        """Go on by `token`, which may be an end token where the answer may end. Raises GrammarFailure."""
        if not self._state.consume_token(token):
            self._check()
            raise GrammarFailure(f"the grammar does not allow token {token}")

    @property
    def is_finished(self) -> bool:
        """Whether nothing but an end token can follow."""
        return bool(self._state.is_stopped()) and not self._state.is_error()

    def forced_tokens(self) -> list[int]:
        """The tokens that must follow whatever the model thinks, often none; they are not accepted yet."""
        tokens: list[int] = self._state.compute_ff_tokens()
        self._check()
        return tokens

    def num_allowed(self, tokens: list[int]) -> int:
        """How many of `tokens`, from the first on, may follow one another here; they are not accepted yet."""
        number: int = self._state.validate_tokens(tokens)
        self._check()
        return number

    def copy(self) -> Matcher:
        """Another one that stands here, in microseconds; what becomes of it does not matter to this one."""
        return Matcher(self._state.deep_copy())

    def _check(self) -> None:
        if self._state.is_error():
            raise GrammarFailure(f"the grammar failed: {_first_line(self._state.get_error())}")


class GrammarCompiler:
    """Compiles grammars for one tokenizer, and keeps the last ones: a copy takes microseconds."""

    def __init__(self, tokenizer_json: str, *, vocab_size: int, eos_ids: Sequence[int]) -> None:
        """`tokenizer_json` in the `tokenizers` library's format; `vocab_size` V counts the model's logits, which may
        be more than the tokenizer's tokens: the rest is never allowed. `eos_ids`, at least one, end answers."""
        if not eos_ids:
            raise ValueError("without an end token no grammar can end")
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._eos_ids = list(eos_ids)
        self._kept: OrderedDict[Grammar, Any] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def _tokenizer(self) -> Any:
        return build_tokenizer(self._tokenizer_json, self._vocab_size, self._eos_ids)

    def prepare(self) -> None:
        """Do what the first grammar would otherwise wait for: half a second of work. In the thread that compiles."""
        _ = self._tokenizer

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the start of an answer. Raises InvalidRequest that says what cannot be honoured, and where.

        May be called from several threads; what one of them compiles holds up no other that finds its own kept.
        """
        with self._lock:
            prototype = self._kept.get(grammar)
        if prototype is None:
            prototype = self._compile(grammar)
        with self._lock:
            self._kept[grammar] = prototype
            self._kept.move_to_end(grammar)
            while len(self._kept) > 1 and self._is_too_full():
                self._kept.popitem(last=False)
            return Matcher(prototype.deep_copy())

    def has(self, grammar: Grammar) -> bool:
        """Whether it need not be compiled again."""
        with self._lock:
            return grammar in self._kept

    def _is_too_full(self) -> bool:
        return len(self._kept) > _MOST_KEPT or sum(map(_num_characters, self._kept)) > _MOST_CHARACTERS_KEPT

    def _compile(self, grammar: Grammar) -> Any:
        try:
            translated = translate(grammar)
            if may_explode(translated) and not ends_in_time(translated.text, translated.num_parts):
                raise Refusal("it is too complex: too many patterns hold at once", grammar)
            state = self._build(translated)
            if reason := self._fault_of(state):
                whole = Refusal(reason, grammar)
                raise whole if "too big" in reason else blame(whole, lambda less: self._fault_of(self._build(less)))
        except Refusal as refusal:
            raise refusal.error() from None
        return state

    def _build(self, translated: Translated) -> Any:
        limits = parser_limits(translated.num_parts)
        return llguidance.LLMatcher(self._tokenizer, translated.text, limits=limits, log_level=0)

    def _fault_of(self, state: Any) -> str:
        """Why llguidance cannot follow a grammar, "" where it can. Moves nothing."""
        if state.is_error():
            error = str(state.get_error())
            return "it is too big" if "panic" in error else error
        try:
            Matcher(state).fill_mask(np.empty((1, (self._vocab_size + 31) // 32), np.int32), 0)
        except GrammarFailure as failure:
            return "nothing matches it" if "NoExtension" in str(failure) else str(failure)
        return ""


def _num_characters(grammar: Grammar) -> int:
    return len(grammar.source) + sum(len(part.grammar.source) for part in grammar.parts)


def _first_line(message: str) -> str:
    return message.partition("\n")[0]
