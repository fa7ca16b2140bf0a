"""Which of several equal servers has seen the beginning of a prompt before. Stays with it until it is saturated.

Knows what was sent where, not what a server still has in its cache.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hodios.providers.chunks import CHARACTERS_PER_TOKEN
from hodios.router.demand import texts_of
from hodios.router.policy import Option
from hodios.router.stats import USUAL_OUTPUT
from hodios.types import Request

SATURATION_TOKENS = 8192
"""τ: with more prompt tokens than these on their way to a server, its cache is not worth the wait. Nor is it where the
server says itself that requests wait."""
FIRST_TOKENS = 64
MOST_MARKS = 16
"""Marks lie at 64, 128, 256 … tokens, so that the longest prompt needs few."""
MOST_KEPT = 100_000
MOST_OWNERS = 4


class Mark(NamedTuple):
    """The beginning of a prompt (or the name of a conversation), by which it is known again."""

    key: int
    num_tokens: int


class Choice(NamedTuple):
    options: list[Option]
    """In the order in which to ask them."""
    num_cached: int
    """Of the prompt's tokens the first one is taken to have."""


def marks_of(request: Request) -> list[Mark]:
    """The most telling one first: what the client says belongs together, then the longest beginning."""
    # Caches are not shared between salts, and callers that give the same names mean different things by them.
    own = (request.caller, request.cache_salt)
    marks = [Mark(hash((own, "key", request.cache_key)), 0)] if request.cache_key else []
    marks += reversed(list(_beginnings(request)))
    if request.user:
        marks.append(Mark(hash((own, "user", request.user)), 0))
    return marks


def _beginnings(request: Request) -> Iterator[Mark]:
    seed = hash((request.cache_salt, tuple((tool.name, tool.description) for tool in request.tools)))
    prompt: str | tuple[int, ...]
    if request.prompts is not None:
        prompt = request.prompts[0] if request.prompts else ""
    else:
        prompt = "\0".join(texts_of(request))
    per_token = CHARACTERS_PER_TOKEN if isinstance(prompt, str) else 1
    num_tokens, since, key = FIRST_TOKENS, 0, seed
    for _ in range(MOST_MARKS):
        until = num_tokens * per_token
        if until > len(prompt):
            return
        key = hash((key, prompt[since:until]))
        yield Mark(key, num_tokens)
        num_tokens, since = 2 * num_tokens, until


class Affinity:
    """What was sent where, of all models. Forgets what has not been sent for longest."""

    def __init__(
        self, rng: random.Random, *, saturation_tokens: int = SATURATION_TOKENS, most_kept: int = MOST_KEPT
    ) -> None:
        self._rng = rng
        self._saturation_tokens = saturation_tokens
        self._most_kept = most_kept
        self._owners: dict[tuple[str, int], tuple[str, ...]] = {}

    def choose(self, options: Sequence[Option], marks: Sequence[Mark]) -> Choice:
        """Among replicas that are equally fit. The others follow by load."""
        by_load = sorted(options, key=_num_tokens)
        first = self._owner(by_load, marks)
        if first is None:
            first = by_load[min(self._rng.sample(range(len(by_load)), min(2, len(by_load))))]
        name = first.seat.provider.name
        cached = [mark.num_tokens for mark in marks if name in self._owners.get((first.seat.card.id, mark.key), ())]
        return Choice([first, *(option for option in by_load if option is not first)], max(cached, default=0))

    def _owner(self, by_load: Sequence[Option], marks: Sequence[Mark]) -> Option | None:
        """The least loaded of those that have the most telling mark; None where they are saturated."""
        for mark in marks:
            owners = self._owners.get((by_load[0].seat.card.id, mark.key), ())
            for option in by_load:
                if option.seat.provider.name in owners and not self._is_saturated(option):
                    return option
        return None

    def sent(self, model: str, provider: str, marks: Sequence[Mark]) -> None:
        """A prompt with these marks is on its way there."""
        for mark in marks:
            key = (model, mark.key)
            others = [owner for owner in self._owners.pop(key, ()) if owner != provider]
            self._owners[key] = (provider, *others[: MOST_OWNERS - 1])
        while len(self._owners) > self._most_kept:
            del self._owners[next(iter(self._owners))]

    def _is_saturated(self, option: Option) -> bool:
        load = option.track.load
        return load.has_queue or load.num_uncached > self._saturation_tokens


def _num_tokens(option: Option) -> float:
    """In flight there. Requests of others are taken to be as large as ours are."""
    load = option.track.load
    return load.num_tokens + load.num_others * (option.track.size.value or USUAL_OUTPUT)
