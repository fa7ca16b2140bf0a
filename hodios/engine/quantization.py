"""GGUF block formats taken apart: integer codes, one scale and one minimum per group. Exact, no rounding of its own.

Every quantized weight is `scale · code + minimum`, with a signed code. Layouts: ggml's block structs (ggml-common.h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Grouped(NamedTuple):
    """A matrix `[rows, columns]` in groups along its columns: `weight = scales · codes + minimums`."""

    codes: NDArray[np.int8]
    """[rows, columns]"""
    scales: Floats
    """[rows, columns / group]"""
    minimums: Floats | None
    """[rows, columns / group], None where all are zero"""
    is_four_bit: bool
    """Whether all codes lie in −8 … 7."""

    @property
    def group(self) -> int:
        return int(self.codes.shape[1]) // int(self.scales.shape[1])

    def dequantize(self) -> Floats:
        weight = self.codes.astype(np.float32) * np.repeat(self.scales, self.group, axis=1)
        return weight if self.minimums is None else weight + np.repeat(self.minimums, self.group, axis=1)


class _Blocks(NamedTuple):
    codes: NDArray[np.int8]
    """[blocks, groups, group size]"""
    scales: Floats
    """[blocks, groups]"""
    minimums: Floats | None


def group_codes(kind: str, data: Bytes, columns: int) -> Grouped:
    """Take apart raw blocks `[rows, bytes]` of a quantized type. Raises KeyError for types that are not quantized."""
    size, bits, decode = _FORMATS[kind]
    rows = data.shape[0]
    blocks = decode(data.reshape(-1, size))
    minimums = None if blocks.minimums is None else blocks.minimums.reshape(rows, -1)
    return Grouped(blocks.codes.reshape(rows, columns), blocks.scales.reshape(rows, -1), minimums, bits <= 4)


def is_quantized(kind: str) -> bool:
    return kind in _FORMATS


def is_four_bit(kind: str) -> bool:
    """Whether a matrix of this type is held in 4-bit codes where its groups are kept."""
    return kind in _FORMATS and _FORMATS[kind][1] <= 4


def _half(data: Bytes) -> Floats:
    return np.ascontiguousarray(data).view(np.float16).astype(np.float32)


def _nibbles(data: Bytes) -> NDArray[np.uint8]:
    """[blocks, n] bytes → [blocks, 2n]: all low halves, then all high halves."""
    return np.concatenate([data & 15, data >> 4], axis=1)


def _fifth_bits(data: Bytes) -> NDArray[np.uint8]:
    """[blocks, 4] bytes → [blocks, 32] bits, lowest first."""
    return np.unpackbits(np.ascontiguousarray(data), axis=1, bitorder="little")


def _signed(codes: NDArray[Any], offset: int) -> NDArray[np.int8]:
    return (codes.astype(np.int8) - np.int8(offset)).astype(np.int8)


def _one_group(codes: NDArray[np.int8], scales: Floats, minimums: Floats | None = None) -> _Blocks:
    return _Blocks(codes[:, None, :], scales, minimums)


def _q4_0(data: Bytes) -> _Blocks:
    return _one_group(_signed(_nibbles(data[:, 2:]), 8), _half(data[:, :2]))


def _q4_1(data: Bytes) -> _Blocks:
    scales, minimums = _half(data[:, :2]), _half(data[:, 2:4])
    return _one_group(_signed(_nibbles(data[:, 4:]), 8), scales, minimums + 8 * scales)


def _q5_0(data: Bytes) -> _Blocks:
    codes = _nibbles(data[:, 6:]) | _fifth_bits(data[:, 2:6]) << 4
    return _one_group(_signed(codes, 16), _half(data[:, :2]))


def _q5_1(data: Bytes) -> _Blocks:
    codes = _nibbles(data[:, 8:]) | _fifth_bits(data[:, 4:8]) << 4
    scales, minimums = _half(data[:, :2]), _half(data[:, 2:4])
    return _one_group(_signed(codes, 16), scales, minimums + 16 * scales)


def _q8_0(data: Bytes) -> _Blocks:
    return _one_group(np.ascontiguousarray(data[:, 2:]).view(np.int8), _half(data[:, :2]))


def _two_bit_planes(data: Bytes) -> NDArray[Any]:
    """[blocks, 64] bytes → [blocks, 256] two-bit codes: each 32 bytes hold four runs of 32 codes."""
    halves = data.reshape(-1, 2, 1, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    return ((halves >> shifts) & 3).reshape(-1, 256)


def _q2_k(data: Bytes) -> _Blocks:
    nibbles, codes = data[:, :16], _two_bit_planes(data[:, 16:80])
    super_scale, super_minimum = _half(data[:, 80:82]), _half(data[:, 82:84])
    scales, minimums = super_scale * (nibbles & 15), super_minimum * (nibbles >> 4)
    return _Blocks(codes.astype(np.int8).reshape(-1, 16, 16), scales, -minimums)


def _q3_k(data: Bytes) -> _Blocks:
    low = _two_bit_planes(data[:, 32:96])
    mask = data[:, None, :32] >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    codes = _signed(low | ((mask & 1) << 2).reshape(-1, 256), 4)
    packed = data[:, 96:108]
    low_bits = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    high_bits = (packed[:, None, 8:12] >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 4, 1)) & 3
    six_bit = (low_bits | high_bits.reshape(-1, 16) << 4).astype(np.int8) - np.int8(32)
    scales = _half(data[:, 108:110]) * six_bit.astype(np.float32)
    return _Blocks(codes.reshape(-1, 16, 16), scales, None)


def _six_bit_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """[blocks, 12] bytes → eight scales and eight minimums of six bits."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6) << 4], axis=1)
    minimums = np.concatenate([second & 63, (third >> 4) | (second >> 6) << 4], axis=1)
    return scales.astype(np.float32), minimums.astype(np.float32)


