"""GGUF files as the engine sees them: an architecture, its metadata, and tensors. Refuses what the engine cannot run.

Reading is the `gguf` package's; this module knows which keys and tensors the Llama family has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from hodios.errors import UnsupportedModel

ELSEWHERE = "serve it with llama.cpp, vLLM or another OpenAI-compatible server instead"
SUPPORTED_TYPES = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
INTERLEAVED_ROPE = {"llama": True, "qwen2": False, "qwen3": False}
"""Architecture → whether its file stores the rows of Q and K in the interleaved order (pairs 2i, 2i+1)."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding. `scaling` is "none", "linear" or "yarn" (arXiv 2309.00071, with its own constants)."""

    base: float
    is_interleaved: bool
    scaling: str = "none"
    factor: float = 1.0
    original_context: int = 0
    attention_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a Llama-family transformer."""

    name: str
    num_layers: int
    hidden: int
    feed_forward: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    vocab_size: int
    rms_epsilon: float
    rope: Rope
    sliding_window: int
    is_tied: bool


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` is (rows, columns); `data` holds raw blocks [rows, bytes] for quantized types, floats for others."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: NDArray[Any]

    def dequantize(self) -> NDArray[np.float32]:
        kind = gguf.GGMLQuantizationType[self.type]
        return np.asarray(gguf.quants.dequantize(self.data, kind), dtype=np.float32).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """One model, whole: all parts of a split file read together."""

    paths: tuple[Path, ...]
    metadata: Mapping[str, object]
    tensors: Mapping[str, Tensor]
    architecture: Architecture

    @property
    def num_parameters(self) -> int:
        return sum(int(np.prod(tensor.shape)) for tensor in self.tensors.values())

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)


def open_model(path: Path) -> GGUFFile:
    """Read and check one model. Raises `UnsupportedModel` with what is missing or cannot be run."""
    paths = split_paths(path)
    readers = [_reader(part) for part in paths]
    metadata = _metadata(path.name, readers[0])
    tensors = {t.name: _tensor(t) for reader in readers for t in reader.tensors}
    declared = metadata.get("split.tensors.count")
    if isinstance(declared, int) and declared != len(tensors):
        raise UnsupportedModel(f"{path.name} declares {declared} tensors in its parts, but they hold {len(tensors)}")
    architecture = _architecture(path.name, metadata, tensors)
    _check_types(path.name, tensors)
    return GGUFFile(tuple(paths), metadata, tensors, architecture)


def split_paths(path: Path) -> list[Path]:
    """All parts of a split model (`name-00001-of-00003.gguf`), or the path itself. Raises where a part is missing."""
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if not match:
        return [path]
    stem, _, total = match.groups()
    parts = [path.with_name(f"{stem}-{number:05d}-of-{total}.gguf") for number in range(1, int(total) + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UnsupportedModel(f"{path.name} is one part of {int(total)}; missing beside it: {', '.join(missing)}")
    return parts


def _reader(path: Path) -> gguf.GGUFReader:
    if not path.is_file():
        raise UnsupportedModel(f"{path} is not a file")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise UnsupportedModel(f"{path.name} is not a whole GGUF file: {error}") from error
    for tensor in reader.tensors:
        if tensor.data_offset + tensor.n_bytes > path.stat().st_size:
            raise UnsupportedModel(f"{path.name} is cut off: tensor {tensor.name} ends beyond the file's end")
    return reader


def _metadata(file: str, reader: gguf.GGUFReader) -> dict[str, object]:
    try:
        return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    except (ValueError, IndexError, KeyError) as error:
        raise UnsupportedModel(f"{file} is damaged: its metadata cannot be read ({error})") from error


def _tensor(tensor: gguf.ReaderTensor) -> Tensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return Tensor(tensor.name, tensor.tensor_type.name, shape, tensor.data)


def _check_types(name: str, tensors: Mapping[str, Tensor]) -> None:
    foreign = sorted({tensor.type for tensor in tensors.values()} - set(SUPPORTED_TYPES))
    if foreign:
        raise UnsupportedModel(
            f"{name} holds tensors of type {', '.join(foreign)}; the engine runs {', '.join(SUPPORTED_TYPES)}. "
            f"Take a file in one of these (Q4_K_M is a good choice), or {ELSEWHERE}."
        )


class _Keys:
    """Typed access to `<architecture>.<key>`; a missing or misshapen value is refused by name."""

    def __init__(self, file: str, prefix: str, metadata: Mapping[str, object]) -> None:
        self.file, self.prefix, self.metadata = file, prefix, metadata

    def number(self, key: str, default: float | None = None) -> float:
        """The value; a list with one entry per layer counts as a number where all entries agree."""
        value = self.metadata.get(f"{self.prefix}.{key}", default)
        if isinstance(value, list) and value and all(entry == value[0] for entry in value):
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UnsupportedModel(f"{self.file}: {self.prefix}.{key} is {_shown(value)}; a single number is needed")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        return int(self.number(key, default))

    def text(self, key: str, default: str) -> str:
        return str(self.metadata.get(f"{self.prefix}.{key}", default))


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


def _architecture(file: str, metadata: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Architecture:
    name = str(metadata.get("general.architecture"))
    if name not in INTERLEAVED_ROPE:
        known = ", ".join(INTERLEAVED_ROPE)
        raise UnsupportedModel(
            f"{file} has the architecture {name!r}; the engine runs {known}. To use it, {ELSEWHERE}."
        )
    keys = _Keys(file, name, metadata)
    if keys.integer("expert_count", 0):
        raise UnsupportedModel(f"{file} is a mixture of experts, which the engine does not run; {ELSEWHERE}.")
    if "token_embd.weight" not in tensors:
        raise UnsupportedModel(f"{file} has no tensor token_embd.weight (a vocabulary without a model?)")
    num_heads, hidden = keys.integer("attention.head_count"), keys.integer("embedding_length")
    architecture = Architecture(
        name=name,
        num_layers=keys.integer("block_count"),
        hidden=hidden,
        feed_forward=keys.integer("feed_forward_length"),
        num_heads=num_heads,
        num_kv_heads=keys.integer("attention.head_count_kv", num_heads),
        head_dim=keys.integer("attention.key_length", hidden // max(num_heads, 1)),
        context_length=keys.integer("context_length"),
        vocab_size=tensors["token_embd.weight"].shape[0],
        rms_epsilon=keys.number("attention.layer_norm_rms_epsilon"),
        rope=_rope(keys, INTERLEAVED_ROPE[name]),
        sliding_window=keys.integer("attention.sliding_window", 0),
        is_tied="output.weight" not in tensors,
    )
    _check_sizes(keys, architecture, len(tensors))
    _check_shapes(file, architecture, tensors)
    return architecture


def _rope(keys: _Keys, is_interleaved: bool) -> Rope:
    factor = keys.number("rope.scaling.factor", 0.0) or keys.number("rope.scale_linear", 0.0) or 1.0
    scaling = keys.text("rope.scaling.type", "linear")
    if scaling not in ("none", "linear", "yarn"):
        raise UnsupportedModel(
            f"{keys.file} scales its rotary embedding by {scaling!r}; the engine knows linear and yarn. "
            f"To use it, {ELSEWHERE}."
        )
    for key, usual in {"yarn_ext_factor": 1.0, "yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0}.items():
        if keys.number(f"rope.scaling.{key}", usual) != usual:
            raise UnsupportedModel(f"{keys.file} declares rope.scaling.{key}; the engine only knows {usual}")
    return Rope(
        base=keys.number("rope.freq_base", 10000.0),
        is_interleaved=is_interleaved,
        scaling=scaling,
        factor=factor,
        original_context=keys.integer("rope.scaling.original_context_length", keys.integer("context_length")),
        attention_factor=keys.number("rope.scaling.attn_factor", 1.0),
    )


def layer_tensors(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Matrices and norms that every layer must have, without the `blk.N.` prefix, and their shapes."""
    queries, keys = arch.num_heads * arch.head_dim, arch.num_kv_heads * arch.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (arch.hidden,),
        "attn_q.weight": (queries, arch.hidden),
        "attn_k.weight": (keys, arch.hidden),
        "attn_v.weight": (keys, arch.hidden),
        "attn_output.weight": (arch.hidden, queries),
        "ffn_norm.weight": (arch.hidden,),
        "ffn_gate.weight": (arch.feed_forward, arch.hidden),
        "ffn_up.weight": (arch.feed_forward, arch.hidden),
        "ffn_down.weight": (arch.hidden, arch.feed_forward),
    }
    if arch.name == "qwen3":
        shapes |= {"attn_q_norm.weight": (arch.head_dim,), "attn_k_norm.weight": (arch.head_dim,)}
    return shapes


