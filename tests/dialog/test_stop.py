"""Stop strings: every split of every text gives what a search of the whole text gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.stop import StopMatcher, StopStrings

ALPHABET = "ab€🙂\n"


def expected(text: str, stops: list[str], include_stop: bool) -> tuple[str, str | None]:
    """Searches every prefix of the whole text, shortest first, for the longest stop string that ends it."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return (text[:end] if include_stop else text[: end - len(longest)]), longest
    return text, None


def read(pieces: Iterable[str], stops: list[str], include_stop: bool = False) -> tuple[list[str], str | None]:
    matcher = StopMatcher(StopStrings(stops), include_stop=include_stop)
    shown = []
    for piece in pieces:
        shown.append(matcher.push(piece))
        if matcher.matched is not None:
            return shown, matcher.matched
    shown.append(matcher.flush())
    return shown, None


@st.composite
def split_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = draw(st.text(ALPHABET, max_size=24))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = [0, *cuts, len(text)]
    return text, [text[start:end] for start, end in itertools.pairwise(edges)]


@given(split_texts(), st.lists(st.text(ALPHABET, max_size=5), max_size=6), st.booleans())
def test_any_split_gives_what_the_whole_text_gives(
    split: tuple[str, list[str]], stops: list[str], include_stop: bool
) -> None:
    text, pieces = split
    shown, matched = read(pieces, stops, include_stop)
    assert ("".join(shown), matched) == expected(text, stops, include_stop)


@given(st.text(ALPHABET, max_size=20), st.lists(st.text(ALPHABET, min_size=1, max_size=5), min_size=1, max_size=5))
def test_holds_back_no_more_than_may_become_a_stop_string(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(StopStrings(stops))
    shown = ""
    for position, character in enumerate(text, start=1):
        shown += matcher.push(character)
        if matcher.matched is not None:
            return
        held = text[len(shown) : position]
        starts = [stop[:length] for stop in stops for length in range(len(stop))]
        longest = max((start for start in starts if text[:position].endswith(start)), key=len)
        assert held == longest


@pytest.mark.parametrize("position", range(0, 7))
@pytest.mark.parametrize("include_stop", [False, True])
def test_a_stop_string_at_every_position(position: int, include_stop: bool) -> None:
    text = "abcdef"[:position] + "STOP" + "abcdef"[position:]
    for cut in range(len(text) + 1):
        shown, matched = read([text[:cut], text[cut:]], ["STOP"], include_stop)
        assert matched == "STOP"
        assert "".join(shown) == "abcdef"[:position] + ("STOP" if include_stop else "")


def test_overlapping_strings_end_at_the_first_complete_one() -> None:
    assert read("xabcdy", ["abcd", "bc"]) == (["x", "", "", "a"], "bc")
    assert read(["xabcdy"], ["bcd", "abcd", "cd"])[1] == "abcd"


def test_a_false_start_is_released_as_soon_as_it_fails() -> None:
    assert read(["aa", "a", "b"], ["aab!"])[0] == ["", "a", "", "aab"]


def test_a_partial_match_at_the_end_is_flushed() -> None:
    assert read(["hello <|im_", "end"], ["<|im_end|>"]) == (["hello ", "", "<|im_end"], None)


def test_without_strings_everything_passes() -> None:
    assert read(["a", "", "b"], []) == (["a", "", "b", ""], None)
    assert read(["a"], [""]) == (["a", ""], None)


def test_hostile_repetition_costs_a_step_a_character() -> None:
    """16 strings of 2,000 equal characters that never quite match: quadratic work would not end."""
    stops = ["a" * 2000 + chr(0x100 + number) for number in range(16)]
    shown, matched = read(["a"] * 100_000, stops)
    assert matched is None
    assert sum(map(len, shown)) == 100_000
