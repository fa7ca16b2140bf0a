"""How much memory a model will take, and how large its KV cache may be. Refuses, with numbers, what cannot fit."""

from __future__ import annotations

from typing import NamedTuple

from hodios.engine.gguf import Architecture
from hodios.errors import NotEnoughMemory
from hodios.machine import free_memory_bytes

BLOCK_SIZE = 32
"""Tokens in a block of the CPU plugin's KV cache."""
RUNTIME_BYTES = 320 * 2**20
"""The interpreter, the runtime's code and its kernels: 210–250 MB, and 50 MB more once there is a grammar; measured
resident, without the KV cache, beside 106 to 248 MB of weights in 8 and in 4 bits."""
WEIGHTS_FACTOR = 2.0
"""The runtime keeps a copy of the matrices in its own order beside the mapped file; the same measurements give 1.95."""
DEFAULT_CACHE_BYTES = 2 * 2**30
SHARE_OF_FREE = 0.5
"""Of what the weights leave, so much at most for keys and values unless the operator says otherwise."""


class Plan(NamedTuple):
    num_blocks: int
    """Blocks of the KV cache, the scratch block included."""
    context_length: int
    """Most tokens of one sequence."""


def block_bytes(architecture: Architecture, precision: str) -> int:
    """One block over all layers, keys and values."""
    size = 2 if precision == "bf16" else 4
    return 2 * architecture.num_layers * architecture.num_kv_heads * BLOCK_SIZE * architecture.head_dim * size


def plan(
    architecture: Architecture,
    weights_bytes: int,
    *,
    precision: str,
    kv_cache_bytes: int | None,
    context_length: int | None,
    max_sequences: int,
    free_bytes: int | None = None,
) -> Plan:
    """Size the KV cache: as asked for, or by default enough for all sequences at full length, within what is free.

    Raises NotEnoughMemory where the weights, or one sequence of the asked context, do not fit.
    """
    free = free_memory_bytes() if free_bytes is None else free_bytes
    fixed = int(weights_bytes * WEIGHTS_FACTOR) + RUNTIME_BYTES
    per_block = block_bytes(architecture, precision)
    context = min(context_length or architecture.context_length, architecture.context_length)
    blocks_per_context = -(-context // BLOCK_SIZE)
    left = free - fixed
    wanted = kv_cache_bytes
    if wanted is None:
        ceiling = max(int(left * SHARE_OF_FREE), 0)
        wanted = min(DEFAULT_CACHE_BYTES, ceiling, blocks_per_context * max_sequences * per_block)
    usable = wanted // per_block
    least = blocks_per_context if context_length is not None else min(blocks_per_context, 8)
    if wanted > left or usable < least:
        raise NotEnoughMemory(
            f"The model does not fit: its weights take {fixed / 2**30:.1f} GiB and the KV cache at least "
            f"{max(wanted, least * per_block) / 2**30:.2f} GiB, but {free / 2**30:.1f} GiB are free. "
            "Take a smaller model or a stronger quantization, set HODIOS_CONTEXT_LENGTH or HODIOS_KV_CACHE_BYTES "
            "lower, or free some memory."
        )
    return Plan(num_blocks=usable + 1, context_length=min(context, usable * BLOCK_SIZE))