def optional_layer_tensors(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The biases a layer may have: one for each matrix."""
    required = layer_tensors(arch).items()
    return {name.replace(".weight", ".bias"): shape[:1] for name, shape in required if len(shape) == 2}


def _check_shapes(file: str, arch: Architecture, tensors: Mapping[str, Tensor]) -> None:
    required: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (arch.vocab_size, arch.hidden),
        "output_norm.weight": (arch.hidden,),
    }
    optional: dict[str, tuple[int, ...]] = {
        "output.weight": (arch.vocab_size, arch.hidden),
        "output.bias": (arch.vocab_size,),
        "rope_freqs.weight": (arch.head_dim // 2,),
    }
    for number in range(arch.num_layers):
        required |= {f"blk.{number}.{name}": shape for name, shape in layer_tensors(arch).items()}
        optional |= {f"blk.{number}.{name}": shape for name, shape in optional_layer_tensors(arch).items()}
    _refuse(file, "lacks the tensors", sorted(set(required) - set(tensors)))
    _refuse(file, "holds tensors the engine does not know:", sorted(set(tensors) - set(required) - set(optional)))
    for name, tensor in tensors.items():
        wanted = (required | optional)[name]
        if tensor.shape != wanted:
            raise UnsupportedModel(f"{file}: {name} has the shape {tensor.shape}; its metadata call for {wanted}")


def _check_sizes(keys: _Keys, arch: Architecture, num_tensors: int) -> None:
    sizes = (arch.num_layers, arch.hidden, arch.feed_forward, arch.num_heads, arch.num_kv_heads, arch.head_dim)
    if min(sizes) < 1 or arch.context_length < 1:
        raise UnsupportedModel(f"{keys.file}: layers, heads and sizes must all be at least 1: {arch}")
    if arch.num_layers > num_tensors:
        raise UnsupportedModel(f"{keys.file} declares {arch.num_layers} layers, but holds only {num_tensors} tensors")
    if arch.num_heads % arch.num_kv_heads:
        raise UnsupportedModel(
            f"{keys.file}: {arch.num_heads} heads do not divide among {arch.num_kv_heads} key-value heads"
        )
    for key in ("rope.dimension_count", "attention.value_length"):
        if keys.integer(key, arch.head_dim) != arch.head_dim or arch.head_dim % 2:
            raise UnsupportedModel(
                f"{keys.file}: {key} is {keys.integer(key)}; the engine needs it equal to the heads' even size, "
                f"{arch.head_dim}. To use it, {ELSEWHERE}."
            )


def _refuse(file: str, verb: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UnsupportedModel(f"{file} {verb} {', '.join(names[:3])}{more}. To use it, {ELSEWHERE}.")
