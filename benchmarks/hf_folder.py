"""A GGUF file's weights as a folder in the layout of the Hugging Face hub, BF16, for servers that read no GGUF."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hodios.engine.gguf import Architecture, GGUFFile

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write(file: GGUFFile, folder: Path) -> None:
    """`model.safetensors` and `config.json`, unless they are there. Raises ValueError for anything but plain Llama."""
    arch = file.architecture
    if arch.name != "llama" or arch.rope.scaling == "yarn" or "rope_freqs.weight" in file.tensors:
        raise ValueError(f"only Llama models without rope scaling are converted, not {arch.name} with {arch.rope}")
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, object] = {}
    end = 0
    for name, tensor in file.tensors.items():
        start, end = end, end + 2 * int(np.prod(tensor.shape))
        header[hub_name(name)] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as target:
        target.write(len(encoded).to_bytes(8, "little") + encoded)
        for values in _in_hub_order(file):
            target.write(to_bfloat16(values).tobytes())
    (folder / "config.json").write_text(json.dumps(config(file), indent=1), encoding="utf-8")


def hub_name(name: str) -> str:
    """`model.layers.0.mlp.up_proj.weight` for `blk.0.ffn_up.weight`."""
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    _, number, kind, suffix = name.split(".")
    return f"model.layers.{number}.{_LAYER_NAMES[kind]}.{suffix}"


def config(file: GGUFFile) -> dict[str, object]:
    """What `transformers` wants to know of a Llama model."""
    arch = file.architecture
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": arch.hidden,
        "intermediate_size": arch.feed_forward,
        "num_hidden_layers": arch.num_layers,
        "num_attention_heads": arch.num_heads,
        "num_key_value_heads": arch.num_kv_heads,
        "head_dim": arch.head_dim,
        "max_position_embeddings": arch.context_length,
        "rms_norm_eps": arch.rms_epsilon,
        "rope_theta": arch.rope.base,
        "tie_word_embeddings": arch.is_tied,
        "vocab_size": arch.vocab_size,
        "torch_dtype": "bfloat16",
        "bos_token_id": file.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.metadata.get("tokenizer.ggml.eos_token_id"),
    }


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest BF16 numbers, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def half_rotated(rows: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """The rows of Q or K from the file's pairs (2i, 2i+1) to the hub's halves (i, i + head_dim / 2)."""
    pairs = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _in_hub_order(file: GGUFFile) -> Iterator[NDArray[np.float32]]:
    for name, tensor in file.tensors.items():
        values = tensor.dequantize()
        heads = _interleaved_heads(name, file.architecture)
        yield half_rotated(values, heads) if heads else values


def _interleaved_heads(name: str, arch: Architecture) -> int:
    """By how many heads a tensor's rows are interleaved; 0 for those that are not."""
    if not arch.rope.is_interleaved:
        return 0
    kind = name.rpartition(".")[0].rpartition(".")[2]
    return {"attn_q": arch.num_heads, "attn_k": arch.num_kv_heads}.get(kind, 0)
