"""How good scores are, with intervals of 95 %. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from benchmarks.guard_data.examples import ALL, Example
from hodios.types import Category

_Z = 1.959964


class Share(Struct, frozen=True):
    """So many of so many, and where the true share lies with 95 % certainty (Wilson)."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return (0.0, 1.0)
        scale = 1 + _Z**2 / self.of
        centre = (self.value + _Z**2 / (2 * self.of)) / scale
        half = _Z / scale * math.sqrt(self.value * (1 - self.value) / self.of + _Z**2 / (4 * self.of**2))
        return (max(centre - half, 0.0), min(centre + half, 1.0))


class Area(Struct, frozen=True):
    """The area under the ROC curve, with DeLong's interval."""

    value: float
    interval: tuple[float, float]


class Figures(Struct, frozen=True):
    area: Area
    recall: Share
    precision: Share
    """Of what was flagged among everything that is known for the category, in the corpus' proportions."""
    benign: Share
    """What was flagged of texts that are certainly none of any category."""
    hard: Share
    """What was flagged of the hard negatives."""


def area(positive: Sequence[float], negative: Sequence[float]) -> Area:
    """How often a positive scores higher than a negative."""
    above, below = np.asarray(positive, float), np.asarray(negative, float)
    ranks = _ranks(np.concatenate([above, below]))
    num, others = len(above), len(below)
    by_positive = (ranks[:num] - _ranks(above)) / others
    by_negative = 1 - (ranks[num:] - _ranks(below)) / num
    value = float(by_positive.mean())
    spread = math.sqrt(float(by_positive.var(ddof=1)) / num + float(by_negative.var(ddof=1)) / others)
    return Area(value, (max(value - _Z * spread, 0.0), min(value + _Z * spread, 1.0)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the smallest; equal ones share the middle of their ranks."""
    ordered = np.sort(values)
    left, right = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((left + right + 1) / 2, float)


def figures(
    category: Category,
    threshold: float,
    held_out: Sequence[tuple[Example, Mapping[Category, float]]],
    hard: Sequence[tuple[Example, Mapping[Category, float]]],
) -> Figures:
    """Of scored examples. Hard negatives count for `hard` alone."""
    positive = [scores[category] for example, scores in held_out if category in example.positive]
    negative = [scores[category] for example, scores in held_out if category in example.negative]
    benign = [scores[category] for example, scores in held_out if example.negative == ALL]
    hits, false = _flagged(positive, threshold), _flagged(negative, threshold)
    return Figures(
        area=area(positive, negative),
        recall=Share(hits, len(positive)),
        precision=Share(hits, hits + false),
        benign=Share(_flagged(benign, threshold), len(benign)),
        hard=Share(_flagged([scores[category] for _, scores in hard], threshold), len(hard)),
    )


def _flagged(scores: Sequence[float], threshold: float) -> int:
    return sum(score >= threshold for score in scores)


LEAST_AREA: Mapping[Category, float] = {
    "hate": 0.90,
    "self_harm": 0.85,
    "sexual": 0.90,
    "violence": 0.85,
    "jailbreak": 0.90,
    "profanity": 0.90,
}
LEAST_RECALL, MOST_FALSE = 0.6, 0.02
LEAST_POSITIVES: Mapping[Category, int] = {category: 30 if category == "self_harm" else 200 for category in LEAST_AREA}


def failures(category: Category, found: Figures) -> Sequence[str]:
    """The bars that a category misses, as sentences."""
    missed = {
        f"AUC {found.area.value:.3f} is below {LEAST_AREA[category]}": found.area.value < LEAST_AREA[category],
        f"recall {found.recall.value:.3f} is below {LEAST_RECALL}": found.recall.value < LEAST_RECALL,
        f"{found.benign.value:.2%} of harmless texts are flagged": found.benign.value > MOST_FALSE,
        f"only {found.recall.of} positives": found.recall.of < LEAST_POSITIVES[category],
    }
    return [f"{category}: {sentence}" for sentence, is_missed in missed.items() if is_missed]
