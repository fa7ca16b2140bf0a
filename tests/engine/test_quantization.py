"""Codes, scales and minimums give back exactly what ggml's own de-quantizer gives."""

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.gguf import SUPPORTED_TYPES
from hodios.engine.quantization import group_codes, is_quantized

QUANTIZED = [kind for kind in SUPPORTED_TYPES if is_quantized(kind)]
HALF_FIELDS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def random_blocks(kind: str, rows: int, seed: int) -> tuple[np.ndarray, int]:
    """Random bytes for `rows` rows of two blocks each, with finite half-precision fields."""
    rng = np.random.default_rng(seed)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = rng.integers(0, 256, (rows * 2, size), dtype=np.uint8)
    for offset in HALF_FIELDS.get(kind, (0, 2) if kind.endswith("_1") else (0,)):
        data[:, offset : offset + 2] = rng.normal(0, 0.1, (rows * 2, 1)).astype(np.float16).view(np.uint8)
    return data.reshape(rows, 2 * size), 2 * block


@pytest.mark.parametrize("kind", QUANTIZED)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_blocks_come_back_exactly(kind: str, seed: int) -> None:
    data, columns = random_blocks(kind, rows=3, seed=seed)
    grouped = group_codes(kind, data, columns)
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(grouped.dequantize(), expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())
    assert grouped.codes.dtype == np.int8
    if grouped.is_four_bit:
        assert grouped.codes.min() >= -8
        assert grouped.codes.max() <= 7
