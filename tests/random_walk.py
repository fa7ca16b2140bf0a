"""Answers of a model that knows nothing: any token that the grammar allows, with a liking for those that end things."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.grammar import GrammarCompiler, Matcher
from hodios.types import Grammar

CLOSING = '"}],: \n'


class Walker:
    """Walks through grammars with a real tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ends = sorted(tokenizer.eos_ids)
        self.compiler = GrammarCompiler(tokenizer.to_json(), vocab_size=tokenizer.vocab_size, eos_ids=self.ends)
        self._bitmask = np.zeros((1, (tokenizer.vocab_size + 31) // 32), np.int32)
        texts = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
        closing = CLOSING.encode()
        self._is_closing = np.array([bool(text) and all(byte in closing for byte in text) for text in texts])
        self._is_short = np.array([len(text) == 1 for text in texts])

    def allowed(self, matcher: Matcher) -> NDArray[np.bool_]:
        matcher.fill_mask(self._bitmask, 0)
        bits = np.unpackbits(self._bitmask[0].view(np.uint8), count=self.tokenizer.vocab_size, bitorder="little")
        return bits.view(np.bool_)

    def answer(self, grammar: Grammar, seed: int, *, begin: str = "", most: int = 300) -> str | None:
        """What was said, control tokens as their text; None for what did not come to an end. `begin`: how it began."""
        rng = random.Random(seed)
        matcher = self.compiler.compile(grammar)
        said = self.tokenizer.encode(begin, add_special=False)
        for token in said:
            assert self.allowed(matcher)[token], f"{begin!r} is refused at {self.tokenizer.token_text(token)!r}"
            matcher.accept(token)
        most += len(said)
        while len(said) < most:
            token = self._choose(self.allowed(matcher), rng, is_late=len(said) > most // 3)
            if token in self.ends:
                return self.text(said)
            matcher.accept(token)
            said.append(token)
        return None

    def _choose(self, allowed: NDArray[np.bool_], rng: random.Random, *, is_late: bool) -> int:
        may_end = [end for end in self.ends if allowed[end]]
        if may_end and (is_late or rng.random() < 0.3):
            return rng.choice(may_end)
        liked = allowed & (self._is_closing if rng.random() < (0.9 if is_late else 0.3) else self._is_short)
        for choices in (liked, allowed) if rng.random() < 0.8 or is_late else (allowed,):
            ids = np.flatnonzero(choices)
            if len(ids):
                return int(ids[rng.randrange(len(ids))])
        raise AssertionError("the grammar allows nothing")

    def text(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self.tokenizer.token_bytes, tokens)).decode()

    def reach(self, grammar: Grammar, text: str, *, parse_special: bool = True) -> Matcher | None:
        """Where `text` leads, cut as the tokenizer cuts it; None where a mask does not let it through."""
        matcher = self.compiler.compile(grammar)
        for token in self.tokenizer.encode(text, add_special=False, parse_special=parse_special):
            if not self.allowed(matcher)[token]:
                return None
            matcher.accept(token)
        return matcher

    def accepts(self, grammar: Grammar, text: str, *, parse_special: bool = True) -> bool:
        """Whether the masks let all of `text` through, and let it end there."""
        matcher = self.reach(grammar, text, parse_special=parse_special)
        return matcher is not None and bool(self.allowed(matcher)[self.ends].all())
