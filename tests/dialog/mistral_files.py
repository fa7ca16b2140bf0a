"""Mistral's published vocabularies, as the package mistral-common ships them, in the form that GGUF files have."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import mistral_common
import sentencepiece

DATA = Path(mistral_common.__file__).parent / "data"
FILES = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
    "v3-tekken": "tekken_240911.json",
    "tekken-240718": "tekken_240718.json",
}
NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
SPELLING = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(0x100 + at) for at, byte in enumerate(_OTHERS)}
"""How byte-level vocabularies write bytes, since GPT-2."""


def metadata_of(name: str) -> dict[str, Any]:
    path = DATA / FILES[name]
    return tekken_metadata(path) if path.suffix == ".json" else sentence_piece_metadata(path)


def sentence_piece_metadata(path: Path) -> dict[str, Any]:
    model = sentencepiece.SentencePieceProcessor(str(path))
    ids = range(model.vocab_size())

    def kind(id: int) -> int:
        kinds = ((model.is_unknown, UNKNOWN), (model.is_control, CONTROL), (model.is_byte, BYTE))
        return next((number for is_kind, number in kinds if is_kind(id)), NORMAL)

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(id) for id in ids],
        "tokenizer.ggml.scores": [model.get_score(id) for id in ids],
        "tokenizer.ggml.token_type": [kind(id) for id in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
    }


def tekken_metadata(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    config = content["config"]
    num_special = config["default_num_special_tokens"]
    words = [base64.b64decode(entry["token_bytes"]) for entry in content["vocab"]]
    words = words[: config["default_vocab_size"] - num_special]
    special = _special_tokens(content, num_special)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
        "tokenizer.ggml.tokens": special + [_spelled(word) for word in words],
        "tokenizer.ggml.token_type": [CONTROL] * num_special + [NORMAL] * len(words),
        "tokenizer.ggml.merges": _merges({word: rank for rank, word in enumerate(words)}),
        "tokenizer.ggml.bos_token_id": special.index("<s>"),
        "tokenizer.ggml.eos_token_id": special.index("</s>"),
        "tokenizer.ggml.unknown_token_id": special.index("<unk>"),
    }


def _special_tokens(content: dict[str, Any], num_special: int) -> list[str]:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    named = content.get("special_tokens") or [
        {"rank": entry["rank"], "token_str": entry["token_str"]} for entry in Tekkenizer.DEPRECATED_SPECIAL_TOKENS
    ]
    texts = {entry["rank"]: str(getattr(entry["token_str"], "value", entry["token_str"])) for entry in named}
    return [texts.get(rank, f"<SPECIAL_{rank}>") for rank in range(num_special)]


def _spelled(word: bytes) -> str:
    return "".join(SPELLING[byte] for byte in word)


def _merges(ranks: dict[bytes, int]) -> list[str]:
    """The pair that each word was made of: what is left when it is merged with the ranks below its own."""
    merges = []
    for word, rank in ranks.items():
        if len(word) > 1:
            parts = [word[at : at + 1] for at in range(len(word))]
            while len(parts) > 2:
                pairs = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
                lowest = min(pairs)
                if lowest >= rank:
                    break
                at = pairs.index(lowest)
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            if len(parts) == 2:
                merges.append(" ".join(map(_spelled, parts)))
    return merges
