"""Tiny random GGUF files: one per architecture feature and per quantization type, and files that must be refused.

Everything follows from a `TinyModel` and its seed, so the same description always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

WEIGHT_TYPES = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

WINDOWED_TWIN = "granite_swa"
"""An architecture of llama.cpp that computes what `llama` does and, unlike it, honours the sliding window."""

Value = str | int | float | bool | list[int] | list[bool]
Array = NDArray[np.generic]


@dataclass(frozen=True)
class TinyModel:
    """What a file shall hold. `metadata` keys are without the architecture's prefix; None removes the key."""

    architecture: str = "llama"
    hidden: int = 256
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int | None = None
    """Written as key_length and value_length; None leaves both keys out (hidden / heads)."""
    feed_forward: int = 512
    vocab: int = 320
    context: int = 512
    weight_type: str = "F32"
    tensor_types: Mapping[str, str] = field(default_factory=dict)
    """Types of single tensors, by a part of their name; the first part that is found counts."""
    is_tied: bool = True
    biases: tuple[str, ...] = ()
    """Tensors that get a bias, such as `attn_q`, or `output` for the head."""
    has_rope_freqs: bool = False
    metadata: Mapping[str, Value | None] = field(default_factory=dict)
    seed: int = 1

    @property
    def actual_head_dim(self) -> int:
        return self.head_dim or self.hidden // self.num_heads


