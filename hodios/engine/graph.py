"""Weights → an OpenVINO graph with paged attention. Together with runner.py the only code that knows OpenVINO.

Inputs, for T tokens of S sequences: `input_ids [T]`, `position_ids [T]`, `logit_rows [R]` (which rows' logits are
wanted), the block tables `past_lens [S]`, `subsequence_begins [S+1]`, `block_indices_begins [S+1]`,
`block_indices [B]`, `max_context_len` (a scalar), and `key_cache.N`, `value_cache.N` per layer.
Output: `logits [R, vocabulary]`.

The paged-attention operation is semi-private in OpenVINO: its 28 inputs are those that
`paged_attention_transformation` wires in the pinned release, where the same graph was compared with ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.op import _PagedAttentionExtension as PagedAttention

from hodios.engine.gguf import Architecture
from hodios.engine.weights import Matrix, Weights

Node = Any
"""An OpenVINO node or output; the package has no useful types for them."""

BLOCK_TABLES = ("past_lens", "subsequence_begins", "block_indices", "block_indices_begins")


def build(weights: Weights) -> ov.Model:
    """The graph over the given arrays, which it shares: keep `weights` alive as long as the model."""
    return _Builder(weights).model()


class _Builder:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.arch = weights.architecture
        self.parameters: list[Node] = []
        self.tables = {name: self._parameter(name, [-1], ov.Type.i32) for name in BLOCK_TABLES}
        self.max_context = self._parameter("max_context_len", [], ov.Type.i32)

    def model(self) -> ov.Model:
        ids = self._parameter("input_ids", [-1], ov.Type.i64)
        positions = self._parameter("position_ids", [-1], ov.Type.i64)
        rows = self._parameter("logit_rows", [-1], ov.Type.i64)
        hidden = self._embed(ids)
        rotation = self._rotation(positions)
        for layer in range(self.arch.num_layers):
            hidden = self._layer(layer, hidden, rotation)
        hidden = self._norm(ops.gather(hidden, rows, _axis(0)), "output_norm.weight")
        head = "output" if "output" in self.weights.matrices else "token_embd"
        logits = self._linear(hidden, head, ["output.bias"])[0]
        result = ops.result(logits)
        result.output(0).set_names({"logits"})
        return ov.Model([result], self.parameters, "hodios")

    def _parameter(self, name: str, shape: Sequence[int], kind: Any) -> Node:
        parameter = ops.parameter(ov.PartialShape(list(shape)), kind, name=name)
        parameter.output(0).set_names({name})
        self.parameters.append(parameter)
        return parameter

    def _layer(self, layer: int, hidden: Node, rotation: tuple[Node, Node]) -> Node:
        prefix = f"blk.{layer}."
        normed = self._norm(hidden, prefix + "attn_norm.weight")
        biases = [prefix + f"attn_{which}.bias" for which in "qkv"]
        query, key, value = self._split(
            self._linear(normed, prefix + "attn_qkv", biases),
            [self.arch.num_heads * self.arch.head_dim, *[self.arch.num_kv_heads * self.arch.head_dim] * 2],
        )
        query = self._rotate(query, self.arch.num_heads, prefix + "attn_q_norm.weight", rotation)
        key = self._rotate(key, self.arch.num_kv_heads, prefix + "attn_k_norm.weight", rotation)
        attended = self._attention(layer, query, key, value)
        hidden = ops.add(hidden, self._linear(attended, prefix + "attn_output", [prefix + "attn_output.bias"])[0])
        normed = self._norm(hidden, prefix + "ffn_norm.weight")
        biases = [prefix + "ffn_gate.bias", prefix + "ffn_up.bias"]
        gate, up = self._split(
            self._linear(normed, prefix + "ffn_gate_up", biases), [self.arch.feed_forward, self.arch.feed_forward]
        )
        activated = ops.multiply(ops.swish(gate), up)
        return ops.add(hidden, self._linear(activated, prefix + "ffn_down", [prefix + "ffn_down.bias"])[0])

    def _embed(self, ids: Node) -> Node:
        """Only the rows asked for are de-quantized."""
        (table,) = self.weights.matrices["token_embd"]
        rows = ops.convert(ops.gather(_constant(table.codes, table), ids, _axis(0)), "f32")
        if table.scales is None:
            return rows
        groups = int(table.scales.shape[1])
        grouped = _reshape(rows, -1, groups, table.columns // groups)
        scaled = ops.multiply(grouped, ops.unsqueeze(ops.gather(_constant(table.scales), ids, _axis(0)), _axis(2)))
        if table.minimums is not None:
            minimums = ops.unsqueeze(ops.gather(_constant(table.minimums), ids, _axis(0)), _axis(2))
            scaled = ops.add(scaled, minimums)
        return _reshape(scaled, -1, table.columns)

    def _norm(self, hidden: Node, name: str) -> Node:
        """RMS norm, in the form that the CPU plugin recognises and runs as one kernel."""
        squares = ops.reduce_mean(ops.power(hidden, np.float32(2)), np.array([-1]), keep_dims=True)
        root = ops.sqrt(ops.add(squares, np.float32(self.arch.rms_epsilon)))
        scaled = ops.multiply(hidden, ops.divide(np.float32(1), root))
        return ops.multiply(_constant(self.weights.vectors[name]), scaled)

    def _linear(self, hidden: Node, name: str, biases: Sequence[str]) -> list[Node]:
        """The product with each matrix held under this name; biases are added where the model has them."""
        products = [_product(hidden, matrix) for matrix in self.weights.matrices[name]]
        rows = [matrix.rows for matrix in self.weights.matrices[name]]
        present = [self.weights.vectors.get(bias) for bias in biases]
        if all(bias is None for bias in present):
            return products
        sizes = self._bias_sizes(name, len(biases))
        whole = np.concatenate(
            [np.zeros(size, np.float32) if bias is None else bias for bias, size in zip(present, sizes, strict=True)]
        )
        begins = np.cumsum([0, *rows])
        return [
            ops.add(product, ops.constant(whole[begins[i] : begins[i + 1]].copy()))
            for i, product in enumerate(products)
        ]

    def _bias_sizes(self, name: str, count: int) -> list[int]:
        total = sum(matrix.rows for matrix in self.weights.matrices[name])
        if count == 3:
            keys = self.arch.num_kv_heads * self.arch.head_dim
            return [total - 2 * keys, keys, keys]
        return [total // count] * count

    def _split(self, products: list[Node], sizes: Sequence[int]) -> list[Node]:
        if len(products) > 1:
            return products
        return list(ops.variadic_split(products[0], _axis(-1), np.array(sizes)).outputs())

    def _rotation(self, positions: Node) -> tuple[Node, Node]:
        """cos and sin, each [T, 1, 1, head_dim]."""
        shaped = ops.unsqueeze(ops.convert(positions, "f32"), np.array([1, 2, 3]))
        frequencies = rotary_frequencies(self.arch, self.weights.vectors).reshape(1, 1, 1, -1)
        angles = ops.multiply(shaped, ops.constant(frequencies.astype(np.float32)))
        both = ops.concat([angles, angles], -1)
        return ops.cos(both), ops.sin(both)

    def _rotate(self, heads: Node, count: int, norm: str, rotation: tuple[Node, Node]) -> Node:
        """Half-rotated RoPE over [T, heads · head_dim], after the per-head norm where the model has one."""
        size = self.arch.head_dim
        shaped = _reshape(heads, -1, 1, count, size)
        if norm in self.weights.vectors:
            shaped = self._norm(shaped, norm)
        shaped = ops.transpose(shaped, np.array([0, 2, 1, 3]))
        first, second = ops.variadic_split(shaped, _axis(3), np.array([size // 2, size // 2])).outputs()
        turned = ops.concat([ops.multiply(second, np.float32(-1)), first], -1)
        rotated = ops.add(ops.multiply(shaped, rotation[0]), ops.multiply(turned, rotation[1]))
        return _reshape(ops.transpose(rotated, np.array([0, 2, 1, 3])), -1, count * size)

    def _attention(self, layer: int, query: Node, key: Node, value: Node) -> Node:
        caches = [
            self._parameter(f"{which}_cache.{layer}", [-1, -1, -1, -1], ov.Type.dynamic) for which in ("key", "value")
        ]
        scale = attention_scale(self.arch)
        integers, floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
        node = PagedAttention(
            [
                *(_output(each) for each in (query, key, value, *caches)),
                *(self.tables[name].output(0) for name in BLOCK_TABLES),
                *_outputs(np.float32(scale), np.int32(self.arch.sliding_window), floats),
                self.max_context.output(0),
                *_outputs(integers, integers, integers, floats, floats, np.int32(0), np.int32(0)),
                *_outputs(np.zeros((0, 0, 0, 0), np.float32), np.int32(0), *[integers] * 4),
                *_outputs(np.zeros(0, np.uint8), integers),
            ]
        )
        information = node.get_rt_info()
        for which in ("k", "v"):
            information[f"num_{which}_heads"] = self.arch.num_kv_heads
            information[f"{which}_head_size"] = self.arch.head_dim
        return node.output(0)


def attention_scale(arch: Architecture) -> float:
    """1/√d; YaRN's magnitude multiplies queries and keys alike, so its square stands here, not on the rotation."""
    magnitude = arch.rope.attention_factor
    if arch.rope.scaling == "yarn" and arch.rope.factor > 1:
        magnitude *= 1 + 0.1 * math.log(arch.rope.factor)
    return magnitude**2 / math.sqrt(arch.head_dim)


