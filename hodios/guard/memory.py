"""What was said of the texts that were judged last, so that they need not be judged again: system prompts, and what
comes back with each turn of a chat. Knows texts by keyed digests alone, and keeps none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Scores = Mapping[str, float]
Said = TypeVar("Said")
MOST_REMEMBERED = 4096
"""Texts; half a kilobyte each."""
_DIGEST_BYTES = 16
_SECRET_BYTES = 32


class Memory(Generic[Said]):
    """Of one process. Forgets what was not asked for again while half of `most` others were."""

    def __init__(self, most: int = MOST_REMEMBERED, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._most = max(most // 2, 1)
        self._keyed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=random(_SECRET_BYTES))
        self._new: dict[bytes, Said] = {}
        self._old: dict[bytes, Said] = {}

    def look_up(self, text: str) -> tuple[bytes, Said | None]:
        """A digest, which tells nothing of the text to whoever has no secret, and the secret ends with the process; and
        what is known."""
        keyed = self._keyed.copy()
        keyed.update(text.encode(errors="surrogatepass"))
        digest = keyed.digest()
        known = self._new.get(digest)
        if known is None and self._old:
            known = self._old.get(digest)
            if known is not None:
                self.put(digest, known)
        return digest, known

    def put(self, digest: bytes, said: Said) -> None:
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}
        self._new[digest] = said

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def clear(self) -> None:
        """Whoever judges has become another."""
        self._new, self._old = {}, {}
