"""Holds a continuation to the text that it must begin with, whatever tokens spell it, besides its grammar, if any.

Knows the text only as places and the tokens that lead from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hodios.engine.grammar import Constraint, GrammarFailure
from hodios.engine.messages import Place


class Opening:
    """Where one continuation stands in its first text: a `Constraint`. Once `is_over`, `inner` alone counts."""

    def __init__(self, places: Sequence[Place], inner: Constraint | None) -> None:
        self.inner = inner
        self.is_over = not places
        self._places = places
        self._at = 0

    def fill_mask(self, bitmask: NDArray[np.int32], row: int) -> None:
        words = bitmask[row]
        place = self._places[self._at]
        allowed = np.zeros(32 * len(words), np.bool_)
        allowed[[*place.inner, *place.last]] = True
        own = np.packbits(allowed, bitorder="little").view(np.int32)
        if self.inner is None:
            words[:] = own
        else:
            self.inner.fill_mask(bitmask, row)
            words &= own
        if not words.any():
            raise GrammarFailure("the answer's beginning does not fit its grammar")

    def accept(self, token: int) -> None:
        if self.inner is not None:
            self.inner.accept(token)
        place = self._places[self._at]
        if token in place.inner:
            self._at = place.inner[token]
        elif token in place.last:
            self.is_over = True
        else:
            raise GrammarFailure(f"token {token} is not how the answer begins")

    @property
    def is_finished(self) -> bool:
        return False