def rotary_frequencies(arch: Architecture, vectors: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Radians per position for each of head_dim / 2 pairs, scaled as the file declares (llama.cpp, `rope_yarn`)."""
    rope, half = arch.rope, arch.head_dim // 2
    frequencies: NDArray[np.float64] = rope.base ** (-np.arange(half, dtype=np.float64) / half)
    if "rope_freqs.weight" in vectors:
        frequencies = frequencies / vectors["rope_freqs.weight"].astype(np.float64)
    if rope.scaling == "linear":
        return frequencies / rope.factor
    if rope.scaling == "yarn":
        low, high = (_yarn_boundary(arch, turns) for turns in (32.0, 1.0))
        low, high = max(0.0, math.floor(low)), min(arch.head_dim - 1.0, math.ceil(high))
        ramp: NDArray[np.float64] = 1 - np.clip((np.arange(half) - low) / max(0.001, high - low), 0, 1)
        return frequencies * ((1 - ramp) / rope.factor + ramp)
    return frequencies


def _yarn_boundary(arch: Architecture, turns: float) -> float:
    """The pair that turns so often within the original context."""
    context = arch.rope.original_context
    return arch.head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(arch.rope.base))


def _product(hidden: Node, matrix: Matrix) -> Node:
    """hidden · weightᵀ. Minimums are a second, small product over the sums of the input's groups.

    A float zero point in the matrix itself would be as exact, but leaves the plugin's fast integer path.
    """
    codes = _constant(matrix.codes, matrix)
    if matrix.scales is None:
        return ops.matmul(hidden, ops.convert(codes, "f32"), False, True)
    groups = int(matrix.scales.shape[1])
    if groups == 1 and not matrix.is_four_bit and matrix.minimums is None:
        weight = ops.multiply(ops.convert(codes, "f32"), _constant(matrix.scales))
        return ops.matmul(hidden, weight, False, True)
    size = matrix.columns // groups
    values = ops.convert(codes if matrix.is_four_bit else _reshape(codes, matrix.rows, groups, size), "f32")
    if matrix.is_four_bit:
        zero_point = ops.constant(np.array([[[8]]], np.uint8), dtype=ov.Type.u4)
        values = ops.subtract(values, ops.convert(zero_point, "f32"))
    scaled = ops.multiply(values, _constant(matrix.scales[:, :, None]))
    product = ops.matmul(hidden, _reshape(scaled, matrix.rows, matrix.columns), False, True)
    if matrix.minimums is None:
        return product
    sums = ops.reduce_sum(_reshape(hidden, -1, groups, size), np.array([2]), keep_dims=False)
    return ops.add(product, ops.matmul(sums, _constant(matrix.minimums), False, True))


def _constant(array: NDArray[Any], matrix: Matrix | None = None) -> Node:
    """A constant over the array's own memory."""
    if matrix is not None and matrix.is_four_bit:
        groups = 1 if matrix.scales is None else int(matrix.scales.shape[1])
        return _four_bits(array, (matrix.rows, groups, matrix.columns // groups))
    if matrix is not None and matrix.is_bfloat16:
        return ops.constant(ov.Tensor(array, ov.Shape(list(array.shape)), ov.Type.bf16), shared_memory=True)
    if matrix is not None and array.ndim == 2 and matrix.scales is not None and matrix.scales.shape[1] > 1:
        groups = int(matrix.scales.shape[1])
        array = array.reshape(matrix.rows, groups * (matrix.columns // groups))
    return ops.constant(array, shared_memory=True)


def _four_bits(array: NDArray[np.uint8], shape: tuple[int, int, int]) -> Node:
    return ops.constant(ov.Tensor(array, ov.Shape(list(shape)), ov.Type.u4), shared_memory=True)


def _reshape(node: Node, *shape: int) -> Node:
    return ops.reshape(node, np.array(shape, np.int64), special_zero=False)


def _axis(number: int) -> Node:
    return ops.constant(np.int64(number))


def _output(node: Node) -> Node:
    return node.output(0) if hasattr(node, "output") else node


def _outputs(*values: Any) -> list[Node]:
    return [ops.constant(value).output(0) for value in values]
