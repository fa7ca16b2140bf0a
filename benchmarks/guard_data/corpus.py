"""The whole corpus of the embedded guard: what it is trained on, and what it is measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.guard_data import sources, split
from benchmarks.guard_data.examples import ALL, Example, benign, merged
from hodios.types import Category

REPOSITORY = Path(__file__).parent.parent.parent
HARD_NEGATIVES = Path(__file__).parent / "hard_negatives.txt"
WRITTEN = REPOSITORY / "scripts" / "guard_training"
_KINDS: tuple[Category, ...] = ("hate", "self_harm", "sexual", "violence", "jailbreak")


class Corpus(Struct, frozen=True):
    trained: Sequence[Sequence[Example]]
    """To train on, in groups of texts much alike."""
    held_out: Sequence[Example]
    hard_negatives: Sequence[Example]


def load() -> Corpus:
    """Fetches what is not there yet. What was written for training and is much like something held out is left out."""
    trained, held_out = split.halves(merged(sources.everything()))
    own = split.unlike(list(written()), held_out)
    groups = split.groups(merged([*trained, *own]))
    return Corpus(trained=groups, held_out=held_out, hard_negatives=hard_negatives())


def hard_negatives() -> Sequence[Example]:
    found: list[Example] = []
    source = ""
    for line in HARD_NEGATIVES.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            source = f"hard/{line[3:]}"
        elif line and not line.startswith("#"):
            found += benign([line], source)
    return found


def written() -> Iterator[Example]:
    """What was written by hand to train on."""
    for name in ("harmless", "refusals"):
        yield from benign(_lines(name), f"written/{name}")
    for kind in _KINDS:
        # Threats may be hateful and the other way round: what is not certain is left open.
        known = ALL if kind in ("sexual", "jailbreak") else ALL - {"hate", "violence"}
        for line in _lines(kind):
            own = frozenset[Category]({kind})
            yield Example(text=line, source=f"written/{kind}", positive=own, negative=known - own)


def _lines(name: str) -> Sequence[str]:
    lines = (WRITTEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
