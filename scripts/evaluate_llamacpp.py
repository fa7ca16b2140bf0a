"""What llama.cpp answers; runs in an environment that has llama-cpp-python and numpy, nothing of ours.

Usage: evaluate_llamacpp.py FOLDER, which `record_reference.py` fills with `starter.gguf`, `corpus.txt`, `tokens.npy`
and `tiny/*.gguf`. Writes `corpus.npz` and `tiny.npz` beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

F32_CACHE = 0
"""ggml's number of the type F32."""


def evaluate_corpus(model_path: Path, text: bytes, window: int) -> dict[str, NDArray[np.generic]]:
    """Negative log-likelihoods and most likely tokens in windows of the text that know nothing of each other.

    Each window is computed whole from an empty context, and its tokens 1 … are predicted from those before them. What
    remains of the text after the last full window is left out. Cache and kernels are llama.cpp's defaults.
    """
    model = llama_cpp.Llama(str(model_path), n_ctx=window, n_batch=window, logits_all=True, verbose=False)
    tokens = np.array(model.tokenize(text, add_bos=False, special=False), np.int32)
    windows = tokens[: len(tokens) // window * window].reshape(-1, window)
    nll, top = [], []
    for row in windows:
        model.reset()
        model.eval(row.tolist())
        logits = np.array(model.scores[: window - 1], np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        nll.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(window - 1), row[1:]])
        top.append(logits.argmax(axis=1))
    return {"tokens": windows, "nll": np.array(nll, np.float32), "top": np.array(top, np.int32)}


def evaluate_logits(model_path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """Logits [tokens, vocabulary] with the cache in F32, so that nothing but F32 arithmetic rounds."""
    model = llama_cpp.Llama(
        str(model_path), n_ctx=512, n_batch=512, logits_all=True, type_k=F32_CACHE, type_v=F32_CACHE, verbose=False
    )
    model.eval(tokens)
    logits = np.array(model.scores[: len(tokens)], np.float32)
    model.close()
    return logits


def main(folder: Path) -> None:
    tokens = np.load(folder / "tokens.npy").tolist()
    tiny = {path.stem: evaluate_logits(path, tokens) for path in sorted((folder / "tiny").glob("*.gguf"))}
    np.savez(folder / "tiny.npz", **tiny)
    corpus = evaluate_corpus(folder / "starter.gguf", (folder / "corpus.txt").read_bytes(), window=512)
    np.savez(folder / "corpus.npz", **corpus)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
