"""Records what llama.cpp makes of some texts, for `tests/dialog/test_tokenizer.py`.

Needs an environment of its own, with llama.cpp built natively (a C++ compiler, cmake, some minutes):

    python -m venv .cache/llamacpp && .cache/llamacpp/bin/pip install llama-cpp-python==0.3.36
    .cache/llamacpp/bin/python scripts/record_tokens.py

after the tests have run once, since they fetch the vocabularies and the starter model.
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
MODELS = REPOSITORY / ".cache" / "llama-cpp-python==0.3.36" / "models"
STARTER = REPOSITORY / ".cache/home/models/HuggingFaceTB/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
RECORD = REPOSITORY / "tests" / "dialog" / "data" / "tokens.json"
NAMES = ("aquila", "baichuan", "gpt-neox", "llama-bpe", "llama-spm", "qwen2")
NUM_TEXTS = 150


def texts() -> list[str]:
    """Words and lines of this file, random printable characters of many scripts, and runs of the same character."""
    draw = random.Random(1)
    words = Path(__file__).read_text().split()
    ascii_characters = [chr(code) for code in range(32, 127)] + list("\n\r\t")
    # Case folding makes U+017F an "s" in the models' own regular expressions, but not in llama.cpp's.
    scripts = [chr(code) for code in (*range(0xA0, 0x3000), *range(0x4E00, 0x4F00), *range(0x1F300, 0x1F700))]
    scripts = [c for c in scripts if unicodedata.category(c)[0] != "C" and c not in "\u017f\u212a"]
    gaps = [" ", "  ", "\n", "\n\n", " \n", "\t", "", "   \n  "]
    kinds = [
        lambda: "".join(draw.choices(ascii_characters, k=draw.randint(1, 40))),
        lambda: "".join(draw.choice(gaps) + draw.choice(words) for _ in range(draw.randint(1, 12))),
        lambda: "".join(draw.choices(scripts, k=draw.randint(1, 12))),
        lambda: "".join(draw.choices("aab bB1.\n 's", k=draw.randint(1, 40))),
        lambda: "".join(draw.choice([*ascii_characters, "é", "你"]) * draw.randint(1, 9) for _ in range(6)),
    ]
    return [kinds[number % len(kinds)]() for number in range(NUM_TEXTS)]


def main() -> int:
    import llama_cpp

    samples = texts()
    paths = {name: MODELS / f"ggml-vocab-{name}.gguf" for name in NAMES} | {"starter": STARTER}
    tokens: dict[str, list[list[int]]] = {}
    ends: dict[str, list[int]] = {}
    for name, path in paths.items():
        model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        tokens[name] = [model.tokenize(text.encode(), add_bos=False, special=False) for text in samples]
        vocab = llama_cpp.llama_model_get_vocab(model.model)
        ids = range(llama_cpp.llama_vocab_n_tokens(vocab))
        ends[name] = [token for token in ids if llama_cpp.llama_vocab_is_eog(vocab, token)]
    record = {"texts": samples, "tokens": tokens, "ends": ends}
    RECORD.write_text(json.dumps(record, separators=(",", ":")).replace('"tokens":', '\n"tokens":') + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