def _nibble_runs(data: Bytes) -> NDArray[Any]:
    """[blocks, 128] bytes → [blocks, 8, 32]: each 32 bytes hold a run of low halves, then one of high halves."""
    runs = data.reshape(-1, 4, 1, 32)
    shifts = np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    return ((runs >> shifts) & 15).reshape(-1, 8, 32)


def _q4_k(data: Bytes) -> _Blocks:
    return _k_with_minimums(data, _nibble_runs(data[:, 16:]), 8)


def _q5_k(data: Bytes) -> _Blocks:
    high = (data[:, None, 16:48] >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)) & 1
    return _k_with_minimums(data, _nibble_runs(data[:, 48:]) | high << 4, 16)


def _k_with_minimums(data: Bytes, codes: NDArray[Any], offset: int) -> _Blocks:
    factors, offsets = _six_bit_scales(data[:, 4:16])
    scales, minimums = _half(data[:, :2]) * factors, _half(data[:, 2:4]) * offsets
    return _Blocks(_signed(codes, offset), scales, offset * scales - minimums)


def _q6_k(data: Bytes) -> _Blocks:
    low = data[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    high = data[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    codes = (low & 15).reshape(-1, 256) | ((high & 3) << 4).reshape(-1, 256)
    factors = np.ascontiguousarray(data[:, 192:208]).view(np.int8).astype(np.float32)
    return _Blocks(_signed(codes, 32).reshape(-1, 16, 16), _half(data[:, 208:210]) * factors, None)


_FORMATS: dict[str, tuple[int, int, Callable[[Bytes], _Blocks]]] = {
    "Q4_0": (18, 4, _q4_0),
    "Q4_1": (20, 4, _q4_1),
    "Q5_0": (22, 5, _q5_0),
    "Q5_1": (24, 5, _q5_1),
    "Q8_0": (34, 8, _q8_0),
    "Q2_K": (84, 2, _q2_k),
    "Q3_K": (110, 3, _q3_k),
    "Q4_K": (144, 4, _q4_k),
    "Q5_K": (176, 5, _q5_k),
    "Q6_K": (210, 6, _q6_k),
}
"""Type → bytes in a block, bits in a code, how to take it apart."""
