"""The float64 reference gives what llama.cpp gives: the yardstick of the engine's tests is checked itself.

The logits of llama.cpp were recorded by `scripts/record_reference.py`, with F32 weights and an F32 cache. It ignores
the sliding window of `llama` files; that one was recorded from the same weights under an architecture where it does
not.
"""

from __future__ import annotations

from pathlib import Path

import gguf_factory
import numpy as np
import pytest
import reference

RECORDED = dict(np.load(Path(__file__).parent / "data" / "llamacpp_logits.npz"))


@pytest.mark.parametrize("name", gguf_factory.FEATURES)
def test_the_reference_agrees_with_llamacpp(name: str, tmp_path: Path) -> None:
    path = gguf_factory.write(gguf_factory.FEATURES[name], tmp_path / "model.gguf")
    logits = reference.forward(path, RECORDED["tokens"].tolist())[RECORDED["positions"]]
    assert np.abs(logits - RECORDED[name]).max() < 1e-4 * RECORDED[name].std()


def test_every_recorded_model_is_compared() -> None:
    assert set(RECORDED) - {"tokens", "positions"} == set(gguf_factory.FEATURES)


def test_features_change_the_logits(tmp_path: Path) -> None:
    """A feature that did nothing on the tiny model would be tested by nothing."""
    for name in ("rope-freqs", "linear", "yarn", "yarn-attention", "yarn-freqs", "window", "base", "scale-linear"):
        difference = np.abs(RECORDED[f"llama-{name}"] - RECORDED["llama-no-base"]).max()
        assert difference > 0.5 * RECORDED["llama-no-base"].std(), name
