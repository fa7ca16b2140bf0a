"""A forward pass in plain numpy and float64, written from the formulas and sharing no code with the engine.

Slow and obvious: one matrix product per tensor, whole sequences only, no cache. Weights are what `gguf` de-quantizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def forward(path: Path, tokens: Sequence[int]) -> Matrix:
    """Logits [tokens, vocabulary] of the model at `path` (a single file) for one sequence."""
    return ReferenceModel(path).forward(tokens)


class ReferenceModel:
    """A GGUF file of the architectures llama, qwen2 and qwen3, all weights as float64."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(str(path))
        self.metadata: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items()}
        self.weights = {
            tensor.name: np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float64)
            for tensor in reader.tensors
        }
        self.architecture = str(self.metadata["general.architecture"])
        self.eps = float(self.key("attention.layer_norm_rms_epsilon"))
        self.num_heads = int(self.key("attention.head_count"))
        self.num_kv_heads = int(self.key("attention.head_count_kv", self.num_heads))
        self.head_dim = int(self.key("attention.key_length", self.key("embedding_length") // self.num_heads))

    def key(self, name: str, default: Any = None) -> Any:
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def forward(self, tokens: Sequence[int]) -> Matrix:
        """Logits [tokens, vocabulary]."""
        x = self.weights["token_embd.weight"][list(tokens)]
        for layer in range(int(self.key("block_count"))):
            block = f"blk.{layer}"
            x = x + self.attention(block, self.norm(x, f"{block}.attn_norm"))
            x = x + self.feed_forward(block, self.norm(x, f"{block}.ffn_norm"))
        x = self.norm(x, "output_norm")
        if "output.weight" in self.weights:
            return self.linear(x, "output")
        return x @ self.weights["token_embd.weight"].T

    def norm(self, x: Matrix, name: str) -> Matrix:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.eps) * self.weights[f"{name}.weight"]

    def linear(self, x: Matrix, name: str) -> Matrix:
        y = x @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def feed_forward(self, block: str, x: Matrix) -> Matrix:
        gate = self.linear(x, f"{block}.ffn_gate")
        silu = gate / (1 + np.exp(-gate))
        return self.linear(silu * self.linear(x, f"{block}.ffn_up"), f"{block}.ffn_down")

    def attention(self, block: str, x: Matrix) -> Matrix:
        num_tokens = len(x)
        q = self.linear(x, f"{block}.attn_q").reshape(num_tokens, self.num_heads, self.head_dim)
        k = self.linear(x, f"{block}.attn_k").reshape(num_tokens, self.num_kv_heads, self.head_dim)
        v = self.linear(x, f"{block}.attn_v").reshape(num_tokens, self.num_kv_heads, self.head_dim)
        if self.architecture == "qwen3":
            q = self.norm(q, f"{block}.attn_q_norm")
            k = self.norm(k, f"{block}.attn_k_norm")
        q, k = self.rotate(q), self.rotate(k)
        visible = self.visible(num_tokens)
        heads = []
        for head in range(self.num_heads):
            kv_head = head // (self.num_heads // self.num_kv_heads)
            scores = q[:, head] @ k[:, kv_head].T / math.sqrt(self.head_dim)
            scores = np.where(visible, scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, kv_head])
        return self.linear(np.concatenate(heads, axis=1), f"{block}.attn_output")

    def visible(self, num_tokens: int) -> NDArray[np.bool_]:
        """[query, key]: which positions a query attends to: none later, and the last `sliding_window` with itself."""
        query, key = np.indices((num_tokens, num_tokens))
        window = int(self.key("attention.sliding_window", 0) or num_tokens)
        return (key <= query) & (query - key < window)

    def rotate(self, x: Matrix) -> Matrix:
        """Rotary embedding of [tokens, heads, head_dim], in the order in which the architecture's rows are stored."""
        angles, magnitude = self.angles(len(x))
        cos, sin = np.cos(angles)[:, None] * magnitude, np.sin(angles)[:, None] * magnitude
        rotated = np.empty_like(x)
        if self.architecture == "llama":
            first, second = slice(0, None, 2), slice(1, None, 2)
        else:
            first, second = slice(0, self.head_dim // 2), slice(self.head_dim // 2, None)
        rotated[..., first] = x[..., first] * cos - x[..., second] * sin
        rotated[..., second] = x[..., first] * sin + x[..., second] * cos
        return rotated

    def angles(self, num_tokens: int) -> tuple[Matrix, float]:
        """Rotation angles [tokens, head_dim / 2] and the factor on cosine and sine.

        YaRN (Peng et al. 2023, arXiv 2309.00071): slow pairs are interpolated, fast ones are not, with a linear ramp
        between the pairs that turn 32 times and once within the original context.
        """
        pairs = np.arange(self.head_dim // 2)
        base = float(self.key("rope.freq_base", 10000.0))
        frequencies = base ** (-2 * pairs / self.head_dim)
        if self.architecture == "llama" and "rope_freqs.weight" in self.weights:
            frequencies = frequencies / self.weights["rope_freqs.weight"]
        kind = self.key("rope.scaling.type", "linear")
        factor = float(self.key("rope.scaling.factor", self.key("rope.scale_linear", 0.0))) or 1.0
        magnitude = float(self.key("rope.scaling.attn_factor", 1.0))
        if kind == "linear":
            frequencies = frequencies / factor
        elif kind == "yarn":
            original = int(self.key("rope.scaling.original_context_length", self.key("context_length")))
            low = max(0, math.floor(self.pair_turning(32, original, base)))
            high = min(self.head_dim - 1, math.ceil(self.pair_turning(1, original, base)))
            kept = 1 - np.clip((pairs - low) / max(0.001, high - low), 0, 1)
            frequencies = frequencies / factor * (1 - kept) + frequencies * kept
            magnitude *= 1 + 0.1 * math.log(max(factor, 1.0))
        else:
            assert kind == "none", kind
        return np.arange(num_tokens)[:, None] * frequencies, magnitude

    def pair_turning(self, times: float, context: int, base: float) -> float:
        """Which pair (a fraction) turns so many times within the context."""
        return self.head_dim * math.log(context / (times * 2 * math.pi)) / (2 * math.log(base))
