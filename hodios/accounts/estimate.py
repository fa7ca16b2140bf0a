"""What an attempt may cost: at worst, or as much as nearly all answers do where there is money enough. Pure.

Whoever reserves less than the worst has to ask for more as the answer grows.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from hodios.money import charge_of
from hodios.types import Price

ROOM = 4
"""So many times the worst case of everything under way has to be left before anybody is given less than the worst."""
LEAST_SEEN = 50
"""From so many answers on, their lengths say something of the next one's."""
_NUM_KEPT = 512
_REFRESH = 16
_SHARE = 0.99


def worst_case(price: Price, num_prompt: int, num_completion: int) -> int:
    """Nano-dollars. `num_completion`: tokens of all choices together at most. Some charge more for cached tokens than
    for others, and half a nano-dollar may be rounded up or down."""
    dearest = max(price.prompt, price.cached or 0)
    at_worst = Price(prompt=dearest, completion=price.completion, request=price.request)
    worst = charge_of(at_worst, num_prompt, 0, num_completion)
    return worst + 1 if worst else 0


class Lengths:
    """How long the last answers of one model were, and how much of one has come at once."""

    def __init__(self) -> None:
        self.largest_piece = 0
        """Tokens."""
        self._newest: deque[int] = deque(maxlen=_NUM_KEPT)
        self._num_new = 0
        self._p99: int | None = None

    def add(self, completion_tokens: int, largest_piece: int = 0) -> None:
        if largest_piece > self.largest_piece:
            self.largest_piece = largest_piece
        self._newest.append(completion_tokens)
        self._num_new += 1

    def p99(self) -> int | None:
        """None where too little was seen."""
        if len(self._newest) < LEAST_SEEN:
            return None
        if self._p99 is None or self._num_new >= _REFRESH:
            at = int(_SHARE * (len(self._newest) - 1) + 0.5)
            self._p99 = next(islice(sorted(self._newest), at, None))
            self._num_new = 0
        return self._p99


def likely_completion(lengths: Lengths, most: int, num_choices: int = 1) -> int:
    """Tokens of an answer of `most` at most that nearly all answers stay below."""
    p99 = lengths.p99()
    return most if p99 is None else min(most, max(1, p99 * num_choices))


def has_room(headroom: int, worst_under_way: int) -> bool:
    """Whether less than the worst may be reserved: `headroom` is what the tightest budget has left, `worst_under_way`
    what everything at work on it would cost at worst, this attempt among it."""
    return headroom > ROOM * worst_under_way
