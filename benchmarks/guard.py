"""Measures the embedded guard on texts that it was not trained on: how well it tells them apart, how many harmless ones
it flags, what spelling tricks achieve, and how fast it is.

Prints tables and the lines `RESULT name ratio`, of which more is better: AUC and recall ÷ their bar, the bar of false
positives ÷ theirs, 1 + the change of recall under a trick ÷ 0.9, 10 ms ÷ the time that 500 characters take.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import figures
from benchmarks.figures import Ratio, Samples
from benchmarks.guard_data import corpus, measure
from benchmarks.guard_data.evasion import TRICKS
from benchmarks.guard_data.examples import ALL, Example
from benchmarks.guard_data.measure import Area, Figures, Share
from hodios.guard.classifier import Classifier
from hodios.machine import cpu_model
from hodios.types import Category

Scored = Sequence[tuple[Example, Mapping[Category, float]]]
DOCUMENT = Path(__file__).parent.parent / "docs" / "safety.md"
MOST_LOST = 0.1
"""Recall that a spelling trick may cost."""
MOST_MS, LENGTH = 10.0, 500
NUM_ROUNDS = 10
"""How often the time of each text is taken: what else the machine does makes it longer, and never shorter."""
NUM_DISGUISED = 100
"""Positives of each category that tricks are played on."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="also write the tables into docs/safety.md")
    parser.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        help='texts of your own: JSON lines {"text": …, "source": …, "positive": ["hate"], "negative": ["sexual"]}',
    )
    options = parser.parse_args(arguments)
    classifier, texts, samples = Classifier(), corpus.load(), Samples()
    held_out, hard = scored(classifier, texts.held_out), scored(classifier, texts.hard_negatives)
    found = {name: measure.figures(name, at, held_out, hard) for name, at in sorted(classifier.thresholds.items())}
    lines = [*quality_table(found), "", *evasion_table(evasion(classifier, held_out), samples)]
    lines += ["", *speed_lines(classifier, texts.held_out, samples)]
    for path in options.also:
        lines += ["", f"{path.stem}:", "", *others_table(classifier, path)]
    print("\n".join(lines) + "\n")
    results = figures.results(samples, ratios(found, samples))
    print("\n".join([*figures.results_table(results), "", *figures.result_lines(results)]))
    if options.write:
        written = figures.replace_section(DOCUMENT.read_text(), "Measured", lines, by="benchmarks.guard")
        DOCUMENT.write_text(written)
    return 0


def scored(classifier: Classifier, examples: Sequence[Example]) -> Scored:
    return list(zip(examples, classifier.scores([example.text for example in examples]), strict=True))


def quality_table(found: Mapping[Category, Figures]) -> Sequence[str]:
    head = ["category", "positives", "AUC", "recall", "precision", "false positives", "of hard negatives"]
    rows = [
        [
            name.replace("_", "-"),
            str(one.recall.of),
            shown(one.area),
            shown(one.recall),
            shown(one.precision),
            shown(one.benign),
            shown(one.hard),
        ]
        for name, one in found.items()
    ]
    return figures.markdown_table([head, *rows])


def shown(figure: Area | Share) -> str:
    low, high = figure.interval
    if isinstance(figure, Area):
        return f"{figure.value:.3f} ({low:.3f}–{high:.3f})"
    return f"{figure.value:.1%} ({low:.1%}–{high:.1%})"


