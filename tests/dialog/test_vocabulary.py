"""Metadata as converters write it, well and badly, over a vocabulary small enough to see through."""

from __future__ import annotations

from typing import Any

import pytest

from hodios.dialog.tokenizer import Tokenizer
from hodios.dialog.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from hodios.errors import UnsupportedModel

MODEL, TOKENS, TYPES = "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
BYTE_ALPHABET = [
    *map(chr, [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]),
    *map(chr, range(0x100, 0x144)),
]


def byte_level(more: list[tuple[str, int]], merges: list[str] | None = None, **keys: Any) -> dict[str, Any]:
    """A vocabulary of the 256 bytes, ids 0 to 255, and `more` tokens with their types."""
    return {
        MODEL: "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        TOKENS: [*BYTE_ALPHABET, *(text for text, _ in more)],
        TYPES: [*[NORMAL] * 256, *(kind for _, kind in more)],
        "tokenizer.ggml.merges": merges or [],
    } | {f"tokenizer.ggml.{name}": value for name, value in keys.items()}


def sentence_piece(more: list[tuple[str, int, float]], **keys: Any) -> dict[str, Any]:
    """<unk>, <s>, </s>, the 256 bytes, then `more` tokens with their types and scores from id 259 on."""
    head = [("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0)]
    rows = [*head, *((f"<0x{byte:02X}>", BYTE, 0.0) for byte in range(256)), *more]
    return {
        MODEL: "llama",
        TOKENS: [row[0] for row in rows],
        TYPES: [row[1] for row in rows],
        "tokenizer.ggml.scores": [row[2] for row in rows],
    } | {f"tokenizer.ggml.{name}": value for name, value in keys.items()}


def test_every_byte_has_its_spelling() -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([]))
    assert sorted(tokenizer.token_bytes(token) for token in range(256)) == [bytes([byte]) for byte in range(256)]
    text = "".join(map(chr, range(0x250)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_user_defined_tokens_are_found_in_any_text_and_control_tokens_are_not() -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([("<think>", USER_DEFINED), ("<end>", CONTROL)]))
    for parse_special, num_tokens in [(True, 2), (False, 6)]:
        tokens = tokenizer.encode("<think><end>", parse_special=parse_special)
        assert (tokens[0], len(tokens)) == (256, num_tokens)
    assert tokenizer.decode([256, 257]) == "<think>"
    assert tokenizer.decode([256, 257], skip_special=False) == "<think><end>"


def test_the_longest_added_token_wins_and_spaces_in_it_stay() -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([("  ", USER_DEFINED), ("    ", USER_DEFINED), (" é x", USER_DEFINED)]))
    assert tokenizer.encode("    ") == [257]
    assert tokenizer.encode(" é x") == [258]
    assert tokenizer.decode([256, 257, 258]) == "       é x"


def test_merges_keep_their_spaces_apart() -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([("Ġa", NORMAL), ("ab", NORMAL)], ["Ġ a", "a b"]))
    assert tokenizer.encode(" ab") == [256, BYTE_ALPHABET.index("b")]
    assert tokenizer.encode("ab") == [257]


@pytest.mark.parametrize("merge", ["a", "a  b", "a zz", "", " ", "a b c"])
def test_merges_that_make_no_sense_are_refused(merge: str) -> None:
    with pytest.raises(UnsupportedModel, match="merge"):
        Tokenizer.from_gguf(byte_level([("ab", NORMAL)], [merge]))


def test_holes_and_repeated_tokens_keep_their_ids() -> None:
    more = [("[PAD256]", UNUSED), ("", UNUSED), ("a", NORMAL), ("é", NORMAL), ("end", NORMAL)]
    tokenizer = Tokenizer.from_gguf(byte_level(more))
    assert tokenizer.vocab_size == 261
    assert tokenizer.encode("a") == [BYTE_ALPHABET.index("a")]
    assert tokenizer.token_bytes(256) == b"[PAD256]"
    assert tokenizer.token_text(260) == "end"
    assert [tokenizer.token_bytes(token) for token in range(256, 261)]


@pytest.mark.parametrize(
    ("more", "keys", "ends"),
    [
        ([("<|im_end|>", CONTROL)], {}, {256}),
        ([("<|im_end|>", USER_DEFINED)], {}, {256}),
        ([("</s>", NORMAL)], {}, set()),
        ([("x", CONTROL), ("y", CONTROL)], {"eos_token_id": 256, "eot_token_id": 257}, {256, 257}),
        ([("x", CONTROL)], {"eom_token_id": 256}, {256}),
        ([("x", CONTROL)], {"eos_token_id": 9999}, set()),
        ([("<|return|>", CONTROL), ("<|call|>", CONTROL), ("<|end|>", CONTROL)], {}, {256, 257}),
        ([("<|end|>", CONTROL), ("<|call|>", CONTROL)], {}, {256, 257}),
    ],
)
def test_ends(more: list[tuple[str, int]], keys: dict[str, int], ends: set[int]) -> None:
    assert Tokenizer.from_gguf(byte_level(more, **keys)).eos_ids == ends


