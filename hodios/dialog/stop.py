"""Finds stop strings in text that arrives in pieces, and holds back only what may become one.

Knows no tokens and no engine; how the text is split never changes what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class StopStrings:
    """The strings of one request as an automaton (Aho and Corasick, 1975), shared by all matchers of that request.

    The depth of a state is the length of the longest end of the text that begins some stop string: exactly what must be
    held back. Empty strings are ignored. Building costs the total length of the strings, reading O(1) a character.
    """

    __slots__ = ("depths", "edges", "fallbacks", "first_characters", "matches")

    def __init__(self, strings: Sequence[str]) -> None:
        self.edges: list[dict[str, int]] = [{}]
        self.fallbacks: list[int] = [0]
        self.depths: list[int] = [0]
        self.matches: list[str | None] = [None]
        """The longest stop string that ends in a state."""
        for string in strings:
            if string:
                self._add(string)
        self._link()
        self.first_characters = frozenset(self.edges[0])

    def _add(self, string: str) -> None:
        state = 0
        for depth, character in enumerate(string, start=1):
            following = self.edges[state].get(character)
            if following is None:
                following = len(self.edges)
                self.edges[state][character] = following
                self.edges.append({})
                self.fallbacks.append(0)
                self.depths.append(depth)
                self.matches.append(None)
            state = following
        self.matches[state] = string

    def _link(self) -> None:
        breadth_first = deque(self.edges[0].values())
        while breadth_first:
            state = breadth_first.popleft()
            for character, following in self.edges[state].items():
                self.fallbacks[following] = self.step(self.fallbacks[state], character)
                breadth_first.append(following)
            if self.matches[state] is None:
                self.matches[state] = self.matches[self.fallbacks[state]]

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        following = self.edges[state].get(character)
        while following is None:
            if not state:
                return 0
            state = self.fallbacks[state]
            following = self.edges[state].get(character)
        return following


class StopMatcher:
    """Reads one answer. After a match `matched` is set and the answer is over: nothing more may be pushed.

    The match is the one that is complete first; of several that end with the same character, the longest.
    """

    __slots__ = ("_held", "_include_stop", "_state", "_strings", "matched")

    def __init__(self, strings: StopStrings, *, include_stop: bool = False) -> None:
        self._strings = strings
        self._include_stop = include_stop
        self._held = ""
        self._state = 0
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """What may be shown now: the text up to a possible stop string; or, on a match, the last text of the answer."""
        strings = self._strings
        state = self._state
        if not state and strings.first_characters.isdisjoint(text):
            return text
        step, matches = strings.step, strings.matches
        for position, character in enumerate(text, start=1):
            state = step(state, character)
            matched = matches[state]
            if matched is not None:
                return self._end(self._held + text[:position], matched)
        self._state = state
        held = self._held + text
        num_shown = len(held) - strings.depths[state]
        self._held = held[num_shown:]
        return held[:num_shown]

    def _end(self, text: str, matched: str) -> str:
        self.matched = matched
        self._held = ""
        return text if self._include_stop else text[: len(text) - len(matched)]

    def flush(self) -> str:
        """What was held back, once the answer has ended without a match."""
        held, self._held, self._state = self._held, "", 0
        return held
