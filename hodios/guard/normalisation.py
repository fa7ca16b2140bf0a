"""Undoes spelling tricks, so that a text is judged by what a reader would read: look-alike and fullwidth letters,
invisible ones, letters apart, stretched words, digits for letters, base64. Of what no trick was played with, nothing
changes but accents. Takes time in proportion to the text; what comes out is at most 7 times as long."""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from hodios.guard.look_alikes import INVISIBLE, LOOK_ALIKES

_LEET = str.maketrans("0134567892@$!|+€£¢¥", "oieasgtbgzasiltelcy")
_OTHER_LEET = str.maketrans("0134567892@$!|+€£¢¥", "oleasbtbgzaslitelcy")
_TOKEN = re.compile(r"[\w@$!|+*#€£¢¥]+")
_LETTERS_APART = re.compile(r"(?<![^\W_])[^\W_]([ .\-_*+|/~•·,])[^\W_](?:\1(?:[^\W_]|['’]))+(?![^\W_])")
_TWO_APART = re.compile(r"(?:(?<=\s\s)|^)([^\W\d_]) ([^\W\d_])(?=\s\s|\s?[^\w\s]|$)")
_RUN = re.compile(r"([^\W\d_])\1+")
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)*[A-Za-z0-9+/_-]{16,}={0,2}")
_NESTED = 2
"""How often base64 within base64 is opened."""
_PROSE = 0.6
"""The part of a readable text that is letters."""
_LONGEST_WORD = 24
_LONGEST_TRICK = 96
"""Characters of a word that is looked at closely; longer ones are no words."""
_PROOF = 2
"""Words with a trick from which on a text is taken to be full of it."""
_COMMON = 400
"""Rank up to which words of one or two letters are believed in such a text."""
_LONGEST_SPELLED = 200
"""Letters apart that are cut into words; longer ones are left as they are."""


class Normaliser:
    """Knows which words there are, so that `l10n` and `mp3` stay what they are while `k1ll` does not."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words`: lower case, the most frequent first."""
        self._ranks: Mapping[str, int] = {word: rank for rank, word in reversed(list(enumerate(words, 1)))}

    def readings(self, text: str) -> Sequence[str]:
        """The text as it is meant, with what was base64 in it, and then that once more by itself: so nothing around it
        can make it look harmless."""
        hidden: list[str] = []
        for _ in range(_NESTED):
            text, found = _with_base64_open(text)
            hidden = found or hidden
        plain = self.plain(text)
        return (plain, self.plain("\n".join(hidden))) if hidden else (plain,)

    def plain(self, text: str) -> str:
        """The text as it is meant, base64 apart."""
        text = _folded(text)
        text = self._with_letters_joined(text)
        tricks = [0]
        usual = _TOKEN.sub(lambda found: self._counted(found[0], tricks), text)
        # Somebody who writes digits for letters does so in short words as well, and in words that nobody knows.
        return usual if tricks[0] < _PROOF else _TOKEN.sub(lambda found: self._meant(found[0]), text)

    def _with_letters_joined(self, text: str) -> str:
        joined, num = _LETTERS_APART.subn(lambda found: self._joined(found[0]), text)
        if num < _PROOF or joined == text:
            return joined
        joined = _LETTERS_APART.sub(lambda found: found[0][::2], joined)
        return _TWO_APART.sub(r"\1\2", joined)

    def _joined(self, spelled: str) -> str:
        letters = spelled.lower()[::2]
        if sum(letter.isalpha() for letter in letters) < 3:
            return spelled
        for reading in dict.fromkeys((letters, letters.translate(_LEET), letters.translate(_OTHER_LEET))):
            if re.split("['’]", reading)[0] in self._ranks:
                return reading
            words = self._cut(reading)
            if words:
                return " ".join(words)
        return spelled

    def _cut(self, letters: str) -> Sequence[str]:
        """The likeliest words that make up `letters`; nothing if they do not, or only if one takes scraps for words."""
        if len(letters) > _LONGEST_SPELLED:
            return ()
        costs, starts = [0.0], [0]
        for end in range(1, len(letters) + 1):
            best, start = math.inf, end
            for begin in range(max(0, end - _LONGEST_WORD), end):
                rank = self._ranks.get(letters[begin:end])
                if rank and costs[begin] + math.log(rank) + 2 < best and (end - begin > 1 or letters[begin] in "ai"):
                    best, start = costs[begin] + math.log(rank) + 2, begin
            costs.append(best)
            starts.append(start)
        if costs[-1] == math.inf:
            return ()
        words: list[str] = []
        end = len(letters)
        while end:
            words.append(letters[starts[end] : end])
            end = starts[end]
        return words[::-1] if len(letters) >= 3 * len(words) else ()

    def _counted(self, token: str, tricks: list[int]) -> str:
        meant = self._word(token)
        tricks[0] += meant != token and not token.isalpha()
        return meant

    def _meant(self, token: str) -> str:
        """A word of a text that is written in digits and signs."""
        known = self._word(token)
        if known != token or len(token) > _LONGEST_WORD or token.isalpha():
            return known
        letters = token.lower().translate(_LEET)
        is_word = self._ranks.get(letters, math.inf) <= _COMMON if len(letters) < 3 else True
        return letters if letters.isalpha() and is_word and (any(map(str.isalpha, token)) or len(token) < 3) else token

    def _word(self, token: str) -> str:
        if len(token) > _LONGEST_TRICK or token.lower() in self._ranks or not any(map(str.isalpha, token)):
            return token
        bare = token.strip("!|+*#@$")
        if bare.lower() in self._ranks:
            return token
        for reading in _readings(bare, token):
            if reading in self._ranks:
                return reading
        return _STRETCHED.sub(r"\1", token) if token.isalpha() else token


