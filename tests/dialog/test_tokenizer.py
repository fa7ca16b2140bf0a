"""Tokens against llama.cpp's: its own expected ones, and recorded ones of random texts; hostile text and metadata."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.tokenizer import Tokenizer
from hodios.errors import InvalidRequest, UnsupportedModel

EXPECTED = (
    *("command-r", "deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3"),
    *("qwen2", "qwen35", "refact", "starcoder"),
)
RECORD = json.loads((Path(__file__).parent / "data" / "tokens.json").read_text())
SEPARATOR = "\n__ggml_vocab_test__\n"
# Without what the starter model has no tokens for (some control codes, planes 4 to 11) and Llama 2's sign for a space.
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\x04\x06\x13\x14\x16\x1d▁"), max_size=60
)
BOTH = ("starter", "llama-spm")


@pytest.mark.parametrize("name", EXPECTED)
def test_llama_cpp_expects_these_tokens(
    name: str, tokenizer_of: Callable[[str], Tokenizer], llama_cpp_models: Path
) -> None:
    tokenizer = tokenizer_of(name)
    path = llama_cpp_models / f"ggml-vocab-{name}.gguf"
    texts = path.with_suffix(".gguf.inp").read_bytes().decode().split(SEPARATOR)
    lines = path.with_suffix(".gguf.out").read_text().splitlines()
    assert texts.pop() == ""
    assert len(texts) == len(lines) > 40
    for text, line in zip(texts, lines, strict=True):
        tokens = tokenizer.encode(text, add_special=False, parse_special=False)
        assert tokens == [int(token) for token in line.split()]
        assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("name", RECORD["tokens"])
def test_llama_cpp_makes_these_tokens_of_random_text(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    for text, tokens in zip(RECORD["texts"], RECORD["tokens"][name], strict=True):
        assert tokenizer.encode(text, add_special=False, parse_special=False) == tokens
        assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("name", RECORD["ends"])
def test_llama_cpp_ends_at_these_tokens(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    # llama.cpp ends Qwen's texts at the HTML tag </s>, which is an ordinary token there.
    ordinary = {token for token in RECORD["ends"][name] if name == "qwen2" and tokenizer.token_text(token) == "</s>"}
    assert tokenizer.eos_ids == set(RECORD["ends"][name]) - ordinary
    assert all(tokenizer.is_special(token) for token in tokenizer.eos_ids)


@pytest.mark.parametrize("name", BOTH)
@given(text=ANY_TEXT)
def test_any_text_survives(name: str, text: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    tokens = tokenizer.encode(text, add_special=False, parse_special=False)
    assert tokenizer.decode(tokens) == text
    assert not any(tokenizer.is_special(token) for token in tokens)


@pytest.mark.parametrize("name", BOTH)
@given(text=st.lists(st.sampled_from(["<", "|", "im_start", ">", "<s>", "</s>", "<|im_end|>", " ", "x", "<0x41>"])))
def test_plain_text_never_becomes_control_tokens(
    name: str, text: list[str], tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizer_of(name)
    tokens = tokenizer.encode("".join(text), add_special=False, parse_special=False)
    assert not any(tokenizer.is_special(token) for token in tokens)
    assert tokenizer.decode(tokens) == "".join(text)


@pytest.mark.parametrize("name", [*BOTH, "llama-bpe", "phi-3"])
def test_saved_tokenizer_is_the_same(name: str, tokenizer_of: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    made = tokenizer_of(name)
    made.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    for attribute in ("vocab_size", "bos_id", "eos_id", "eos_ids", "add_bos", "chat_templates", "special_tokens"):
        assert getattr(loaded, attribute) == getattr(made, attribute)
    text = "Hello <s> <|im_start|> 你好 \x00\n\n  <|eot_id|><|end|> x"
    for add_special, parse_special in itertools.product([False, True], repeat=2):
        tokens = made.encode(text, add_special=add_special, parse_special=parse_special)
        assert loaded.encode(text, add_special=add_special, parse_special=parse_special) == tokens
        assert loaded.decode(tokens, skip_special=False) == made.decode(tokens, skip_special=False)
    assert [loaded.token_bytes(token) for token in range(500)] == [made.token_bytes(token) for token in range(500)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1}', b"\xff", b"null"])
def test_a_broken_saved_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UnsupportedModel, match="delete it"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_saved_file_of_another_format_is_refused(llama2: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    llama2.save(path)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":99', 1))
    with pytest.raises(UnsupportedModel, match="format 99"):
        Tokenizer.load(path)


@pytest.mark.parametrize("name", BOTH)
def test_llguidance_reads_the_same_vocabulary(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    grammar = llguidance.LLTokenizer(tokenizer.to_json(), n_vocab=tokenizer.vocab_size, eos_token=tokenizer.eos_id)
    assert grammar.vocab_size == tokenizer.vocab_size
    different = [
        token
        for token in range(tokenizer.vocab_size)
        if grammar.decode_bytes([token]) != tokenizer.token_bytes(token) and tokenizer.token_bytes(token) != b"\xff"
    ]
    assert different == []
    matcher = llguidance.LLMatcher(grammar, llguidance.LLMatcher.grammar_from_regex(r'\{"name": "é你"\}'))
    tokens = matcher.compute_ff_tokens()
    assert tokenizer.detokenizer().push(tokens).startswith('{"name": "')


class TestStarter:
    def test_special_ids(self, starter: Tokenizer) -> None:
        assert (starter.bos_id, starter.eos_id, starter.vocab_size) == (1, 2, 49152)
        assert not starter.add_bos
        assert not starter.is_sentence_piece
        assert starter.special_tokens["eos_token"] == "<|im_end|>"
        assert list(starter.chat_templates) == ["default"]

    def test_control_tokens_are_found_in_text(self, starter: Tokenizer) -> None:
        assert starter.encode("<|im_start|>a<|im_end|>")[::2] == [1, 2]
        assert len(starter.encode("<|im_start|>", parse_special=False)) > 3

    def test_control_tokens_are_shown_only_on_demand(self, starter: Tokenizer) -> None:
        tokens = starter.encode("<|im_start|>user\nHi<|im_end|>")
        assert starter.decode(tokens) == "user\nHi"
        assert starter.decode(tokens, skip_special=False) == "<|im_start|>user\nHi<|im_end|>"
        assert starter.token_bytes(1) == b"<|im_start|>"

    def test_text_around_control_tokens_is_not_stripped(self, starter: Tokenizer) -> None:
        text = "  <|im_start|>  user \n <|im_end|> \n"
        assert starter.decode(starter.encode(text), skip_special=False) == text

    def test_part_of_a_character_alone(self, starter: Tokenizer) -> None:
        parts = starter.encode("𓂀", add_special=False)
        assert len(parts) > 1
        assert b"".join(map(starter.token_bytes, parts)) == "𓂀".encode()
        assert all("�" in starter.token_text(part) for part in parts)

    def test_characters_without_tokens_vanish(self, starter: Tokenizer) -> None:
        assert starter.decode(starter.encode("a\x04b")) == "ab"

    def test_bytes_that_are_no_text(self, starter: Tokenizer) -> None:
        parts = starter.encode("𓂀", add_special=False)
        assert starter.decode(parts[:-1]) == "�"


class TestLlama2:
    def test_bos_is_added_unless_told_otherwise(self, llama2: Tokenizer) -> None:
        assert llama2.encode("") == [1]
        assert llama2.encode("", add_special=False) == []
        assert llama2.encode("Hello") == [1, 15043]

    def test_bytes_for_what_is_no_token(self, llama2: Tokenizer) -> None:
        tokens = llama2.encode("\x00\x07\n", add_special=False)
        assert [llama2.token_bytes(token) for token in tokens] == [b" ", b"\x00", b"\x07", b"\n"]
        assert llama2.decode(tokens) == "\x00\x07\n"

    def test_leading_space_of_a_start_and_of_a_continuation(self, llama2: Tokenizer) -> None:
        tokens = llama2.encode("Hello world", add_special=False)
        assert llama2.decode(tokens) == "Hello world"
        assert llama2.decode([1, *tokens]) == "Hello world"
        assert llama2.decode([1, *tokens], skip_special=False) == "<s>Hello world"
        assert llama2.detokenizer().push(tokens) == " Hello world"
        assert llama2.decode(llama2.encode("  two", add_special=False)) == "  two"

    def test_without_space_prefix(self, vocabulary_metadata: Callable[[str], dict[str, Any]]) -> None:
        metadata = vocabulary_metadata("llama-spm") | {"tokenizer.ggml.add_space_prefix": False}
        tokenizer = Tokenizer.from_gguf(metadata)
        assert tokenizer.decode(tokenizer.encode(" Hello")) == " Hello"
        assert tokenizer.encode("Hello", add_special=False) == [10994]

    def test_eos_is_added_where_the_file_says_so(self, vocabulary_metadata: Callable[[str], dict[str, Any]]) -> None:
        tokenizer = Tokenizer.from_gguf(vocabulary_metadata("llama-spm") | {"tokenizer.ggml.add_eos_token": True})
        assert tokenizer.encode("Hello") == [1, 15043, 2]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "ok \ud83d"])
def test_lone_surrogates_are_refused(name: str, text: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        tokenizer_of(name).encode(text)


@pytest.mark.parametrize("token", [-1, 49152, 2**40])
def test_ids_outside_of_the_vocabulary_are_refused(token: int, starter: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="49151"):
        starter.decode([token])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("unit", ["a", " ", "\n", "1", ".", "é", "你", "ab ", "\u0301", "A"])
def test_long_runs_take_time_in_proportion(name: str, unit: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    num_characters = 3_000

    def fastest(length: int) -> float:
        text = unit * (length // len(unit))
        times = []
        for _ in range(3):
            started = time.thread_time()
            tokens = tokenizer.encode(text, add_special=False)
            times.append(time.thread_time() - started)
        assert tokenizer.decode(tokens) == text
        return min(times)

    # Quadratic growth would be a factor of 256.
    assert fastest(16 * num_characters) < 100 * fastest(num_characters) + 0.02


@pytest.mark.full
@pytest.mark.parametrize("name", BOTH)
def test_a_megabyte_of_one_character(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    for unit in ["a", " ", "\n", "😀", "<", "▁", "\x00"]:
        text = unit * 1_000_000
        shown = text.replace("▁", " ") if tokenizer.is_sentence_piece else text
        assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == shown


def test_tokens_by_their_text(starter: Tokenizer, llama2: Tokenizer) -> None:
    end = starter.token_id("<|im_end|>")
    assert end is not None
    assert starter.token_text(end) == "<|im_end|>"
    assert starter.token_id("no such token") is None
    assert llama2.token_id("</s>") == llama2.eos_id


def test_markup_is_what_prompts_are_built_from(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= tokenizer_of("starter").markup
    assert tokenizer_of("llama-spm").markup == {"<unk>", "<s>", "</s>"}
    assert {"</s>", "<|end|>"} <= tokenizer_of("phi-3").markup
    assert not any(text.isspace() for text in tokenizer_of("gpt-neox").markup)
    assert not any(len(text) < 3 for text in tokenizer_of("deepseek-llm").markup)
