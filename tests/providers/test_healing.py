"""An answer that somebody else began, in tokens: what is kept, and how the rest can be spelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import FIRST_WORD, ByteTokenizer

from hodios.dialog.beginning import Stretch
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import open_model
from hodios.engine.messages import Place
from hodios.errors import NotAvailable
from hodios.providers.healing import Spellings

PIECES = [
    "▁",
    "h",
    "e",
    "l",
    "o",
    "w",
    "r",
    "d",
    ",",
    "he",
    "lo",
    "hel",
    "hello",
    "▁w",
    "▁wor",
    "ld",
    "▁world",
    "▁hello",
]


@pytest.fixture(scope="module")
def starter(starter_model_path: Path) -> tuple[Tokenizer, Spellings]:
    tokenizer = Tokenizer.from_gguf(open_model(starter_model_path).metadata)
    return tokenizer, Spellings(tokenizer, tokenizer.vocab_size)


@pytest.fixture(scope="module")
def sentence_piece() -> tuple[Tokenizer, Spellings]:
    """Which puts a space before each text."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(len(PIECES) - place) for place in range(len(PIECES))],
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([1] * len(PIECES))],
    }
    tokenizer = Tokenizer.from_gguf(metadata)
    return tokenizer, Spellings(tokenizer, tokenizer.vocab_size)


def spelled(tokenizer: Any, ids: Sequence[int]) -> bytes:
    return b"".join(tokenizer.token_bytes(id) for id in ids)


def spellings_of(places: list[Place], at: int = 0) -> set[tuple[int, ...]]:
    """All sequences of tokens that the places allow."""
    found = {(token,) for token in places[at].last}
    for token, end in places[at].inner.items():
        found |= {(token, *rest) for rest in spellings_of(places, end)}
    return found


@given(st.binary(max_size=0) | st.sampled_from([b"STOP", b"hello w", b"a\xe2\x82\xac", b"S", b"\xe2"]))
def test_every_spelling_is_found(text: bytes) -> None:
    tokenizer: Any = ByteTokenizer()
    found = spellings_of(places) if (places := Spellings(tokenizer, 10**6).places(text)) else set()
    texts = {id: tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size) if not tokenizer.is_special(id)}

    def expected(rest: bytes) -> set[tuple[int, ...]]:
        ends = {(id,) for id, data in texts.items() if data.startswith(rest)}
        inner = [(id, rest[len(data) :]) for id, data in texts.items() if rest.startswith(data) and rest != data]
        return ends | {(id, *more) for id, left in inner for more in expected(left)}

    assert found == (expected(text) if text else set())


def test_tokens_that_the_model_does_not_know_spell_nothing() -> None:
    tokenizer: Any = ByteTokenizer()
    (place,) = Spellings(tokenizer, FIRST_WORD).places(b"S")
    assert place.last == [ord("S")]
    assert Spellings(tokenizer, ord("S")).places(b"S") == []
    assert Spellings(tokenizer, ord("S")).places(b"AS") == []


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cn", "Cc"], exclude_characters="▁"), min_size=1, max_size=40)


@given(
    TEXTS
    | st.lists(st.sampled_from(["The", "quick", "brown", "日本", "🙂", "12345", "fox\n"]), min_size=1).map(" ".join)
)
def test_kept_tokens_and_the_rest_are_the_text(starter: tuple[Tokenizer, Spellings], text: str) -> None:
    _check(*starter, text)


@given(st.text("helo wrd,\né", min_size=1, max_size=30))
def test_a_vocabulary_that_adds_spaces_adds_none(sentence_piece: tuple[Tokenizer, Spellings], text: str) -> None:
    _check(*sentence_piece, text)


def _check(tokenizer: Tokenizer, spellings: Spellings, text: str) -> None:
    ids, begun = spellings.begin([Stretch(text)])
    data = text.encode()
    kept = spelled(tokenizer, ids)
    assert (begun.text, begun.num_kept) == (text, len(ids))
    assert data.startswith(kept)
    rest = data[len(kept) :]
    # At least a token, whole characters, and every byte of it has a place.
    assert rest.decode() == text[len(kept.decode()) :]
    assert len(rest.decode()) == begun.num_characters > 0
    assert len(begun.opening) == len(rest) <= begun.num_tokens
    for start, place in enumerate(begun.opening):
        for token, end in place.inner.items():
            assert tokenizer.token_bytes(token) == rest[start:end]
        assert all(tokenizer.token_bytes(token).startswith(rest[start:]) for token in place.last)
    at = 0
    for token in tokenizer.encode(text, add_special=False, parse_special=False)[len(ids) :]:
        # The vocabulary's own way to cut the text is one of those allowed.
        if at < len(rest) and not tokenizer.adds_space:
            assert token in begun.opening[at].inner or token in begun.opening[at].last
            at = begun.opening[at].inner.get(token, len(rest))


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Once upon a ti", " ti"),
        ("Once upon a time", " time"),
        ("Once upon a time ", " "),
        ("one\n\n", "\n\n"),
        ("日本語", "日本語"),
    ],
)
def test_the_last_word_is_spelled_again(starter: tuple[Tokenizer, Spellings], text: str, rest: str) -> None:
    _, begun = starter[1].begin([Stretch(text)])
    assert text[len(text) - begun.num_characters :] == rest


def test_a_long_word_is_kept_but_for_its_end(starter: tuple[Tokenizer, Spellings]) -> None:
    ids, begun = starter[1].begin([Stretch("x7" * 500)])
    assert len(ids) > 400
    assert 1 <= begun.num_characters <= 40


def test_markup_is_kept(starter: tuple[Tokenizer, Spellings]) -> None:
    tokenizer, spellings = starter
    marker = tokenizer.token_id("<|im_start|>")
    ids, begun = spellings.begin([Stretch("Hi"), Stretch("<|im_start|>", True), Stretch("the end")])
    assert marker in ids
    assert spelled(tokenizer, ids).startswith(b"Hi<|im_start|>")
    assert begun.num_characters == len(" end")
    ids, begun = spellings.begin([Stretch("Hi<|im_start|>"), Stretch("<|im_start|>", True)])
    assert (ids.count(marker or 0), ids[-1], begun.opening, begun.num_characters) == (1, marker, [], 0)


def test_what_cannot_be_spelled_is_refused() -> None:
    class Poor(ByteTokenizer):
        def token_bytes(self, id: int) -> bytes:
            return b"" if id == ord("x") else super().token_bytes(id)

    tokenizer: Any = Poor()
    spellings = Spellings(tokenizer, 200)
    for stretches in ([Stretch("ax")], [Stretch("x"), Stretch("<s>", True), Stretch("a")]):
        with pytest.raises(NotAvailable, match="cannot spell"):
            spellings.begin(stretches)