def test_ends_are_never_shown() -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([("<|im_end|>", USER_DEFINED)]))
    assert tokenizer.is_special(256)
    assert tokenizer.decode([256]) == ""
    assert len(tokenizer.encode("<|im_end|>", parse_special=False)) == 10


def test_files_older_than_token_types() -> None:
    metadata = byte_level([("<s>", NORMAL), ("<|im_end|>", NORMAL)], bos_token_id=256)
    del metadata[TYPES]
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode("<s><|im_end|>") == [256, 257]
    assert tokenizer.is_special(256)
    assert tokenizer.eos_ids == {257}


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ({"pre": "llama-bpe", "bos_token_id": 256}, [256]),
        ({"pre": "llama-bpe", "bos_token_id": 256, "add_bos_token": False}, []),
        ({"pre": "llama-bpe"}, []),
        ({"bos_token_id": 256}, []),
        ({"bos_token_id": 256, "add_bos_token": True}, [256]),
    ],
)
def test_bos(keys: dict[str, Any], first: list[int]) -> None:
    tokenizer = Tokenizer.from_gguf(byte_level([("<s>", CONTROL)], **keys))
    assert tokenizer.encode("") == first
    assert tokenizer.add_bos == bool(first)


def test_chat_templates_by_name() -> None:
    metadata = byte_level([]) | {
        "tokenizer.chat_template": "plain",
        "tokenizer.chat_template.tool_use": "tools",
        "tokenizer.chat_templates": ["tool_use"],
    }
    assert Tokenizer.from_gguf(metadata).chat_templates == {"default": "plain", "tool_use": "tools"}


@pytest.mark.parametrize("model", ["bert", "t5", "rwkv", "plamo2", "gemma4", "none", "", None, 3])
def test_other_tokenizers_are_refused_by_name(model: object) -> None:
    with pytest.raises(UnsupportedModel, match=r"'gpt2'.*'llama'") as refusal:
        Tokenizer.from_gguf(byte_level([]) | {MODEL: model})
    assert repr(model) in str(refusal.value)


def test_other_pre_tokenizers_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"'kimi-k2'.*smollm"):
        Tokenizer.from_gguf(byte_level([], pre="kimi-k2"))


@pytest.mark.parametrize("key", ["tokens", "merges", "token_type"])
@pytest.mark.parametrize("value", [None, "text", 7, []])
def test_broken_lists_are_refused(key: str, value: object) -> None:
    metadata = byte_level([]) | {f"tokenizer.ggml.{key}": value}
    if (key, value) in [("merges", []), ("token_type", None)]:
        Tokenizer.from_gguf(metadata)
    else:
        with pytest.raises(UnsupportedModel, match="token"):
            Tokenizer.from_gguf(metadata)


def test_sentence_piece_needs_scores_and_bytes() -> None:
    metadata = sentence_piece([("▁", NORMAL, -1.0)])
    with pytest.raises(UnsupportedModel, match="scores"):
        Tokenizer.from_gguf(metadata | {"tokenizer.ggml.scores": None})
    with pytest.raises(UnsupportedModel, match="scores"):
        Tokenizer.from_gguf(metadata | {"tokenizer.ggml.scores": [0.0]})
    lost = ["lost" if text == "<0x41>" else text for text in metadata[TOKENS]]
    with pytest.raises(UnsupportedModel, match="1 of the 256 bytes"):
        Tokenizer.from_gguf(metadata | {TOKENS: lost})


PIECES = [("▁", NORMAL, -9.0), ("a", NORMAL, -8.0), ("b", NORMAL, -7.0), ("ab", NORMAL, -2.0), ("ba", NORMAL, -1.0)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab", ["▁", "ab"]),
        ("bab", ["▁", "ba", "b"]),
        ("aba", ["▁", "a", "ba"]),
        ("c", ["▁", "<0x63>"]),
        ("é", ["▁", "<0xC3>", "<0xA9>"]),
        (" a", ["▁", "▁", "a"]),
    ],
)
def test_sentence_piece_takes_the_best_score_first(text: str, pieces: list[str]) -> None:
    metadata = sentence_piece(PIECES)
    tokens = Tokenizer.from_gguf(metadata).encode(text, add_special=False)
    assert [metadata[TOKENS][token] for token in tokens] == pieces


def test_pieces_that_reach_over_a_space_are_merged_all_the_same() -> None:
    metadata = sentence_piece([*PIECES, ("b▁", NORMAL, -0.5), ("b▁a", NORMAL, -0.1)])
    tokens = Tokenizer.from_gguf(metadata).encode("bb ab", add_special=False)
    assert [metadata[TOKENS][token] for token in tokens] == ["▁", "b", "b▁a", "b"]


def test_text_cannot_be_merged_into_control_or_byte_tokens() -> None:
    parts = [(text, NORMAL, -1.0) for text in ["<", "</", "s", ">", "</s", "<0x4", "1>", "<0", "x", "4", "0", "1"]]
    tokenizer = Tokenizer.from_gguf(sentence_piece([("▁", NORMAL, -9.0), *parts]))
    for text in ["</s>", "<0x41>", "<s>"]:
        tokens = tokenizer.encode(text, add_special=False, parse_special=False)
        assert len(tokens) > 2
        assert tokenizer.decode(tokens) == text
