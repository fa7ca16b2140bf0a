"""Orders to the model in texts that no user wrote, such as results of tools: found by rules.

Rules see what such orders usually say. Orders in other words they do not see, and a text that only quotes an order they
take for one: good for a note, and never a reason to refuse.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import time
import unicodedata
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence

from hodios.errors import GuardDown
from hodios.guard.base import Assessment, Category, Passage, Side
from hodios.guard.injection_rules import RULES, Rule
from hodios.guard.look_alikes import INVISIBLE, LOOK_ALIKES

INDIRECT_INJECTION = "indirect_injection"
"""That a text which no user wrote gives the model orders."""
_SPAN = 240
"""Characters around a sign in which its rule looks."""
_STRETCH = 4096
"""Characters that are looked through at once, each with `_SPAN` of the one before."""
_HIDDEN = 0.7
"""The weight of letters that only a model sees."""
_SHIFT = 0xE0000
"""Tag characters are ASCII moved up by so much; people do not see them, and models read them."""
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_FORMAT = re.compile(r"[\u00ad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
"""What only says how others are written."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,}")
_PERCENT = re.compile(r"(?:[\w.]*%[0-9a-fA-F]{2}){3,}[\w.%-]*")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){8,}")


class InjectionRules:
    """Gives way to others between any two rules."""

    name = "injection_rules"
    version = hashlib.sha256(repr(RULES).encode()).hexdigest()[:12]
    sides: frozenset[Side] = frozenset({"document"})
    categories: frozenset[Category] = frozenset()

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`."""
        until_s = time.monotonic() + budget_s
        assessments = []
        for passage in passages:
            found: dict[str, float] = {}
            for name, weight in _signs(passage.text):
                found[name] = max(weight, found.get(name, 0.0))
                await asyncio.sleep(0)
                if time.monotonic() > until_s:
                    raise GuardDown(f"injection_rules: {len(passages)} texts took longer than {budget_s:g} s")
            assessments.append(Assessment(scores={}, further={INDIRECT_INJECTION: _score(found)}))
        return assessments

    async def aclose(self) -> None:
        """Nothing is held."""


def injection_score(text: str) -> float:
    """0…1: how much of the text reads like orders to a model."""
    found: dict[str, float] = {}
    for name, weight in _signs(text):
        found[name] = max(weight, found.get(name, 0.0))
    return _score(found)


def _score(found: Mapping[str, float]) -> float:
    """As signs that are independent of each other."""
    doubt = 1.0
    for weight in found.values():
        doubt *= 1.0 - weight
    return 1.0 - doubt


def _signs(text: str) -> Iterator[tuple[str, float]]:
    """(name, weight) of each rule that was tried; the weight is 0 where it does not apply."""
    if _TAGS.search(text):
        yield "hidden", _HIDDEN
    for start in range(0, max(len(text), 1), _STRETCH):
        part = text[max(0, start - _SPAN) : start + _STRETCH]
        for reading in _readings(part):
            for rule in RULES:
                yield rule.name, rule.weight if _applies(rule, reading) else 0.0


def _applies(rule: Rule, plain: str) -> bool:
    for sign in rule.signs:
        start = plain.find(sign)
        while start >= 0:
            if rule.pattern.search(plain, max(0, start - _SPAN), start + _SPAN):
                return True
            start = plain.find(sign, start + _SPAN)
    return False


def _readings(text: str) -> Iterator[str]:
    """The text as people read it, and what may be hidden in it."""
    yield _plain(text)
    for hidden in _decoded(text):
        yield _plain(hidden)


def _plain(text: str) -> str:
    """Lower case, letters that only look like others as those, nothing invisible, and runs of blanks as one space."""
    if not text.isascii():
        shown = _FORMAT.sub("", text.translate(INVISIBLE))
        text = unicodedata.normalize("NFKC", shown).translate(LOOK_ALIKES)
    return re.sub(r"[^\S\n]+", " ", text.lower())


def _decoded(text: str) -> Iterator[str]:
    for run in _TAGS.findall(text):
        yield "".join(chr(ord(letter) - _SHIFT) for letter in run)
    for run in _BASE64.findall(text):
        plain = run.rstrip("=").translate(_URL_SAFE)
        try:
            yield base64.b64decode(plain + "=" * (-len(plain) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    for run in _HEX.findall(text):
        yield bytes.fromhex(run).decode(errors="replace")
    for run in _PERCENT.findall(text):
        yield urllib.parse.unquote(run)
    for run in _ESCAPES.findall(text):
        yield "".join(chr(int(code, 16)) for code in run.split("\\u")[1:])


_URL_SAFE = str.maketrans("-_", "+/")
