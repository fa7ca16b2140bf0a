"""What becomes of a file's tensors: their representation, order and size, for every type and in both modes."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import gguf_factory
import numpy as np
import pytest
from gguf_factory import TinyModel
from numpy.typing import NDArray

from hodios.engine import weights
from hodios.engine.gguf import GGUFFile, open_model
from hodios.engine.quantization import is_quantized
from hodios.engine.weights import Matrix, Weights

SMALL = TinyModel(num_layers=1, num_heads=8, num_kv_heads=2, is_tied=False, vocab=300)
EXACT_LABELS = {
    **{"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "int8 in groups of 32"},
    **{"Q4_0": "4-bit in groups of 32", "Q4_1": "4-bit in groups of 32"},
    **{"Q5_0": "int8 in groups of 32", "Q5_1": "int8 in groups of 32"},
    **{"Q2_K": "4-bit in groups of 16", "Q3_K": "4-bit in groups of 16", "Q4_K": "4-bit in groups of 32"},
    **{"Q5_K": "int8 in groups of 32", "Q6_K": "int8 in groups of 16"},
}
WITH_MINIMUMS = {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"}


def opened(model: TinyModel, folder: Path) -> GGUFFile:
    return open_model(gguf_factory.write(model, folder / "model.gguf"))


def packed(file: GGUFFile, folder: Path, *, is_exact: bool) -> Weights:
    target = folder / f"packed-{is_exact}"
    target.mkdir()
    weights.pack(file, target, is_exact=is_exact, weights_hash="abc")
    return weights.load(target)


def values(matrix: Matrix) -> NDArray[np.float32]:
    """[rows, columns], by the definition in `Matrix`."""
    codes = matrix.codes
    if matrix.is_bfloat16:
        return (codes.astype(np.uint32) << 16).view(np.float32)
    if matrix.is_four_bit:
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(matrix.rows, matrix.columns).astype(np.int8) - 8
    numbers = codes.astype(np.float32)
    if matrix.scales is None:
        return numbers
    numbers *= np.repeat(matrix.scales, matrix.columns // matrix.scales.shape[1], axis=1)
    if matrix.minimums is not None:
        numbers += np.repeat(matrix.minimums, matrix.columns // matrix.minimums.shape[1], axis=1)
    return numbers


def turned(rows: NDArray[np.float32], head_dim: int) -> NDArray[np.float32]:
    """Heads in half-rotated order, written out: first all even rows of a head, then all odd ones."""
    heads = [rows[start : start + head_dim] for start in range(0, len(rows), head_dim)]
    return np.concatenate([part for head in heads for part in (head[0::2], head[1::2])])


def expected(file: GGUFFile, name: str) -> NDArray[np.float32]:
    arch = file.architecture
    prefix, _, kind = name.rpartition(".")
    if kind not in weights.FUSED:
        return file.tensors[f"{name}.weight"].dequantize()
    parts = []
    for member in weights.FUSED[kind]:
        rows = file.tensors[f"{prefix}.{member}.weight"].dequantize()
        is_turned = member in ("attn_q", "attn_k") and arch.rope.is_interleaved
        parts.append(turned(rows, arch.head_dim) if is_turned else rows)
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", gguf_factory.WEIGHT_TYPES)
def test_exact_mode_rounds_nothing(kind: str, tmp_path: Path) -> None:
    file = opened(replace(SMALL, weight_type=kind), tmp_path)
    held = packed(file, tmp_path, is_exact=True)
    assert set(held.matrices) == {"token_embd", "output", *(f"blk.0.{name}" for name in weights.FUSED)}
    for name, parts in held.matrices.items():
        (matrix,) = parts
        wanted = expected(file, name)
        np.testing.assert_allclose(values(matrix), wanted, rtol=3e-6, atol=3e-6 * np.abs(wanted).max())
        assert (matrix.minimums is not None) == (kind in WITH_MINIMUMS)
        label = EXACT_LABELS[kind] if name != "token_embd" else EXACT_LABELS[kind].replace("4-bit", "int8")
        assert matrix.label == label


@pytest.mark.parametrize("kind", gguf_factory.WEIGHT_TYPES)
def test_fast_mode_is_int8_in_groups(kind: str, tmp_path: Path) -> None:
    file = opened(replace(SMALL, weight_type=kind), tmp_path)
    held = packed(file, tmp_path, is_exact=False)
    for name, parts in held.matrices.items():
        (matrix,) = parts
        assert matrix.label == "int8 in groups of 64"
        wanted = expected(file, name)
        step = np.abs(wanted.reshape(matrix.rows, -1, 64)).max(axis=2) / 127
        assert np.all(np.abs(values(matrix) - wanted) <= 0.5001 * np.repeat(step, 64, axis=1))
        assert np.abs(matrix.codes.astype(np.int16)).max() == 127
    assert held.representation == "6 × int8 in groups of 64"


def test_rows_that_do_not_divide_have_one_scale(tmp_path: Path) -> None:
    file = opened(gguf_factory.FEATURES["llama-narrow"], tmp_path)
    (matrix,) = packed(file, tmp_path, is_exact=False).matrices["blk.0.ffn_down"]
    assert (matrix.columns, matrix.label) == (160, "int8 per row")
    wanted = expected(file, "blk.0.ffn_down")
    assert np.all(np.abs(values(matrix) - wanted) <= 0.5001 * np.abs(wanted).max(axis=1, keepdims=True) / 127)


def test_large_models_keep_their_groups_in_fast_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGE_PARAMETERS", 1000)
    file = opened(replace(SMALL, weight_type="Q4_0", tensor_types={"ffn_down": "F16"}), tmp_path)
    held = packed(file, tmp_path, is_exact=False)
    assert held.matrices["blk.0.attn_qkv"][0].label == "4-bit in groups of 32"
    assert held.matrices["blk.0.ffn_down"][0].label == "int8 in groups of 64", "floats are still rounded"


def test_rows_of_zeros_stay_zero(tmp_path: Path) -> None:
    file = opened(SMALL, tmp_path)
    embedding = file.tensors["token_embd.weight"]
    data = embedding.data.copy()
    data[7] = 0
    zeroed = replace(file, tensors={**file.tensors, embedding.name: replace(embedding, data=data)})
    (matrix,) = packed(zeroed, tmp_path, is_exact=False).matrices["token_embd"]
    assert not values(matrix)[7].any()
    assert np.isfinite(values(matrix)).all()


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_half_rotated_files_are_not_turned(name: str, tmp_path: Path) -> None:
    file = opened(gguf_factory.FEATURES[name], tmp_path)
    (matrix,) = packed(file, tmp_path, is_exact=True).matrices["blk.1.attn_qkv"]
    parts = [file.tensors[f"blk.1.attn_{which}.weight"].dequantize() for which in "qkv"]
    np.testing.assert_array_equal(values(matrix), np.concatenate(parts))


@pytest.mark.parametrize("is_exact", [False, True])
def test_biases_are_turned_like_their_rows(is_exact: bool, tmp_path: Path) -> None:
    file = opened(gguf_factory.FEATURES["llama-biases"], tmp_path)
    held = packed(file, tmp_path, is_exact=is_exact)
    for name, tensor in file.tensors.items():
        if len(tensor.shape) == 1:
            wanted = tensor.dequantize()
            if name.endswith(("attn_q.bias", "attn_k.bias")):
                wanted = turned(wanted, file.architecture.head_dim)
            np.testing.assert_array_equal(held.vectors[name], wanted, err_msg=name)


def test_biases_of_half_rotated_files_are_left_alone(tmp_path: Path) -> None:
    file = opened(gguf_factory.FEATURES["qwen2"], tmp_path)
    held = packed(file, tmp_path, is_exact=True)
    name = "blk.0.attn_q.bias"
    np.testing.assert_array_equal(held.vectors[name], file.tensors[name].dequantize())


def test_unlike_tensors_are_held_one_by_one(tmp_path: Path) -> None:
    """Q4_K_M files hold V in six bits beside Q and K in four."""
    model = replace(SMALL, weight_type="Q4_K", tensor_types={"attn_v": "Q6_K", "ffn_up": "Q5_K"})
    file = opened(model, tmp_path)
    held = packed(file, tmp_path, is_exact=True)
    labels = [matrix.label for matrix in held.matrices["blk.0.attn_qkv"]]
    assert labels == ["4-bit in groups of 32", "4-bit in groups of 32", "int8 in groups of 16"]
    assert [matrix.label for matrix in held.matrices["blk.0.ffn_gate_up"]] == [labels[0], "int8 in groups of 32"]
    for name in ("blk.0.attn_qkv", "blk.0.ffn_gate_up"):
        together = np.concatenate([values(matrix) for matrix in held.matrices[name]])
        np.testing.assert_allclose(together, expected(file, name), rtol=3e-6, atol=1e-6)
    assert len(packed(file, tmp_path, is_exact=False).matrices["blk.0.attn_qkv"]) == 1, "int8 rows are all alike"


def test_groups_with_and_without_minimums_are_not_mixed(tmp_path: Path) -> None:
    file = opened(replace(SMALL, weight_type="Q4_0", tensor_types={"attn_k": "Q4_1"}), tmp_path)
    parts = packed(file, tmp_path, is_exact=True).matrices["blk.0.attn_qkv"]
    assert [part.minimums is not None for part in parts] == [False, True, False]


@pytest.mark.parametrize("kind", ["Q4_1", "Q2_K", "Q8_0", "F16"])
def test_a_tied_head_is_packed_where_that_is_four_bits(kind: str, tmp_path: Path) -> None:
    file = opened(replace(SMALL, is_tied=True, weight_type=kind), tmp_path)
    assert "output" not in packed(file, tmp_path, is_exact=False).matrices
    exact = packed(file, tmp_path, is_exact=True).matrices
    assert ("output" in exact) == (kind in ("Q4_1", "Q2_K"))
    if "output" in exact:
        np.testing.assert_array_equal(values(exact["output"][0]), values(exact["token_embd"][0]))


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("kind", [*gguf_factory.WEIGHT_TYPES, "mixed"])
def test_the_size_is_known_before(kind: str, is_exact: bool, is_tied: bool, tmp_path: Path) -> None:
    model = gguf_factory.TYPES["mixed"] if kind == "mixed" else replace(SMALL, weight_type=kind)
    file = opened(replace(model, is_tied=is_tied), tmp_path)
    held = packed(file, tmp_path, is_exact=is_exact)
    size = (tmp_path / f"packed-{is_exact}" / "weights.bin").stat().st_size
    assert weights.packed_bytes(file, is_exact=is_exact) == pytest.approx(size, rel=0.01)
    assert held.num_bytes == pytest.approx(size, rel=0.01)


def test_every_quantized_type_is_tried_here() -> None:
    assert {kind for kind in gguf_factory.WEIGHT_TYPES if is_quantized(kind)} == set(EXACT_LABELS) - {
        "F32",
        "F16",
        "BF16",
    }


def test_what_is_loaded_outlives_everything_else(tmp_path: Path) -> None:
    """The arrays are views of the mapping: it must stay while one of them is there, even if the file is gone."""
    file = opened(replace(SMALL, weight_type="Q4_1"), tmp_path)
    held = packed(file, tmp_path, is_exact=True)
    before = values(held.matrices["output"][0])
    codes, scales = held.matrices["output"][0].codes, held.matrices["output"][0].scales
    (tmp_path / "packed-True" / "weights.bin").unlink()
    del held, file
    gc.collect()
    np.testing.assert_array_equal(values(Matrix(codes, scales, None)).shape, before.shape)
    assert codes.ctypes.data % 64 == 0, "aligned for vector loads"


def test_all_else_comes_back_too(tmp_path: Path) -> None:
    file = opened(gguf_factory.FEATURES["llama-yarn-attention"], tmp_path)
    held = packed(file, tmp_path, is_exact=True)
    assert held.architecture == file.architecture
    assert (held.is_exact, held.weights_hash) == (True, "abc")
    for array in [matrix.codes for parts in held.matrices.values() for matrix in parts]:
        assert array.flags.writeable, "the runtime takes no read-only memory"
        array.reshape(-1)[0] = array.reshape(-1)[0]


def test_writing_to_the_arrays_leaves_the_file_alone(tmp_path: Path) -> None:
    file = opened(SMALL, tmp_path)
    held = packed(file, tmp_path, is_exact=False)
    path = tmp_path / "packed-False" / "weights.bin"
    before = path.read_bytes()
    held.matrices["token_embd"][0].codes[...] = 1
    assert path.read_bytes() == before