def write(model: TinyModel, path: Path, *, split_tensors: int = 0, drop: str | None = None) -> Path:
    """Write the file and return the path to open. With `split_tensors` there are several files of so many tensors each.

    `drop` leaves one tensor out.
    """
    writer = gguf.GGUFWriter(str(path), model.architecture, split_max_tensors=split_tensors)
    for key, value in _metadata(model).items():
        if value is not None:
            _add_value(writer, key, value)
    _add_tokenizer(writer, model.vocab)
    for name, (data, weight_type) in _tensors(model).items():
        if name != drop:
            writer.add_tensor(name, data, raw_dtype=weight_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf")) if split_tensors else path


def windowed_twin(model: TinyModel) -> TinyModel:
    """The same weights in a file whose window llama.cpp does not ignore."""
    layers = model.num_layers
    more: dict[str, Value | None] = {
        "attention.sliding_window_pattern": [True] * layers,
        "attention.rope_pattern": [True] * layers,
        "deepstack_mapping": [-1] * layers,
        "logit_scale": 1.0,
        "rope.freq_base_swa": 10000.0,
    }
    return replace(model, architecture=WINDOWED_TWIN, metadata={**model.metadata, **more})


def _metadata(model: TinyModel) -> dict[str, Value | None]:
    keys: dict[str, Value | None] = {
        "block_count": model.num_layers,
        "context_length": model.context,
        "embedding_length": model.hidden,
        "feed_forward_length": model.feed_forward,
        "attention.head_count": model.num_heads,
        "attention.head_count_kv": model.num_kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "vocab_size": model.vocab,
    }
    if model.head_dim is not None:
        keys |= {"attention.key_length": model.head_dim, "attention.value_length": model.head_dim}
    keys |= model.metadata
    named = {f"{model.architecture}.{key}": value for key, value in keys.items()}
    return {"general.name": f"tiny {model.architecture}", "general.license": "apache-2.0"} | named


def _add_value(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case str():
            writer.add_string(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case list():
            writer.add_array(key, value)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in order of the byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    substitutes = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(substitutes)) for byte in range(256)]


def _merges(count: int) -> list[str]:
    """Merges whose results are distinct tokens; the common ones come first."""
    firsts = ["Ġ t", "h e", "i n", "r e", "o n", "Ġ a", "e r", "a t", "n d", "o r", "e s", "Ġ s", "Ġt he", "in g"]
    more = [f"{left} {right}" for left in "bcdfglmnpqstvw" for right in "aeiouy" if f"{left} {right}" not in firsts]
    return (firsts + more)[:count]


def _add_tokenizer(writer: gguf.GGUFWriter, vocab: int) -> None:
    merges = _merges(vocab - 256 - len(CONTROL_TOKENS))
    tokens = [*CONTROL_TOKENS, *byte_alphabet(), *(merge.replace(" ", "") for merge in merges)]
    assert len(tokens) == len(set(tokens)) == vocab, (len(tokens), vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL_TOKENS) + [1] * (vocab - len(CONTROL_TOKENS)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(model: TinyModel) -> dict[str, tuple[Array, GGMLQuantizationType]]:
    """Every tensor of the model, in file order. Matrices are [out, in]; norms and biases are always F32."""
    rng = np.random.default_rng(model.seed)
    tensors: dict[str, tuple[Array, GGMLQuantizationType]] = {}

    def matrix(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        types = [chosen for part, chosen in model.tensor_types.items() if part in name]
        weight_type = GGMLQuantizationType[(types or [model.weight_type])[0]]
        tensors[f"{name}.weight"] = (random_matrix(rng, rows, columns, weight_type, gain), weight_type)
        if name.split(".")[-1] in model.biases:
            tensors[f"{name}.bias"] = (_normal(rng, rows) * np.float32(0.3), GGMLQuantizationType.F32)

    def norm(name: str, size: int) -> None:
        tensors[name] = (1 + np.float32(0.2) * _normal(rng, size), GGMLQuantizationType.F32)

    query_rows = model.num_heads * model.actual_head_dim
    kv_rows = model.num_kv_heads * model.actual_head_dim
    matrix("token_embd", model.vocab, model.hidden, gain=1.0 if not model.is_tied else 2.0)
    if model.has_rope_freqs:
        factors = np.geomspace(1, 8, model.actual_head_dim // 2).astype(np.float32)
        tensors["rope_freqs.weight"] = (factors, GGMLQuantizationType.F32)
    for layer in range(model.num_layers):
        norm(f"blk.{layer}.attn_norm.weight", model.hidden)
        matrix(f"blk.{layer}.attn_q", query_rows, model.hidden, gain=1.6)
        matrix(f"blk.{layer}.attn_k", kv_rows, model.hidden, gain=1.6)
        matrix(f"blk.{layer}.attn_v", kv_rows, model.hidden)
        if model.architecture == "qwen3":
            norm(f"blk.{layer}.attn_q_norm.weight", model.actual_head_dim)
            norm(f"blk.{layer}.attn_k_norm.weight", model.actual_head_dim)
        if model.architecture == WINDOWED_TWIN:
            no_sinks = np.full(model.num_heads, -1e9, np.float32)
            tensors[f"blk.{layer}.attn_sinks.weight"] = (no_sinks, GGMLQuantizationType.F32)
        matrix(f"blk.{layer}.attn_output", model.hidden, query_rows)
        norm(f"blk.{layer}.ffn_norm.weight", model.hidden)
        matrix(f"blk.{layer}.ffn_gate", model.feed_forward, model.hidden, gain=1.5)
        matrix(f"blk.{layer}.ffn_up", model.feed_forward, model.hidden, gain=1.5)
        matrix(f"blk.{layer}.ffn_down", model.hidden, model.feed_forward)
    norm("output_norm.weight", model.hidden)
    if not model.is_tied:
        matrix("output", model.vocab, model.hidden, gain=2.0)
    return tensors


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


def random_matrix(
    rng: np.random.Generator, rows: int, columns: int, weight_type: GGMLQuantizationType, gain: float = 1.0
) -> Array:
    """Random weights of standard deviation about gain / √columns, as the bytes that the type stores."""
    deviation = gain / columns**0.5
    if weight_type.name.endswith("_K"):
        return _K_BLOCKS[weight_type.name](rng, rows * columns // 256, deviation).reshape(rows, -1)
    return gguf.quants.quantize(_normal(rng, rows, columns) * np.float32(deviation), weight_type)


Blocks = NDArray[np.uint8]


def _bytes(rng: np.random.Generator, num_blocks: int, size: int) -> Blocks:
    return rng.integers(0, 256, (num_blocks, size), dtype=np.uint8)


def _half(values: NDArray[np.float64]) -> Blocks:
    return values.astype(np.float16).reshape(-1, 1).view(np.uint8)


def _super_scales(rng: np.random.Generator, num_blocks: int, mean: float) -> NDArray[np.float64]:
    return mean * rng.uniform(0.6, 1.4, num_blocks)


def _scales_and_minima(rng: np.random.Generator, shape: tuple[int, int], most: int) -> tuple[Blocks, Blocks]:
    """Group scales, and minima that are near them, so that the weights have a mean of about zero."""
    scales = rng.integers(0, most + 1, shape)
    minima = np.clip(scales + rng.integers(-1, 2, shape), 0, most)
    return scales.astype(np.uint8), minima.astype(np.uint8)


def _pack_six_bits(scales: Blocks, minima: Blocks) -> Blocks:
    """[blocks, 8] scales and minima of six bits → the 12 bytes of Q4_K and Q5_K."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    third = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return np.hstack([first, second, third]).astype(np.uint8)


def _q2_k(rng: np.random.Generator, num_blocks: int, deviation: float) -> Blocks:
    scales, minima = _scales_and_minima(rng, (num_blocks, 16), 15)
    super_scale = _super_scales(rng, num_blocks, deviation / 9.8)
    codes = _bytes(rng, num_blocks, 64)
    return np.hstack([scales | minima << 4, codes, _half(super_scale), _half(1.5 * super_scale)])


def _q3_k(rng: np.random.Generator, num_blocks: int, deviation: float) -> Blocks:
    return np.hstack([_bytes(rng, num_blocks, 32 + 64 + 12), _half(_super_scales(rng, num_blocks, deviation / 43))])


def _q4_k(rng: np.random.Generator, num_blocks: int, deviation: float) -> Blocks:
    packed = _pack_six_bits(*_scales_and_minima(rng, (num_blocks, 8), 63))
    super_scale = _super_scales(rng, num_blocks, deviation / 169)
    return np.hstack([_half(super_scale), _half(7.5 * super_scale), packed, _bytes(rng, num_blocks, 128)])


def _q5_k(rng: np.random.Generator, num_blocks: int, deviation: float) -> Blocks:
    packed = _pack_six_bits(*_scales_and_minima(rng, (num_blocks, 8), 63))
    super_scale = _super_scales(rng, num_blocks, deviation / 337)
    return np.hstack([_half(super_scale), _half(15.5 * super_scale), packed, _bytes(rng, num_blocks, 32 + 128)])


def _q6_k(rng: np.random.Generator, num_blocks: int, deviation: float) -> Blocks:
    codes = _bytes(rng, num_blocks, 128 + 64 + 16)
    return np.hstack([codes, _half(_super_scales(rng, num_blocks, deviation / 1370))])


_K_BLOCKS: Mapping[str, Callable[[np.random.Generator, int, float], Blocks]] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}

_LLAMA_BIASES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_YARN: Mapping[str, Value] = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 128,
}

FEATURES: Mapping[str, TinyModel] = {
    "llama-mha": TinyModel(num_kv_heads=4),
    "llama-gqa": TinyModel(num_layers=3, num_heads=8),
    "llama-untied": TinyModel(is_tied=False),
    "llama-narrow": TinyModel(hidden=96, num_heads=3, num_kv_heads=1, feed_forward=160),
    "llama-biases": TinyModel(biases=_LLAMA_BIASES),
    "llama-head-dim": TinyModel(head_dim=32, metadata={"rope.dimension_count": 32}),
    "llama-no-kv-count": TinyModel(num_kv_heads=4, metadata={"attention.head_count_kv": None, "vocab_size": None}),
    "llama-base": TinyModel(metadata={"rope.freq_base": 500000.0, "rope.dimension_count": 64}),
    "llama-no-base": TinyModel(metadata={"rope.freq_base": None}),
    "llama-rope-freqs": TinyModel(has_rope_freqs=True),
    "llama-linear": TinyModel(metadata={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "llama-untyped-factor": TinyModel(metadata={"rope.scaling.factor": 2.5}),
    "llama-scale-linear": TinyModel(metadata={"rope.scale_linear": 2.0}),
    "llama-no-scaling": TinyModel(metadata={"rope.scaling.type": "none", "rope.scaling.factor": 4.0}),
    "llama-yarn": TinyModel(metadata=_YARN),
    "llama-yarn-attention": TinyModel(metadata={**_YARN, "rope.scaling.attn_factor": 1.25}),
    "llama-yarn-freqs": TinyModel(has_rope_freqs=True, metadata=_YARN),
    "llama-yarn-own-context": TinyModel(metadata={"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0}),
    "llama-window": TinyModel(metadata={"attention.sliding_window": 7}),
    "qwen2": TinyModel("qwen2", biases=("attn_q", "attn_k", "attn_v")),
    "qwen2-untied": TinyModel("qwen2", is_tied=False, biases=("attn_q", "attn_k", "attn_v", "output")),
    "qwen2-yarn": TinyModel("qwen2", biases=("attn_q", "attn_k", "attn_v"), metadata=_YARN),
    "qwen3": TinyModel("qwen3", head_dim=32, num_layers=3),
    "qwen3-wide-heads": TinyModel("qwen3", head_dim=128, is_tied=False, metadata={"rope.freq_base": 1e6}),
}
"""One file per feature, all F32."""

TYPES: Mapping[str, TinyModel] = {
    name: TinyModel(is_tied=False, num_heads=8, weight_type=name, seed=7) for name in WEIGHT_TYPES
} | {
    "mixed": TinyModel(
        weight_type="Q4_K", tensor_types={"attn_v": "Q6_K", "ffn_down": "Q5_K", "token_embd": "Q6_K"}, seed=8
    ),
    "mixed-narrow": TinyModel(
        hidden=96,
        num_heads=3,
        num_kv_heads=1,
        feed_forward=160,
        weight_type="Q4_1",
        tensor_types={"token_embd": "Q8_0"},
    ),
}
"""One file per tensor type, embedding and head included."""


@dataclass(frozen=True)
class Refused:
    """A file that must not be loaded, and words that the refusal must contain (any case)."""

    write: Callable[[Path], Path]
    words: tuple[str, ...]


def _truncated(path: Path) -> Path:
    write(TinyModel(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def _truncated_header(path: Path) -> Path:
    write(TinyModel(), path)
    path.write_bytes(path.read_bytes()[:100])
    return path


def _wrong_magic(path: Path) -> Path:
    write(TinyModel(), path)
    path.write_bytes(b"GGML" + path.read_bytes()[4:])
    return path


def _not_a_model(path: Path) -> Path:
    path.write_bytes(b"{}")
    return path


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _missing_part(path: Path) -> Path:
    first = write(TinyModel(), path, split_tensors=8)
    max(path.parent.glob(f"{path.stem}-*.gguf")).unlink()
    return first


def _wrong_shape(path: Path) -> Path:
    return write(replace(TinyModel(), metadata={"feed_forward_length": 256}), path)


def _surplus_tensor(path: Path) -> Path:
    """A Llama file with the norms of Qwen3, which a Llama graph would silently leave out."""
    model = TinyModel("qwen3", head_dim=64)
    write(model, path)
    content = path.read_bytes()
    assert content.count(b"qwen3") >= 2
    path.write_bytes(content.replace(b"qwen3", b"llama"))
    return path


def _tensor_type(name: str) -> Callable[[Path], Path]:
    """A file whose first feed-forward matrix claims the type `name` and holds zeros."""

    def make(path: Path) -> Path:
        model = TinyModel()
        weight_type = GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[weight_type]
        writer = gguf.GGUFWriter(str(path), model.architecture)
        for key, value in _metadata(model).items():
            if value is not None:
                _add_value(writer, key, value)
        _add_tokenizer(writer, model.vocab)
        for tensor, (data, original_type) in _tensors(model).items():
            if tensor == "blk.0.ffn_up.weight":
                zeros = np.zeros((model.feed_forward, model.hidden // block * size), np.uint8)
                writer.add_tensor(tensor, zeros, raw_dtype=weight_type)
            else:
                writer.add_tensor(tensor, data, raw_dtype=original_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def _with(**changes: object) -> Callable[[Path], Path]:
    return lambda path: write(replace(TinyModel(), **changes), path)  # type: ignore[arg-type]


def _metadata_of(**metadata: Value) -> Callable[[Path], Path]:
    return _with(metadata={key.replace("__", "."): value for key, value in metadata.items()})


def _without(tensor: str) -> Callable[[Path], Path]:
    return lambda path: write(TinyModel(), path, drop=tensor)


REFUSED: Mapping[str, Refused] = {
    "architecture": Refused(_with(architecture="gemma3"), ("gemma3", "llama", "qwen2", "qwen3")),
    "mixture-of-experts": Refused(_metadata_of(expert_count=8, expert_used_count=2), ("expert",)),
    "iq4-nl": Refused(_tensor_type("IQ4_NL"), ("IQ4_NL",)),
    "iq2-xxs": Refused(_tensor_type("IQ2_XXS"), ("IQ2_XXS",)),
    "tq1-0": Refused(_tensor_type("TQ1_0"), ("TQ1_0",)),
    "mxfp4": Refused(_tensor_type("MXFP4"), ("MXFP4",)),
    "truncated": Refused(_truncated, ()),
    "truncated-header": Refused(_truncated_header, ()),
    "wrong-magic": Refused(_wrong_magic, ("GGUF",)),
    "not-a-model": Refused(_not_a_model, ("GGUF",)),
    "empty": Refused(_empty, ()),
    "missing-tensor": Refused(_without("blk.1.ffn_down.weight"), ("blk.1.ffn_down.weight",)),
    "missing-embedding": Refused(_without("token_embd.weight"), ("token_embd.weight",)),
    "wrong-shape": Refused(_wrong_shape, ("ffn",)),
    "surplus-tensor": Refused(_surplus_tensor, ("attn_q_norm",)),
    "missing-part": Refused(_missing_part, ()),
    "longrope": Refused(_metadata_of(rope__scaling__type="longrope", rope__scaling__factor=4.0), ("longrope",)),
    "unknown-scaling": Refused(_metadata_of(rope__scaling__type="spiral"), ("spiral",)),
    "partial-rotation": Refused(_metadata_of(rope__dimension_count=32), ("32",)),
    "heads-not-divisible": Refused(_metadata_of(attention__head_count_kv=3), ("3",)),
    "value-length": Refused(_metadata_of(attention__key_length=64, attention__value_length=32), ("32",)),
    "missing-key": Refused(_with(metadata={"block_count": None}), ("block_count",)),
}
