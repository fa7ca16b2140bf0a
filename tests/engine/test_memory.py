"""What fits, what is refused, and with which numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.gguf import Architecture, Rope
from hodios.engine.memory import BLOCK_SIZE, DEFAULT_CACHE_BYTES, RUNTIME_BYTES, Plan, block_bytes, plan
from hodios.errors import NotEnoughMemory

GIB = 2**30


def architecture(**changes: int) -> Architecture:
    sizes = {"num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "head_dim": 64, "context_length": 8192} | changes
    rope = Rope(base=1e4, is_interleaved=True)
    return Architecture(
        name="llama",
        hidden=576,
        feed_forward=1536,
        vocab_size=49152,
        rms_epsilon=1e-5,
        rope=rope,
        sliding_window=0,
        is_tied=True,
        **sizes,
    )


def planned(arch: Architecture | None = None, weights_bytes: int = 135_000_000, **changes: int | None) -> Plan:
    wanted = {"kv_cache_bytes": None, "context_length": None, "max_sequences": 64, "free_bytes": 16 * GIB} | changes
    return plan(arch or architecture(), weights_bytes, precision="bf16", **wanted)  # type: ignore[arg-type]


def test_a_block_holds_keys_and_values_of_all_layers() -> None:
    assert block_bytes(architecture(), "bf16") == 2 * 30 * 3 * 32 * 64 * 2
    assert block_bytes(architecture(), "f32") == 2 * block_bytes(architecture(), "bf16")


def test_the_default_is_bounded() -> None:
    found = planned()
    assert found.num_blocks == DEFAULT_CACHE_BYTES // block_bytes(architecture(), "bf16") + 1
    assert found.context_length == 8192


def test_no_more_than_all_sequences_can_use() -> None:
    assert planned(architecture(context_length=100), max_sequences=3).num_blocks == 4 * 3 + 1


def test_half_of_what_the_weights_leave() -> None:
    fixed = 2 * 135_000_000 + RUNTIME_BYTES
    per_block = block_bytes(architecture(), "bf16")
    assert planned(free_bytes=fixed + 600 * per_block).num_blocks == 300 + 1


def test_a_small_cache_shortens_the_context() -> None:
    per_block = block_bytes(architecture(), "bf16")
    found = planned(kv_cache_bytes=20 * per_block + per_block - 1)
    assert found == Plan(num_blocks=21, context_length=20 * BLOCK_SIZE)


@pytest.mark.parametrize(("asked", "given"), [(100, 100), (8192, 8192), (10_000, 8192), (None, 8192)])
def test_the_asked_context(asked: int | None, given: int) -> None:
    assert planned(context_length=asked).context_length == given


def test_a_context_that_was_asked_for_is_not_shortened() -> None:
    per_block = block_bytes(architecture(), "bf16")
    with pytest.raises(NotEnoughMemory):
        planned(context_length=8192, kv_cache_bytes=255 * per_block)
    assert planned(context_length=8192, kv_cache_bytes=256 * per_block).context_length == 8192


def test_a_refusal_has_numbers_and_a_way_out() -> None:
    with pytest.raises(NotEnoughMemory) as refusal:
        planned(weights_bytes=8 * GIB, free_bytes=4 * GIB)
    message = str(refusal.value)
    assert "16.3 GiB" in message
    assert "4.0 GiB are free" in message
    assert "HODIOS_CONTEXT_LENGTH" in message
    assert "HODIOS_KV_CACHE_BYTES" in message


def test_a_cache_larger_than_what_is_free_is_refused_with_its_size() -> None:
    with pytest.raises(NotEnoughMemory, match=r"at least 20\.00 GiB"):
        planned(kv_cache_bytes=20 * GIB)


def test_a_tiny_model_needs_no_more_blocks_than_its_context() -> None:
    arch = architecture(context_length=40)
    assert planned(arch, kv_cache_bytes=2 * block_bytes(arch, "bf16")) == Plan(3, 40)
    with pytest.raises(NotEnoughMemory):
        planned(arch, kv_cache_bytes=block_bytes(arch, "bf16"))


@given(
    weights_bytes=st.integers(0, 10 * GIB),
    free_bytes=st.integers(0, 20 * GIB),
    kv_cache_bytes=st.none() | st.integers(1, 20 * GIB),
    context_length=st.none() | st.integers(1, 20_000),
    max_sequences=st.integers(1, 512),
    model_context=st.integers(1, 131_072),
)
def test_what_is_planned_fits(
    weights_bytes: int,
    free_bytes: int,
    kv_cache_bytes: int | None,
    context_length: int | None,
    max_sequences: int,
    model_context: int,
) -> None:
    arch = architecture(context_length=model_context)
    try:
        found = planned(
            arch,
            weights_bytes,
            free_bytes=free_bytes,
            kv_cache_bytes=kv_cache_bytes,
            context_length=context_length,
            max_sequences=max_sequences,
        )
    except NotEnoughMemory as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert len(re.findall(r"\d+\.\d+ GiB", refusal)) == 3
        return
    size = (found.num_blocks - 1) * block_bytes(arch, "bf16")
    assert weights_bytes + RUNTIME_BYTES + size <= free_bytes
    assert 1 <= found.context_length <= min(model_context, (found.num_blocks - 1) * BLOCK_SIZE)
    if context_length is not None:
        assert found.context_length == min(context_length, model_context)
    if kv_cache_bytes is not None:
        assert size <= kv_cache_bytes


@given(st.integers(700 * 2**20, 8 * GIB), st.integers(0, GIB))
def test_more_memory_never_gives_less(free_bytes: int, more: int) -> None:
    assert planned(free_bytes=free_bytes + more).num_blocks >= planned(free_bytes=free_bytes).num_blocks
