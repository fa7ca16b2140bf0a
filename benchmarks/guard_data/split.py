"""Cuts a corpus into a half to train on and a half to measure with, so that texts much alike are in the same half."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.guard_data.examples import Example

_WORD = re.compile(r"[a-z0-9]+")
SHINGLE = 5
"""Words in a row that two texts must share to be compared at all."""
ALIKE = 0.2
"""Texts that share this part of the shorter one's shingles are never separated."""


def normalised(text: str) -> str:
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def halves(examples: Sequence[Example]) -> tuple[Sequence[Example], Sequence[Example]]:
    """(to train on, held out). Depends on the texts alone, not on their order."""
    trained: list[Example] = []
    held_out: list[Example] = []
    for group in groups(examples):
        name = min(normalised(example.text) for example in group)
        side = held_out if hashlib.sha256(name.encode()).digest()[0] & 1 else trained
        side.extend(group)
    return trained, held_out


def groups(examples: Sequence[Example]) -> Sequence[Sequence[Example]]:
    """The examples, those together that share a topic or much of their words."""
    shingles = [_shingles(normalised(example.text)) for example in examples]
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for one, other in _alike(shingles):
        parents[root(one)] = root(other)
    by_topic: dict[str, int] = {}
    for index, example in enumerate(examples):
        if example.topic:
            parents[root(index)] = root(by_topic.setdefault(example.topic, index))
    found: dict[int, list[Example]] = defaultdict(list)
    for index, example in enumerate(examples):
        found[root(index)].append(example)
    return list(found.values())


def unlike(examples: Sequence[Example], others: Sequence[Example], part: float = ALIKE) -> Sequence[Example]:
    """Those of the examples that share less than `part` of the shorter one's shingles with each of the others."""
    shingles = [_shingles(normalised(example.text)) for example in (*examples, *others)]
    border = len(examples)
    alike = {min(pair) for pair in _alike(shingles, part) if min(pair) < border <= max(pair)}
    return [example for index, example in enumerate(examples) if index not in alike]


def _shingles(text: str) -> frozenset[int]:
    words = text.split()
    starts = range(max(len(words) - SHINGLE + 1, 1))
    return frozenset(hash_of(" ".join(words[start : start + SHINGLE])) for start in starts)


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _alike(shingles: Sequence[frozenset[int]], part: float = ALIKE) -> Sequence[tuple[int, int]]:
    holders: dict[int, list[int]] = defaultdict(list)
    for index, own in enumerate(shingles):
        for shingle in own:
            holders[shingle].append(index)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for those in holders.values():
        # A phrase that hundreds share says nothing about any two of them.
        for position, one in enumerate(those if len(those) <= 200 else ()):
            for other in those[position + 1 :]:
                shared[one, other] += 1
    return [
        (one, other)
        for (one, other), count in shared.items()
        if count >= part * min(len(shingles[one]), len(shingles[other]))
    ]
