"""Bad words by their lists: whole words, as `normalisation` reads them. Knows no sentences: that the encoder judges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

KINDS = ("sexual", "racial", "gender", "excrement", "other")
NUM_FEATURES = len(KINDS) + 2
_WORD = re.compile(r"[a-z]+(?:[*#%]+[a-z]+)+|[a-z]+\*{2,}|[a-z]+(?:['’][a-z]+)?")
_MASK = frozenset("*#%")
_LONGEST_PHRASE = 4
"""Words in the longest entry that is looked for."""
_STEMS = ("fuck", "motherfuck", "nigger", "cocksuck", "asshole", "bullshit", "faggot", "cunt")
"""What no innocent English word begins with, so that their compounds count as well."""
HARMLESS = re.compile(
    r"\b(?:moby[ -]dick|dick (?:van|tracy|cheney|clark|turpin|grayson|whittington|durbin|francis)"
    r"|(?:philip k|andy|tom) dick"
    r"|(?:puss|pussy)[ -]?(?:in boots|willows?|cats?)|tit[ -]for[ -]tat|(?:blue|great|coal|marsh|willow) tits?"
    r"|cock[ -]a[ -](?:doodle|leekie|hoop)|cock (?:robin|pheasant)s?|homo (?:sapiens|erectus|habilis|economicus)"
    r"|jack ?ass(?:es)? (?:penguin|kookaburra)s?|bastard (?:sword|file|operator)s?|scunthorpe|penistone|lightwater"
    r"|spotted dick|bitch(?:es)? brew|white[ -]cockade)\b"
)
"""What is written like a bad word and is none: names, birds, dishes."""


class Hit(Struct, frozen=True):
    word: str
    severity: float
    """1 (mild) to 3 (severe)."""
    kind: str


class Words:
    """A list of bad words. Not changed by use."""

    def __init__(self, entries: Iterable[Hit]) -> None:
        self._entries: Mapping[str, Hit] = {hit.word: hit for hit in entries}
        masked: dict[tuple[str, int], list[str]] = {}
        for word, hit in self._entries.items():
            if " " not in word and hit.severity >= 1.2:
                masked.setdefault((word[0], len(word)), []).append(word)
        self._by_shape: Mapping[tuple[str, int], Sequence[str]] = masked
        self._openings = frozenset(word.split(" ", 1)[0] for word in self._entries if " " in word)
        """Words that phrases begin with."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def hits(self, plain: str) -> Sequence[Hit]:
        """What is found in a text that `Normaliser.plain` made, longest phrases first where several fit."""
        words = _WORD.findall(HARMLESS.sub(" ", plain.lower()))
        found: list[Hit] = []
        start = 0
        while start < len(words):
            longest = _LONGEST_PHRASE if words[start] in self._openings else 1
            for size in range(longest, 0, -1):
                hit = self._hit(words[start : start + size])
                if hit is not None:
                    found.append(hit)
                    start += size
                    break
            else:
                start += 1
        return found

    def profanity(self, plain: str) -> float:
        """0 if there is none, else more than 0.5 and the nearer to 1 the worse the worst word is."""
        worst = max((hit.severity for hit in self.hits(plain)), default=0.0)
        return 0.5 + worst / 6 if worst else 0.0

    def features(self, plain: str) -> NDArray[np.float32]:
        """float32[NUM_FEATURES]: the worst severity of each kind, 0…1, how many there are, and their part of it all."""
        hits = self.hits(plain)
        worst = [max((hit.severity / 3 for hit in hits if hit.kind == kind), default=0.0) for kind in KINDS]
        part = len(hits) / max(len(plain.split()), 1)
        return np.array([*worst, math.log1p(len(hits)) / 3, min(part, 1.0)], np.float32)

    def _hit(self, words: Sequence[str]) -> Hit | None:
        phrase = " ".join(words)
        if (known := self._entries.get(phrase)) or len(words) != 1:
            return known
        if phrase.endswith(("'s", "’s")):
            return self._entries.get(phrase[:-2])
        if not phrase.isalpha() and not _MASK.isdisjoint(phrase):
            return self._unmasked(phrase)
        if not phrase.startswith(_STEMS):
            return None
        return self._entries.get(next(stem for stem in _STEMS if phrase.startswith(stem)))

    def _unmasked(self, word: str) -> Hit | None:
        """`f**k` and the like: the same first letter, the same length, and every letter that is shown."""
        shown = sum(char not in _MASK for char in word)
        if shown < len(word) / 2 and not re.fullmatch(r"[a-z]\*{3,4}", word):
            return None
        for known in self._by_shape.get((word[0], len(word)), ()):
            if all(shown in (meant, *_MASK) for shown, meant in zip(word, known, strict=True)):
                return self._entries[known]
        return None


def read(path: Path) -> Words:
    """From lines `word⇥severity⇥kind`."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return Words(Hit(word, float(severity), kind) for word, severity, kind in rows)