def evasion(
    classifier: Classifier, held_out: Scored, num: int = NUM_DISGUISED
) -> Mapping[str, Mapping[Category, tuple[Share, Share]]]:
    """For each trick and category the recall on the same `num` texts without and with it. Long texts are left out."""
    found: dict[str, dict[Category, tuple[Share, Share]]] = {name: {} for name in TRICKS}
    for category, threshold in sorted(classifier.thresholds.items()):
        positives = [one for one in held_out if category in one[0].positive and len(one[0].text) <= LENGTH]
        chosen = positives[:: max(len(positives) // num, 1)][:num]
        before = Share(sum(scores[category] >= threshold for _, scores in chosen), len(chosen))
        for name, trick in TRICKS.items():
            disguised = classifier.scores([trick(example.text) for example, _ in chosen])
            after = Share(sum(scores[category] >= threshold for scores in disguised), len(chosen))
            found[name][category] = (before, after)
    return found


def evasion_table(found: Mapping[str, Mapping[Category, tuple[Share, Share]]], samples: Samples) -> Sequence[str]:
    categories = sorted({category for each in found.values() for category in each})
    rows = [["trick", *(category.replace("_", "-") for category in categories)]]
    first = next(iter(found.values()))
    rows.append(["none", *(f"{first[category][0].value:.1%}" for category in categories)])
    for name, each in found.items():
        rows.append([name, *(f"{each[category][1].value:.1%}" for category in categories)])
        for before, after in each.values():
            samples.add(name, "kept", (1 + after.value - before.value) / (1 - MOST_LOST))
    return figures.markdown_table(rows)


def speed_lines(classifier: Classifier, examples: Sequence[Example], samples: Samples) -> Sequence[str]:
    prose = " ".join(example.text for example in examples if example.negative == ALL)
    texts = [prose[start : start + LENGTH] for start in range(0, 40 * LENGTH, LENGTH)]
    least_s = [math.inf] * len(texts)
    for _ in range(NUM_ROUNDS):
        for number, text in enumerate(texts):
            started_s = time.process_time()
            classifier.scores([text])
            least_s[number] = min(least_s[number], time.process_time() - started_s)
    for each in least_s:
        samples.add("speed", "ms", MOST_MS / (each * 1000))
    took_s = sum(least_s) / len(texts)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return [
        f"{LENGTH} characters take {took_s * 1000:.1f} ms of one core, so it reads {LENGTH / took_s:,.0f} characters "
        f"per second: the mean over {len(texts)} texts of the least of {NUM_ROUNDS} times each, on {cpu_model()}, load "
        f"average {load}."
    ]


def others_table(classifier: Classifier, path: Path) -> Sequence[str]:
    """What can be said of texts that somebody brings: categories without a positive or a negative are left out."""
    decoder = msgspec.json.Decoder(Example)
    found = scored(classifier, [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()])
    rows = [["category", "positives", "AUC", "recall", "false positives"]]
    for name, at in sorted(classifier.thresholds.items()):
        positive = [scores[name] for example, scores in found if name in example.positive]
        negative = [scores[name] for example, scores in found if name in example.negative]
        area = shown(measure.area(positive, negative)) if len(positive) > 1 and len(negative) > 1 else "–"
        shares = [Share(sum(score >= at for score in side), len(side)) for side in (positive, negative)]
        if positive or negative:
            rows.append(
                [name.replace("_", "-"), str(len(positive)), area, *(shown(s) if s.of else "–" for s in shares)]
            )
    return figures.markdown_table(rows)


def ratios(found: Mapping[Category, Figures], samples: Samples) -> Sequence[Ratio]:
    for name, one in found.items():
        samples.add(name, "auc", one.area.value / measure.LEAST_AREA[name])
        samples.add(name, "recall", one.recall.value / measure.LEAST_RECALL)
        samples.add(name, "benign", measure.MOST_FALSE / max(one.benign.value, 1 / one.benign.of))
    quality = [
        Ratio(f"guard-{name.replace('_', '-')}-{figure}", (name, figure), None, target=1.0)
        for name in found
        for figure in ("auc", "recall", "benign")
    ]
    tricks = [Ratio(f"guard-{name.replace(' ', '-')}", (name, "kept"), None, target=1.0) for name in TRICKS]
    return [*quality, *tricks, Ratio("guard-speed", ("speed", "ms"), None, target=1.0)]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
