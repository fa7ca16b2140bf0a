"""Token bytes into text, as they come: never half a character, never a U+FFFD that the whole text does not have."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable
from typing import Protocol


class TokenBytes(Protocol):
    """What a detokenizer asks of a tokenizer."""

    def token_bytes(self, id: int) -> bytes: ...

    def is_special(self, id: int) -> bool: ...


class Detokenizer:
    """Text of one sequence of tokens, pushed in any portions.

    All pushes and the flush together are the same text for every way to cut the tokens into portions. With
    `strip_space`, one space at the very start of the text is dropped: the one that SentencePiece encoding put there.
    `skip_special` leaves out tokens that are no text, but for those in `shown`.
    """

    def __init__(
        self, tokens: TokenBytes, *, skip_special: bool, strip_space: bool, shown: frozenset[int] = frozenset()
    ) -> None:
        self._tokens = tokens
        self._shown = shown
        self._skip_special = skip_special
        self._strip_space = strip_space
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that `ids` complete; bytes of an unfinished character wait for the next push."""
        pieces = []
        for token_id in ids:
            is_special = self._tokens.is_special(token_id)
            if is_special and self._skip_special and token_id not in self._shown:
                continue
            piece = self._tokens.token_bytes(token_id)
            if self._strip_space and not is_special and piece:
                piece = piece.removeprefix(b" ")
                self._strip_space = False
            pieces.append(piece)
        return self._decoder.decode(b"".join(pieces))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole, else nothing."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
