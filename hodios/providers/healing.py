"""An answer that somebody else began, for the engine on this machine: as tokens, and as text that tokens must spell.

The client has text, and the engine goes on from tokens. A text that stops within a word is cut into other tokens than
the model would have chosen, and what follows such tokens is odd. So the last word is taken off again, and the engine
has to begin with its characters, in whatever tokens the model likes best (known as token healing).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from hodios.dialog.beginning import Stretch
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.messages import Place
from hodios.errors import NotAvailable

_MOST_TAKEN_OFF = 8
"""Tokens. Where no word begins within so many, any place will do."""
_WORD_STARTS = (b" ", b"\n", b"\t", b"\r")


class Begun(Struct, frozen=True):
    """The beginning of an answer, ready for the engine."""

    text: str
    """All of it, as the model would have written it."""
    num_kept: int
    """Tokens of it that stand at the end of the prompt."""
    opening: list[Place]
    """How the rest may be spelled."""
    num_characters: int
    """Of the rest, which comes again."""
    num_tokens: int
    """The rest has no more."""


class Spellings:
    """All texts that tokens of one vocabulary spell. Immutable, made once for each model; that takes a while."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Tokens from `vocab_size` on are unknown to the model."""
        self._tokenizer = tokenizer
        ids = range(min(vocab_size, tokenizer.vocab_size))
        spelled = [(tokenizer.token_bytes(id), id) for id in ids if not tokenizer.is_special(id)]
        self._sorted = sorted(pair for pair in spelled if pair[0])
        self._longest = max((len(data) for data, _ in self._sorted), default=0)

    def begin(self, stretches: Sequence[Stretch]) -> tuple[list[int], Begun]:
        """The tokens that are kept, and the rest. Raises NotAvailable for text that no tokens spell."""
        ids: list[int] = []
        for stretch in stretches[:-1]:
            ids += self._encode(stretch)
        kept, rest, num_tokens = self._cut(stretches[-1])
        opening = self.places(rest)
        if rest and not opening:
            raise _unspeakable()
        text = "".join(stretch.text for stretch in stretches)
        ids += kept
        return ids, Begun(text, len(ids), opening, len(rest.decode()), num_tokens)

    def places(self, text: bytes) -> list[Place]:
        """How to spell it, and whatever may follow it in the same token; [] where there is no way."""
        places = [self._place(text, start) for start in range(len(text))]
        is_passable = [True] * (len(text) + 1)
        for start in range(len(text) - 1, -1, -1):
            inner = {token: end for token, end in places[start].inner.items() if is_passable[end]}
            places[start] = Place(inner, places[start].last)
            is_passable[start] = bool(inner or places[start].last)
        return places if is_passable[0] else []

    def _place(self, text: bytes, start: int) -> Place:
        inner: dict[int, int] = {}
        for end in range(start + 1, min(len(text), start + self._longest + 1)):
            inner |= dict.fromkeys(self._spelling(text[start:end]), end)
        return Place(inner, self._beginning_with(text[start:]))

    def _spelling(self, text: bytes) -> list[int]:
        at = bisect_left(self._sorted, (text, -1))
        found = []
        while at < len(self._sorted) and self._sorted[at][0] == text:
            found.append(self._sorted[at][1])
            at += 1
        return found

    def _beginning_with(self, text: bytes) -> list[int]:
        found = []
        for at in range(bisect_left(self._sorted, (text, -1)), len(self._sorted)):
            if not self._sorted[at][0].startswith(text):
                break
            found.append(self._sorted[at][1])
        return found

    def _encode(self, stretch: Stretch) -> list[int]:
        if stretch.is_markup:
            return self._tokenizer.encode(stretch.text, add_special=False)
        ids, rest = self._spell(stretch.text)
        if rest:
            raise _unspeakable()
        return ids

    def _spell(self, text: str) -> tuple[list[int], bytes]:
        """Tokens that spell `text` exactly, as far as they do, and what they leave."""
        rest = text.encode()
        ids = []
        for id in self._tokens(text):
            data = self._tokenizer.token_bytes(id)
            if not rest.startswith(data):
                break
            ids.append(id)
            rest = rest[len(data) :]
        return ids, rest

    def _tokens(self, text: str) -> list[int]:
        """Without the space that some vocabularies put before each text."""
        tokenizer = self._tokenizer
        if not tokenizer.adds_space:
            return tokenizer.encode(text, add_special=False, parse_special=False)
        if text.startswith(" "):
            return tokenizer.encode(text[1:], add_special=False, parse_special=False)
        before = tokenizer.encode("\n", add_special=False, parse_special=False)
        return tokenizer.encode(f"\n{text}", add_special=False, parse_special=False)[len(before) :]

    def _cut(self, last: Stretch) -> tuple[list[int], bytes, int]:
        """Tokens that are kept; the bytes that are spelled again: at least one token's, whole characters, and where a
        word is near, from its beginning on; and as many tokens as surely spell them."""
        if last.is_markup:
            return self._encode(last), b"", 0
        ids, unspelled = self._spell(last.text)
        data = last.text.encode()
        end = len(data) - len(unspelled)
        num_kept = kept_end = 0
        for num_taken, id in enumerate(reversed(ids), start=1):
            end -= len(self._tokenizer.token_bytes(id))
            if _is_boundary(data, end):
                num_kept, kept_end = len(ids) - num_taken, end
                if data[end : end + 1] in _WORD_STARTS or num_taken >= _MOST_TAKEN_OFF:
                    break
        return ids[:num_kept], data[kept_end:], len(data) - kept_end


def _unspeakable() -> NotAvailable:
    return NotAvailable("the answer so far is a text that this model's vocabulary cannot spell")


def _is_boundary(data: bytes, at: int) -> bool:
    """Whether a character of this UTF-8 begins there."""
    return at == len(data) or data[at] & 0xC0 != 0x80
