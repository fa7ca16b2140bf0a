"""The pure parts of setting peers up."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import hf_folder, vllm
from hodios.engine.gguf import open_model


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**99), max_value=2.0**99))
def test_bfloat16_is_the_nearest_number(value: float) -> None:
    [bits] = hf_folder.to_bfloat16(np.array([value], np.float32))
    around = np.array([max(int(bits) - 1, 0), int(bits), int(bits) + 1], np.uint32) << 16
    below, rounded, above = around.view(np.float32).astype(np.float64)
    assert abs(rounded - value) <= np.nanmin([abs(below - value), abs(above - value)])


def test_pairs_become_halves_head_by_head() -> None:
    rows = np.array([[0], [1], [2], [3], [10], [11], [12], [13]], np.float32)
    assert hf_folder.half_rotated(rows, 2).ravel().tolist() == [0, 2, 1, 3, 10, 12, 11, 13]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_up.weight", "model.layers.7.mlp.up_proj.weight"),
        ("blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert hf_folder.hub_name(name) == expected


def test_requirements_lose_their_conditions_and_what_is_not_needed() -> None:
    lines = [
        "numpy>=2",
        "torch==2.13.0",
        'foo_bar[x]>=1 ; python_version > "3"',
        "llguidance<1.8,>=1.3",
        "TorchAudio",
        "",
    ]
    assert vllm.needed(lines) == ["numpy>=2", "foo_bar[x]>=1"]


def test_the_folder_holds_what_its_header_says(starter_model_path: Path, tmp_path: Path) -> None:
    file = open_model(starter_model_path)
    hf_folder.write(file, tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - size
    entry = header["model.layers.3.mlp.down_proj.weight"]
    start, end = (8 + size + offset for offset in entry["data_offsets"])
    stored = np.frombuffer(data[start:end], np.uint16).astype(np.uint32) << 16
    expected = file.tensors["blk.3.ffn_down.weight"].dequantize()
    assert entry["shape"] == list(expected.shape)
    np.testing.assert_allclose(stored.view(np.float32), expected.ravel(), rtol=2**-8, atol=1e-30)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == file.architecture.num_layers
