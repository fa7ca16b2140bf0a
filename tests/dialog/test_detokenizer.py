"""Streaming against the whole: every way to cut the tokens gives the same text and never half a character."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.detokenizer import Detokenizer
from hodios.dialog.tokenizer import Tokenizer

BOTH = ("starter", "llama-spm")
# Without what the starter model has no tokens for (some control codes, planes 4 to 11) and Llama 2's sign for a space.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\x04\x06\x13\x14\x16\x1d▁"), max_size=30
)


class OneByteEach:
    """Token n is byte n; 256 is a control token."""

    def token_bytes(self, id: int) -> bytes:
        return bytes([id]) if id < 256 else b"<end>"

    def is_special(self, id: int) -> bool:
        return id == 256


def portions(ids: list[int], cuts: list[int]) -> list[list[int]]:
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    return [ids[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 256), max_size=24), st.lists(st.integers(0, 1000), max_size=24), st.booleans())
def test_any_bytes_in_any_portions(ids: list[int], cuts: list[int], skip_special: bool) -> None:
    detokenizer = Detokenizer(OneByteEach(), skip_special=skip_special, strip_space=False)
    texts = [detokenizer.push(part) for part in portions(ids, cuts)]
    shown = [id for id in ids if not (skip_special and id == 256)]
    expected = b"".join(map(OneByteEach().token_bytes, shown)).decode("utf-8", errors="replace")
    assert "".join(texts) + detokenizer.flush() == expected


@given(st.text(max_size=12), st.lists(st.integers(0, 1000), max_size=24))
def test_text_never_shows_a_replacement_character(text: str, cuts: list[int]) -> None:
    detokenizer = Detokenizer(OneByteEach(), skip_special=True, strip_space=False)
    shown = ""
    for part in portions(list(text.encode()), cuts):
        shown += detokenizer.push(part)
        assert text.startswith(shown)
    assert shown == text
    assert detokenizer.flush() == ""


@pytest.mark.parametrize("name", BOTH)
@given(ids=st.lists(st.integers(0, 31999), max_size=30), cuts=st.lists(st.integers(0, 1000), max_size=30))
def test_any_tokens_in_any_portions(
    name: str, ids: list[int], cuts: list[int], tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizer_of(name)
    for skip_special in (False, True):
        detokenizer = tokenizer.detokenizer(skip_special=skip_special, at_start=True)
        texts = [detokenizer.push(part) for part in portions(ids, cuts)]
        assert "".join(texts) + detokenizer.flush() == tokenizer.decode(ids, skip_special=skip_special)


@pytest.mark.parametrize("name", BOTH)
@given(text=TEXT)
def test_one_token_at_a_time(name: str, text: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    detokenizer = tokenizer.detokenizer(at_start=True)
    shown = ""
    for token in tokenizer.encode(text, add_special=False, parse_special=False):
        shown += detokenizer.push([token])
        assert text.startswith(shown)
    assert shown == text


@given(st.lists(TEXT, max_size=5))
def test_a_continuation_keeps_its_space(llama2: Tokenizer, texts: list[str]) -> None:
    detokenizer = llama2.detokenizer()
    expected = "".join(" " + text for text in texts if text)
    assert "".join(detokenizer.push(llama2.encode(text, add_special=False, parse_special=False)) for text in texts) == (
        expected
    )


def test_what_a_cut_character_leaves_is_flushed_once() -> None:
    detokenizer = Detokenizer(OneByteEach(), skip_special=True, strip_space=False)
    assert detokenizer.push([0x41, 0xF0, 0x9F]) == "A"
    assert detokenizer.flush() == "�"
    assert detokenizer.flush() == ""


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0x20, 0x41], "A"),
        ([0x20, 0x20, 0x41], " A"),
        ([0x41, 0x20], "A "),
        ([256, 0x20, 0x41], "A"),
        ([0x20, 256, 0x20], " "),
    ],
)
def test_one_space_is_dropped_at_the_start_of_the_text(ids: list[int], text: str) -> None:
    for cut in range(len(ids) + 1):
        detokenizer = Detokenizer(OneByteEach(), skip_special=True, strip_space=True)
        assert detokenizer.push(ids[:cut]) + detokenizer.push(ids[cut:]) + detokenizer.flush() == text


@given(st.lists(st.integers(0, 256), max_size=24))
def test_control_tokens_that_must_be_seen(ids: list[int]) -> None:
    shown, whole = (
        Detokenizer(OneByteEach(), skip_special=skip, strip_space=False, shown=ids_shown)
        for skip, ids_shown in ((True, frozenset({256})), (False, frozenset[int]()))
    )
    assert shown.push(ids) + shown.flush() == whole.push(ids) + whole.flush()


def test_shown_control_tokens_are_not_words() -> None:
    """The space that SentencePiece puts before the first word is dropped behind them too."""
    detokenizer = Detokenizer(OneByteEach(), skip_special=True, strip_space=True, shown=frozenset({256}))
    assert detokenizer.push([256, *b" a b"]) == "<end>a b"
