"""The distribution of one row as the documentation words it: float64, one token after another, nothing clever."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from hodios.types import Sampling


class CloseCall(Exception):
    """A cut falls so near a boundary that float32 may rightly decide either way."""


def moved_logits(logits: NDArray[np.float32], sampling: Sampling, prompt: Sequence[int], output: Sequence[int]):
    moved = [float(logit) for logit in logits]
    for token in set(prompt) | set(output):
        penalty = sampling.repetition_penalty
        moved[token] = moved[token] / penalty if moved[token] > 0 else moved[token] * penalty
    for token, count in Counter(output).items():
        moved[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    for token, bias in dict(sampling.logit_bias).items():
        moved[token] += bias
    return moved


def permitted(
    size: int, sampling: Sampling, output: Sequence[int], ends: Collection[int], grammar: Collection[int] | None
) -> set[int]:
    left = set(range(size)) if grammar is None else set(grammar)
    biases = dict(sampling.logit_bias)
    selected = {token for token, bias in biases.items() if bias >= 100}
    banned = {token for token, bias in biases.items() if bias <= -100}
    left = left & selected or left
    left = left - banned or left
    if len(output) < sampling.min_tokens:
        left = left - set(ends) - set(sampling.stop_token_ids) or left
    return left


def distribution(
    logits: NDArray[np.float32],
    sampling: Sampling,
    *,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
    ends: Collection[int] = (),
    grammar: Collection[int] | None = None,
) -> NDArray[np.float64]:
    """[V] probabilities; raises CloseCall."""
    moved = moved_logits(logits, sampling, prompt, output)
    left = sorted(permitted(len(moved), sampling, output, ends, grammar), key=lambda token: (-moved[token], token))
    if not sampling.temperature > 0:
        check_gap(moved, left, 1)
        left = left[:1]
    elif 0 < sampling.top_k < len(left):
        check_gap(moved, left, sampling.top_k)
        left = left[: sampling.top_k]
    temperature = sampling.temperature if sampling.temperature > 0 else 1.0
    weights = {token: math.exp((moved[token] - moved[left[0]]) / temperature) for token in left}
    if sampling.temperature > 0:
        left = cut_share(left, weights, moved, sampling.top_p)
        left = cut_floor(left, weights, sampling.min_p)
    total = math.fsum(weights[token] for token in left)
    answer = np.zeros(len(moved))
    for token in left:
        answer[token] = weights[token] / total
    return answer


def cut_share(left: list[int], weights: dict[int, float], moved: list[float], share: float) -> list[int]:
    if share >= 1:
        return left
    total = math.fsum(weights.values())
    reached = 0.0
    for place, token in enumerate(left):
        reached += weights[token] / total
        if abs(reached - share) < 2e-6:
            raise CloseCall
        if reached >= share:
            check_gap(moved, left, place + 1)
            return left[: place + 1]
    return left


def cut_floor(left: list[int], weights: dict[int, float], floor: float) -> list[int]:
    if any(floor > 0 and abs(weights[token] - floor) < 2e-6 * floor and weights[token] != 1 for token in left):
        raise CloseCall
    return [token for token in left if weights[token] >= floor]


def check_gap(moved: list[float], left: list[int], count: int) -> None:
    """Logits that differ by no more than float32's rounding may change places; truly equal ones may not."""
    if count < len(left):
        above, below = moved[left[count - 1]], moved[left[count]]
        if 0 < above - below < 3e-6 * (1 + abs(above)):
            raise CloseCall
