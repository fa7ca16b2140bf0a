"""Tags in text: every cut gives what a search of the whole text gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.splitter import Splitter, Tags

TAGS = ("<a>", "</a>", "<ab", "<<|", "éé")


def expected(text: str) -> list[str]:
    """Texts and tags in turn; of tags that end together the longest, of others the first to end."""
    found, start, position = [], 0, 0
    while position < len(text):
        position += 1
        ended = [tag for tag in TAGS if text[start:position].endswith(tag)]
        if ended:
            tag = max(ended, key=len)
            found += [text[start : position - len(tag)], tag]
            start = position
    return [*found, text[start:]]


def read(chunks: Iterable[str]) -> list[str]:
    splitter, found, shown = Splitter(Tags(TAGS)), [], ""
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            text, position = splitter.read(chunk, position)
            shown += text
            if splitter.tag is not None:
                found += [shown, splitter.tag]
                shown = ""
    return [*found, shown + splitter.flush()]


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = "".join(draw(st.lists(st.sampled_from([*TAGS, *"<</>ab|éx"]), max_size=16)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return text, [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


@given(cut_texts())
def test_any_cut_gives_what_the_whole_text_gives(cut: tuple[str, list[str]]) -> None:
    text, chunks = cut
    assert read(chunks) == read(text) == read([text]) == expected(text)


@given(st.text("<</>ab|x", max_size=20))
def test_holds_back_the_longest_end_that_begins_a_tag(text: str) -> None:
    splitter, shown = Splitter(Tags(["<a>", "</a>", "<<|"])), ""
    for position, character in enumerate(text, start=1):
        shown += splitter.read(character, 0)[0]
        if splitter.tag is not None:
            return
        beginnings = [tag[:length] for tag in ("<a>", "</a>", "<<|") for length in range(len(tag))]
        assert text[len(shown) : position] == max(filter(text[:position].endswith, beginnings), key=len)


def test_what_is_held_is_flushed_once() -> None:
    splitter = Splitter(Tags(["<a>"]))
    assert splitter.read("x<a", 0) == ("x", 3)
    assert splitter.flush() == "<a"
    assert splitter.flush() == ""
    assert splitter.read(">", 0) == (">", 1)


def test_characters_that_mean_something_in_a_pattern() -> None:
    splitter = Splitter(Tags(["]^-\\", "[x"]))
    assert splitter.read("a^-]]^-\\[", 0) == ("a^-]", 8)
    assert splitter.tag == "]^-\\"
