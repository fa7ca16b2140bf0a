"""Words as the regular expressions cut them, against cutters written without regular expressions."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from hodios.dialog.pretokenizers import PRE_TOKENIZERS, find_pre_tokenizer
from hodios.errors import UnsupportedModel

# Letters of every case and of none, marks, numbers of every kind, punctuation, symbols, spaces; no U+017F or U+0345,
# whose case the Unicode tables in use do not agree on.
PALETTE = "abzAZéÉßǅʰªא你ｱेِ\u03011٣²Ⅷ½.,!'/-_$€😀 \t\n\r\u00a0\u3000\x00stSTlLvVeEmMdDrR"
TEXT = st.text(st.sampled_from(PALETTE), max_size=24)
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def words(name: str, text: str) -> list[str]:
    pieces = [text]
    for pattern in find_pre_tokenizer(name).patterns:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        pieces = [word for piece in pieces for word, _ in split.pre_tokenize_str(piece)]
    return pieces


def category(character: str) -> str:
    if character.isspace():
        return "space"
    return {"L": "letter", "N": "number", "M": "mark"}.get(unicodedata.category(character)[0], "other")


def run(text: str, start: int, accept: Callable[[str], bool]) -> int:
    while start < len(text) and accept(text[start]):
        start += 1
    return start


def is_upper_like(character: str) -> bool:
    return unicodedata.category(character) in ("Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Me")


def is_lower_like(character: str) -> bool:
    return unicodedata.category(character) in ("Ll", "Lm", "Lo", "Mn", "Mc", "Me")


def gpt2_cut(text: str, start: int) -> int:
    """Where the word that starts at `start` ends."""
    for contraction in CONTRACTIONS:
        if text.startswith(contraction, start):
            return start + len(contraction)
    after_space = start + 1 if text[start] == " " and start + 1 < len(text) else start
    kind = category(text[after_space])
    if kind == "space":
        end = run(text, start, str.isspace)
        return end if end == len(text) or end == start + 1 else end - 1
    kinds = ("mark", "other") if kind in ("mark", "other") else (kind,)
    return run(text, after_space, lambda character: category(character) in kinds)


def tekken_word_end(text: str, start: int) -> int | None:
    """A letter word: capitals first and then small ones, led by at most one character that is no letter or number."""
    leads = [start]
    if text[start] not in "\r\n" and category(text[start]) not in ("letter", "number"):
        leads = [start + 1, start]
    # First choice: it must end with something small, as much as there is.
    for lead in leads:
        capitals = run(text, lead, is_upper_like)
        end = run(text, capitals, is_lower_like)
        if end > capitals or any(is_lower_like(text[at]) for at in range(lead, capitals)):
            if end > capitals:
                return end
            last = max(at for at in range(lead, capitals) if is_lower_like(text[at]))
            return run(text, last, is_lower_like)
    for lead in leads:
        capitals = run(text, lead, is_upper_like)
        if capitals > lead:
            return run(text, capitals, is_lower_like)
    return None


def tekken_cut(text: str, start: int) -> int:
    word = tekken_word_end(text, start)
    if word is not None:
        return word
    if category(text[start]) == "number":
        return start + 1
    after_space = start + 1 if text[start] == " " and start + 1 < len(text) else start
    if category(text[after_space]) in ("mark", "other"):
        end = run(text, after_space, lambda character: category(character) in ("mark", "other"))
        return run(text, end, lambda character: character in "\r\n/")
    end = run(text, start, str.isspace)
    for at in range(end - 1, start - 1, -1):
        if text[at] in "\r\n":
            return at + 1
    return end if end == len(text) or end == start + 1 else end - 1


def cut(text: str, find_end: Callable[[str, int], int]) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = find_end(text, start)
        yield text[start:end]
        start = end


def isolate_digits(text: str) -> list[str]:
    pieces = [""]
    for character in text:
        if category(character) == "number":
            pieces += [character, ""]
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece]


@given(TEXT)
def test_gpt2(text: str) -> None:
    assert words("gpt-2", text) == list(cut(text, gpt2_cut))


@given(TEXT)
def test_smollm_cuts_digits_off_first(text: str) -> None:
    assert words("smollm", text) == [word for piece in isolate_digits(text) for word in cut(piece, gpt2_cut)]


@given(TEXT)
def test_tekken(text: str) -> None:
    assert words("tekken", text) == list(cut(text, tekken_cut))


@pytest.mark.parametrize("name", sorted({repr(each): name for name, each in PRE_TOKENIZERS.items()}.values()))
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_nothing_is_lost(name: str, text: str) -> None:
    """One name of each; many mean the same."""
    assert "".join(words(name, text)) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("llama-bpe", "12345 I'LL go\n\n  x", ["123", "45", " I", "'LL", " go", "\n\n", " ", " x"]),
        ("qwen2", "123 I'Ll go!\n\n x", ["1", "2", "3", " I", "'Ll", " go", "!\n\n", " x"]),
        ("smollm", "x12 y", ["x", "1", "2", " y"]),
        ("tekken", "HelloWorld XMLHttp 12/\n", ["Hello", "World", " XMLHttp", " ", "1", "2", "/\n"]),
        ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", " ", "123", "4"]),
        ("deepseek-v3", "a1234 你好", ["a", "123", "4", " ", "你好"]),
    ],
)
def test_by_example(name: str, text: str, expected: list[str]) -> None:
    assert words(name, text) == expected


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedModel, match=r"'nobody'.*llama-bpe.*smollm"):
        find_pre_tokenizer("nobody")
