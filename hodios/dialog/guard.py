"""Keeps what clients wrote from passing for a model's markup: a sign that no client used is put into their text before
a template sees it, wherever markup could begin, and is taken out again once the prompt is cut into tokens.

Knows markup as strings; which of them are tokens is for its maker to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

from hodios.errors import InvalidRequest
from hodios.types import Warning

_PRIVATE_USE = (range(0xF000, 0xF900), range(0xF0000, 0xFFFFE))
_VISIBLE_BREAK = " "
_PLACE = "\0"
"""Where the sign goes in patterns."""

Value = TypeVar("Value")


class Guard:
    """The markup of one model. Immutable."""

    def __init__(self, tokens: Iterable[str], texts: Iterable[str], *, contexts: Collection[str] = ()) -> None:
        """`tokens` are markup of one token each, `texts` markup that is plain text to the vocabulary.

        `contexts` are what a template writes right before what clients wrote: it may end in the beginning of markup.
        """
        self.tokens = frozenset(token for token in tokens if len(token) > 1)
        self.texts = frozenset(text for text in texts if len(text) > 1) - self.tokens
        begun: dict[str, set[str]] = {}
        for markup in self.tokens | self.texts:
            for cut in range(1, len(markup)):
                begun.setdefault(markup[:cut], set()).add(markup[cut:])
        ends = [context[start:] for context in contexts for start in range(len(context))]
        self._continuations = tuple({rest for end in ends for rest in begun.get(end, ())})
        """Ends of markup whose beginning stands in the template."""
        pivots: set[str] = set()
        wholes = []
        for markup in sorted(self.tokens | self.texts):
            pivot = next((character for character in markup[:-1] if _is_sign(character)), None)
            if pivot is None:
                wholes.append(markup)
            else:
                pivots.add(pivot)
        self._pivots = "[" + "".join(map(re.escape, sorted(pivots))) + "]" if pivots else "(?!)"
        self._wholes = re.compile(pattern_of(wholes))
        self._broken_texts = pattern_of(self.texts, between=f"{_PLACE}*")
        self._broken = pattern_of(self.texts | self.tokens, between=f"{_PLACE}*")

    def protect(self, value: Value, sentinel: str, *, allowed: Collection[str] = ()) -> Value:
        """`value` with every string in it made harmless, keys of objects too. Markup in `allowed` stays as it is."""
        pivots = re.compile(f"(?!{pattern_of(allowed)}){self._pivots}" if allowed else self._pivots)
        protected: Value = self._protect(value, sentinel, pivots)
        return protected

    def _protect(self, value: Any, sentinel: str, pivots: re.Pattern[str]) -> Any:
        match value:
            case str():
                return self._protect_text(value, sentinel, pivots)
            case dict():
                return {
                    self._protect(key, sentinel, pivots): self._protect(entry, sentinel, pivots)
                    for key, entry in value.items()
                }
            case list() | tuple():
                return [self._protect(entry, sentinel, pivots) for entry in value]
            case _:
                return value

    def _protect_text(self, text: str, sentinel: str, pivots: re.Pattern[str]) -> str:
        """The sign comes right after each character that markup begins with, so that no markup is found even where a
        template leaves out some of the text between."""
        is_continuation = any(text.startswith(end) or end.startswith(text) for end in self._continuations if text)
        text = self._wholes.sub(lambda found: found[0][:-1] + sentinel + found[0][-1], text)
        text = pivots.sub(rf"\g<0>{sentinel}", text)
        return sentinel + text if is_continuation else text

    def break_visibly(self, marked: str, sentinel: str, *, tokens: bool) -> tuple[str, int]:
        """`marked` without the sign, and how often clients wrote markup in it: there a space shows that it is none.

        Looks for markup that is text and, with `tokens`, for that of one token too.
        """
        if sentinel not in marked:
            return marked, 0
        broken = self._broken if tokens else self._broken_texts
        num_broken = 0

        def disarm(found: re.Match[str]) -> str:
            nonlocal num_broken
            text = found[0].replace(sentinel, "")
            if sentinel not in found[0].rstrip(sentinel):
                return text
            num_broken += 1
            return text[:-1] + _VISIBLE_BREAK + text[-1]

        text = re.sub(broken.replace(_PLACE, sentinel), disarm, marked).replace(sentinel, "")
        return text, num_broken


class Rendered:
    """A prompt as a template wrote it; it remembers what of it is a client's text."""

    def __init__(self, marked: str, sentinel: str, guard: Guard, *, opens_thought: str = "") -> None:
        """`marked` holds the `sentinel` where `guard` put it."""
        self.opens_thought = opens_thought
        """The name of the tag in which the answer begins, because the prompt has opened a thought; else ""."""
        self._marked = marked.replace(_escaped(sentinel), sentinel)
        self._sentinel = sentinel
        self._guard = guard

    @cached_property
    def text(self) -> str:
        """What the template would have written without any protection."""
        return self._marked.replace(self._sentinel, "")

    @property
    def num_altered(self) -> int:
        """How often clients wrote markup that the vocabulary has no token for, so that `pieces` had to alter it."""
        return self._guard.break_visibly(self._marked, self._sentinel, tokens=False)[1]

    def neutralised(self) -> tuple[str, int]:
        """For those to whom only text can be sent: the text, in which a space stands in every piece of markup that
        clients wrote, and how many these are."""
        return self._guard.break_visibly(self._marked, self._sentinel, tokens=True)

    def pieces(self, tokens: re.Pattern[str]) -> Iterator[tuple[str, bool]]:
        """The prompt in pieces: (text, whether it is one of `tokens` that the template wrote)."""
        start = 0
        for found in tokens.finditer(self._marked):
            yield self._plain(start, found.start()), False
            yield found[0], True
            start = found.end()
        yield self._plain(start, len(self._marked)), False

    def _plain(self, start: int, end: int) -> str:
        return self._guard.break_visibly(self._marked[start:end], self._sentinel, tokens=False)[0]