def _readings(bare: str, token: str) -> Iterator[str]:
    """What a word may be meant to be, the likeliest first: a few dozen at most."""
    # A capital I in the middle of a word is a small l.
    for spelling in dict.fromkeys((bare.lower(), token.lower(), bare.replace("I", "l").lower())):
        for unmasked in (spelling, _latin(spelling)):
            for table in ({}, _LEET, _OTHER_LEET):
                reading = unmasked.translate(table)
                if len(reading) > 2 and reading.isalpha():
                    yield from _shortened(reading)


def _shortened(word: str) -> Iterator[str]:
    """The word, and it with letters once or twice where they stand several times."""
    yield word
    runs = list(_RUN.finditer(word))
    if 0 < len(runs) <= 3:
        for lengths in itertools.product((2, 1), repeat=len(runs)):
            sizes = iter(lengths)
            yield _RUN.sub(lambda run: run[0][: next(sizes)], word)  # noqa: B023 - used up before the next round


def _latin(word: str) -> str:
    return word if word.isascii() else word.translate(LOOK_ALIKES)


def _folded(text: str) -> str:
    if text.isascii():
        return text
    shown = unicodedata.normalize("NFKD", text.translate(INVISIBLE))
    kept = [char for char in shown if unicodedata.category(char) not in ("Mn", "Me", "Cf")]
    return _TOKEN.sub(lambda found: _if_mixed(found[0]), "".join(kept))


def _if_mixed(token: str) -> str:
    """Look-alikes among Latin letters are a trick; a word in another script is a word."""
    if token.isascii() or not any("a" <= char.lower() <= "z" for char in token):
        return token
    return token.translate(LOOK_ALIKES)


def _with_base64_open(text: str) -> tuple[str, list[str]]:
    """(the text with what it hides in place of what hides it, what it hides)."""
    found: list[str] = []
    return _BASE64.sub(lambda run: _opened(run[0], found), text), found


def _opened(run: str, found: list[str]) -> str:
    """What `run` says if it is base64 of readable text, which `found` gets too, and else `run`."""
    packed = "".join(run.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        text = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return run
    letters = sum(char.isalpha() for char in text)
    if letters < _PROSE * len(text) or not all(char.isprintable() or char.isspace() for char in text):
        return run
    found.append(text)
    return f" {text} "
