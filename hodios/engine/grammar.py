"""Which tokens may come next: grammars, compiled by llguidance. Refuses what it cannot honour or afford."""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from threading import Lock
from typing import Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from hodios.engine.trial import ends_in_time, parser_limits
from hodios.errors import InvalidRequest
from hodios.types import Grammar

_WHITESPACE = r"( |\n {0,32})"
"""Between the parts of JSON: one space, or a new line and its indentation. Small models go astray where they may not
write it at all, and may never stop writing it where it has no bound."""
_MOST_CHARACTERS = {"json_object": 0, "json_schema": 131_072, "regex": 32_768, "lark": 32_768}
_MOST_REMAINDERS = 20_000
"""The automaton of `multipleOf: n` has n states, and of several in `allOf` their least common multiple."""
_MOST_AT_ONCE = 8
"""Intersections of regular expressions that surely compile in milliseconds; each more doubles the time."""
_MOST_KEPT = 64


class GrammarFailure(Exception):
    """The grammar cannot go on: it became too complex, or was given a token that it does not allow."""


class Matcher:
    """Where one answer stands in its grammar."""

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
        # Takes a third of a second and much memory, which many an engine never needs.
        return llguidance.LLTokenizer(self._tokenizer_json, n_vocab=self._vocab_size, eos_token=self._eos_ids)

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
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return Matcher(prototype.deep_copy())

    def _compile(self, grammar: Grammar) -> Any:
        most = _MOST_CHARACTERS[grammar.kind]
        if len(grammar.source) > most:
            raise _refusal(grammar, f"it has {len(grammar.source)} characters, the most are {most}")
        translated = _translate(grammar)
        if _may_explode(grammar, translated) and not ends_in_time(translated):
            raise _refusal(grammar, "it is too complex: too many patterns hold at once")
        state = llguidance.LLMatcher(self._tokenizer, translated, limits=parser_limits(), log_level=0)
        if state.is_error():
            raise _refusal(grammar, state.get_error())
        self._check_start(grammar, state)
        return state

    def _check_start(self, grammar: Grammar, state: Any) -> None:
        try:
            Matcher(state).fill_mask(np.empty((1, (self._vocab_size + 31) // 32), np.int32), 0)
        except GrammarFailure as failure:
            reason = "nothing matches it" if "NoExtension" in str(failure) else str(failure)
            raise _refusal(grammar, reason) from failure


def _translate(grammar: Grammar) -> str:
    """The grammar as llguidance reads it. Raises InvalidRequest."""
    translated: str
    match grammar.kind:
        case "json_object":
            translated = _translate_schema(grammar, '{"type":"object"}')
        case "json_schema":
            schema = _normalised(grammar)
            _check_remainders(grammar, schema)
            translated = _translate_schema(grammar, schema)
        case "regex":
            translated = llguidance.LLMatcher.grammar_from_regex(grammar.source)
        case "lark":
            _check_remainders(grammar, re.sub(r"\\u00([0-7][0-9a-fA-F])", _character, grammar.source))
            translated = llguidance.LLMatcher.grammar_from_lark(grammar.source)
    return translated


def _translate_schema(grammar: Grammar, schema: str) -> str:
    overrides = {"whitespace_pattern": _WHITESPACE}
    try:
        translated: str = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=overrides)
    except ValueError as error:
        raise _refusal(grammar, str(error)) from error
    return translated


def _normalised(grammar: Grammar) -> str:
    try:
        schema = json.loads(grammar.source, parse_constant=_refuse_constant)
    except RecursionError:
        raise _refusal(grammar, "it is too deeply nested") from None
    except ValueError as error:
        raise _refusal(grammar, f"it is not JSON: {error}") from error
    if not isinstance(schema, dict) and schema is not True:
        raise _refusal(grammar, "a schema is an object or true")
    return json.dumps({} if schema is True else schema)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _may_explode(grammar: Grammar, translated: str) -> bool:
    """Whether so many regular expressions may have to hold at once that compiling could take exponential time."""
    match grammar.kind:
        case "lark":
            return "%json" in translated or translated.count("&") + translated.count("~") > _MOST_AT_ONCE
        case "json_schema":
            num_patterns = len(re.findall(r'"(?:pattern|format)":', translated))
            combines = re.search(r'"(?:allOf|anyOf|oneOf|\$ref)":', translated) is not None
            return '"patternProperties":' in translated or (combines and num_patterns > _MOST_AT_ONCE)
        case _:
            return False


def _check_remainders(grammar: Grammar, text: str) -> None:
    least_common = 1
    for number in re.findall(r'"multipleOf"\s*:\s*(\d{1,20}(?:\.\d{1,20})?(?:[eE][-+]?\d{1,3})?)', text):
        value = Fraction(number)
        while value and value.denominator > 1:
            value *= 10
        while value and value % 10 == 0:
            value /= 10
        least_common = math.lcm(least_common, int(value) or 1)
        if least_common > _MOST_REMAINDERS:
            raise _refusal(grammar, f"multipleOf {number} needs an automaton of more than {_MOST_REMAINDERS} states")


def _character(code: re.Match[str]) -> str:
    return chr(int(code[1], 16))


def _refusal(grammar: Grammar, reason: str) -> InvalidRequest:
    name = {"json_object": "JSON mode", "json_schema": "The JSON schema", "regex": "The regular expression"}
    reason = reason.replace("<non-verbose/>", "").strip()
    return InvalidRequest(
        f"{name.get(grammar.kind, 'The grammar')} cannot be honoured: {reason[:500]}", param="response_format"
    )


def _first_line(message: str) -> str:
    return message.partition("\n")[0]
