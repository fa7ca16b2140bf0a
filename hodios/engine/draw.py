"""The sampling state of one continuation: what it has seen, what it may not say, its randomness. Sees no logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hodios.engine.grammar import Constraint
from hodios.engine.opening import Opening
from hodios.errors import InvalidRequest
from hodios.types import Sampling

_BAN = -100.0
_SELECT = 100.0
_UNIFORMS_AT_ONCE = 64
_SEED_MASK = (1 << 64) - 1


class TokenCounts:
    """How often each token occurred, kept as two parallel arrays of the distinct tokens so that updates stay sparse."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self._ids, self._counts = np.unique(np.fromiter(tokens, np.int64), return_counts=True)
        self._slots = {token: slot for slot, token in enumerate(self._ids.tolist())}

    def add(self, token: int) -> None:
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            room = max(64, slot)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, np.int64)])
        self._ids[slot] = token
        self._counts[slot] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """[distinct] the tokens, in no particular order."""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> NDArray[np.int64]:
        """[distinct] how often each of `ids` occurred."""
        return self._counts[: len(self._slots)]


class Draw:
    """One continuation as the sampler sees it. `accept` every token that was chosen, in order.

    `rng` is used where `sampling.seed` is None. A seed gives the continuation a Philox generator of its own, keyed by
    (seed mod 2^64, index), whose n-th number decides the n-th token: the same alone, in a crowd, and when asked twice.
    Raises InvalidRequest for a token id outside the vocabulary.
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        prompt: Sequence[int],
        eos_ids: Sequence[int],
        vocab_size: int,
        index: int,
        rng: np.random.Generator,
        matcher: Constraint | None,
        num_begun: int = 0,
    ) -> None:
        """So many of the prompt's last tokens, `num_begun`, count as output; `matcher` has them behind it."""
        self.sampling = sampling
        self.matcher = matcher
        self.num_generated = 0
        self.greedy = not sampling.temperature > 0.0
        self._rng = rng
        self._seeded: np.random.Generator | None = None
        self._uniforms: list[float] = []
        if sampling.seed is not None:
            key = np.array([sampling.seed & _SEED_MASK, index], np.uint64)
            self._seeded = np.random.Generator(np.random.Philox(key=key))
        self._set_biases(vocab_size)
        self._ends = _ids_within([*eos_ids, *sampling.stop_token_ids], vocab_size)
        self._forbidden = {waits: self._forbidden_always(vocab_size, waits) for waits in (False, True)}
        self._set_counts(prompt, vocab_size, num_begun)
        is_moved = self.seen is not None or self.output is not None or self.biased_ids.size
        self._is_simple = self.greedy and not is_moved and sampling.logprobs is None

    def _set_biases(self, vocab_size: int) -> None:
        biases = dict(self.sampling.logit_bias)
        for token in biases:
            if not 0 <= token < vocab_size:
                raise InvalidRequest(
                    f"logit_bias names token {token!r}, outside the vocabulary of {vocab_size}.", param="logit_bias"
                )
        self._banned = np.array([token for token, bias in biases.items() if bias <= _BAN], np.int64)
        self._selected = np.array([token for token, bias in biases.items() if bias >= _SELECT], np.int64)
        # Selected tokens only compete with each other, and adding 100 would cost them digits.
        moves = {token: bias - _SELECT if bias >= _SELECT else bias for token, bias in biases.items() if bias > _BAN}
        added = {token: move for token, move in moves.items() if move != 0.0}
        self.biased_ids = np.array(list(added), np.int64)
        """[biased] the tokens whose logits are moved."""
        self.biases = np.array(list(added.values()), np.float32)
        """[biased] by how much; of selected tokens what exceeds the least such bias."""

    def _set_counts(self, prompt: Sequence[int], vocab_size: int, num_begun: int) -> None:
        sampling = self.sampling
        self.seen: TokenCounts | None = None
        """Prompt and output, where the repetition penalty is on."""
        self.output: TokenCounts | None = None
        """Output alone, where the frequency or presence penalty is on."""
        if sampling.repetition_penalty != 1.0:
            self.seen = TokenCounts(prompt)
            if np.any((self.seen.ids < 0) | (self.seen.ids >= vocab_size)):
                raise InvalidRequest(f"The prompt has tokens outside the vocabulary of {vocab_size}.", param="prompt")
        if sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0:
            self.output = TokenCounts(prompt[len(prompt) - num_begun :])

    def _forbidden_always(self, vocab_size: int, waits: bool) -> NDArray[np.int64]:
        if not self._is_narrowing(waits):
            return np.empty(0, np.int64)
        allowed = np.ones(vocab_size, np.bool_)
        self._narrow(allowed, waits)
        return np.flatnonzero(~allowed)

    def _narrow(self, allowed: NDArray[np.bool_], waits: bool) -> None:
        selected = self._selected[allowed[self._selected]]
        if selected.size:
            allowed[:] = False
            allowed[selected] = True
        for refused in (self._banned, self._ends if waits else self._ends[:0]):
            before = allowed[refused]
            allowed[refused] = False
            if not allowed.any():
                allowed[refused] = before

    @property
    def takes_peak(self) -> bool:
        """Whether it takes the largest of the model's own logits, at most under a grammar, and tells no more of it."""
        return self._is_simple and (self.matcher is not None or not self.forbidden.size)

    @property
    def waits(self) -> bool:
        """Whether the answer is still shorter than `min_tokens`, so that it may not end."""
        return self.num_generated < self.sampling.min_tokens

    @property
    def forbidden(self) -> NDArray[np.int64]:
        """The tokens refused now by bias and `min_tokens`, for a continuation without a grammar."""
        return self._forbidden[self.waits]

    @property
    def is_narrowing(self) -> bool:
        """Whether bias or `min_tokens` refuse anything now."""
        return self._is_narrowing(self.waits)

    def _is_narrowing(self, waits: bool) -> bool:
        return bool(self._selected.size or self._banned.size or (waits and self._ends.size))

    def narrow(self, allowed: NDArray[np.bool_]) -> None:
        """Apply bias and `min_tokens` to `allowed` [V], what a grammar allows. What would leave no token is ignored."""
        self._narrow(allowed, self.waits)

    def uniform(self) -> float:
        """The number in [0, 1) that decides the next token."""
        if self._seeded is None:
            return float(self._rng.random())
        while len(self._uniforms) <= self.num_generated:
            self._uniforms.extend(self._seeded.random(_UNIFORMS_AT_ONCE).tolist())
        return self._uniforms[self.num_generated]

    def accept(self, token: int) -> None:
        """Take note that `token` was chosen. Raises GrammarFailure if the grammar does not allow it."""
        self.num_generated += 1
        if self.seen is not None:
            self.seen.add(token)
        if self.output is not None:
            self.output.add(token)
        if self.matcher is not None:
            self.matcher.accept(token)
            if isinstance(self.matcher, Opening) and self.matcher.is_over:
                self.matcher = self.matcher.inner


def _ids_within(tokens: Iterable[int], vocab_size: int) -> NDArray[np.int64]:
    return np.array(sorted({token for token in tokens if 0 <= token < vocab_size}), np.int64)