def neutralised_warning(num_altered: int) -> Warning:
    """For the client, whose text was altered in so many places."""
    message = f"in {num_altered} places the messages hold the model's own markup; a space in it shows that it is text"
    return Warning("messages", "neutralised_markup", message)


def choose_sentinel(values: Sequence[object]) -> str:
    """A character that occurs nowhere in `values`, neither as it is nor as JSON escapes it."""
    texts = list(_texts_of(values))
    used = {character for text in texts if not text.isascii() for character in set(text)}
    for codes in _PRIVATE_USE:
        for code in codes:
            if chr(code) not in used and not any(_escaped(chr(code)) in text for text in texts):
                return chr(code)
    raise InvalidRequest("the messages hold every private-use character there is", param="messages")


def pattern_of(texts: Iterable[str], *, between: str = "") -> str:
    """A regular expression that finds the longest of `texts` at the first place where any begins; the expression
    `between` may match between characters."""
    trie: dict[str, Any] = {}
    for text in texts:
        node = trie
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return _pattern(trie, between) if trie else "(?!)"


def _pattern(node: dict[str, Any], between: str) -> str:
    branches = []
    for character, inner in sorted(node.items(), reverse=True):
        rest = _pattern(inner, between) if inner and set(inner) != {""} else ""
        branches.append(re.escape(character) + (between + rest if rest else ""))
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _is_sign(character: str) -> bool:
    return not (character.isalnum() or character.isspace() or character == "_")


def _escaped(sentinel: str) -> str:
    return json.dumps(sentinel)[1:-1]


def _texts_of(values: Iterable[object]) -> Iterator[str]:
    waiting = list(values)
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as fields:
                waiting += fields
                waiting += fields.values()
            case list() | tuple() as entries:
                waiting += entries
