"""Perplexity and most likely tokens on the starter model, against what llama.cpp and float64 numpy answered.

The recorded values come from `scripts/record_reference.py`: `corpus.txt` in windows of 512 tokens, each from an empty
context. The same tokens are fed here, so nothing but the engine's numbers is compared.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine import gguf, weights
from hodios.engine.runner import Runner, native_precision
from hodios.engine.scheduler import Batch, Chunk

DATA = Path(__file__).parent / "data"
RECORDED = dict(np.load(DATA / "perplexity.npz"))
WINDOWS = RECORDED["tokens"]
WINDOW = WINDOWS.shape[1]
SAMPLE = [0, 3, 6]
"""Windows that are always run in the exact mode: a story, dialogue, and where prose turns into code."""


class Measured(NamedTuple):
    """On some windows, each [windows, 511]."""

    nll: NDArray[np.float64]
    top: NDArray[np.int64]

    def perplexity_ratio(self, recorded: NDArray[np.float32]) -> float:
        return float(np.exp(self.nll.mean() - recorded.mean(dtype=np.float64)))


def measure(runner: Runner, windows: NDArray[np.int32]) -> Measured:
    nll, top = [], []
    for tokens in windows:
        sequence = SimpleNamespace(blocks=list(range(1, 1 + WINDOW // 32)), is_seeded=True)
        batch = Batch()
        batch.add(Chunk(sequence, 0, tokens.tolist(), WINDOW, True))
        logits = runner.run(batch)[:-1]
        logits = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1, dtype=np.float64))
        nll.append(total - logits[np.arange(WINDOW - 1), tokens[1:]])
        top.append(logits.argmax(axis=1))
    return Measured(np.array(nll), np.array(top))


def load(path: Path, folder: Path, *, is_exact: bool) -> Runner:
    weights.pack(gguf.open_model(path), folder, is_exact=is_exact, weights_hash="0")
    packed = weights.load(folder)
    return Runner(packed, num_blocks=20, threads=2, max_batch_tokens=WINDOW, precision=native_precision())


@pytest.fixture(scope="module")
def default_measured(starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(load(starter_model_path, tmp_path_factory.mktemp("default"), is_exact=False), WINDOWS)


@pytest.fixture(scope="module")
def exact_runner(starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return load(starter_model_path, tmp_path_factory.mktemp("exact"), is_exact=True)


def test_the_default_mode_is_within_one_percent_of_llamacpp(default_measured: Measured) -> None:
    assert default_measured.perplexity_ratio(RECORDED["llamacpp_nll"]) <= 1.01


def test_the_default_mode_is_near_the_exact_perplexity(default_measured: Measured) -> None:
    assert default_measured.perplexity_ratio(RECORDED["exact_nll"]) <= 1.015


def test_the_default_mode_mostly_agrees_on_the_next_token(default_measured: Measured) -> None:
    assert (default_measured.top == RECORDED["llamacpp_top"]).mean() >= 0.93


def test_the_default_mode_agrees_wherever_the_choice_is_clear(default_measured: Measured) -> None:
    """Where the exact logits of the best two tokens are well apart, rounding must not change the choice."""
    is_clear = RECORDED["exact_lead"] > 1.5
    assert is_clear.mean() > 0.3
    assert (default_measured.top == RECORDED["exact_top"])[is_clear].mean() >= 0.998


def check_exact(measured: Measured, chosen: list[int]) -> None:
    assert measured.perplexity_ratio(RECORDED["llamacpp_nll"][chosen]) <= 1.002
    assert abs(measured.perplexity_ratio(RECORDED["exact_nll"][chosen]) - 1) <= 0.005
    assert (measured.top == RECORDED["exact_top"][chosen]).mean() >= 0.945


def test_the_exact_mode_on_a_sample(exact_runner: Runner) -> None:
    check_exact(measure(exact_runner, WINDOWS[SAMPLE]), SAMPLE)


@pytest.mark.full
def test_the_exact_mode_on_the_whole_corpus(exact_runner: Runner) -> None:
    check_exact(measure(exact_runner, WINDOWS), list(range(len(WINDOWS))))


def test_our_tokenizer_gives_the_recorded_tokens(starter_model_path: Path) -> None:
    """llama.cpp's own tokenizer cut the corpus when the values were recorded."""
    tokenizer = Tokenizer.from_gguf(gguf.open_model(starter_model_path).metadata)
    tokens = tokenizer.encode((DATA / "corpus.txt").read_text(encoding="utf-8"))
    assert list(tokens[: WINDOWS.size]) == WINDOWS.reshape(-1).tolist()
