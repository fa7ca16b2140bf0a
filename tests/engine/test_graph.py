"""The engine's logits against the float64 reference, and what must not change a single bit of them.

Tiny random files, one per architecture feature and per tensor type. `reference.py` itself is checked against llama.cpp.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf_factory
import numpy as np
import pytest
import reference
from gguf_factory import TinyModel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hodios.engine import gguf, weights
from hodios.engine.runner import SCRATCH_BLOCK, Runner, native_precision
from hodios.engine.scheduler import Batch, Chunk
from hodios.errors import UnsupportedModel

NUM_BLOCKS = 40
TOKENS = np.random.default_rng(5).integers(0, 320, 300).tolist()
ALL_MODELS = {**gguf_factory.FEATURES, **gguf_factory.TYPES}
DEFAULT_SAMPLE = ["llama-gqa", "llama-biases", "llama-yarn-freqs", "llama-window", "qwen2-untied", "qwen3"]
SERVED = TinyModel(num_heads=8, is_tied=False, weight_type="Q4_1")
"""The model whose bits are compared."""

Logits = NDArray[np.float32]


def load(model: TinyModel, folder: Path, *, is_exact: bool, precision: str) -> Runner:
    return load_file(gguf_factory.write(model, folder / "model.gguf"), is_exact=is_exact, precision=precision)


def load_file(path: Path, *, is_exact: bool, precision: str) -> Runner:
    folder = path.with_suffix(f".{is_exact}.packed")
    folder.mkdir()
    weights.pack(gguf.open_model(path), folder, is_exact=is_exact, weights_hash="0")
    packed = weights.load(folder)
    return Runner(
        packed,
        num_blocks=NUM_BLOCKS,
        threads=2,
        max_batch_tokens=512,
        precision=precision,
        quantizes_activations=precision != "f32",
    )


def chunk(blocks: Sequence[int], start: int, tokens: Sequence[int], num_logits: int | None = None) -> Chunk:
    """Tokens at positions from `start` on, of a sequence on these blocks; all their logits unless told otherwise."""
    wanted = len(tokens) if num_logits is None else num_logits
    return Chunk(SimpleNamespace(blocks=list(blocks), is_seeded=True), start, list(tokens), wanted, len(tokens) > 1)


def run(runner: Runner, *chunks: Chunk, copies: Sequence[tuple[int, int]] = ()) -> list[Logits]:
    """One step; the logits of each chunk."""
    batch = Batch(copies=list(copies))
    for each in chunks:
        batch.add(each)
    logits = np.array(runner.run(batch))
    return np.split(logits, np.cumsum([each.num_logits for each in chunks])[:-1])


def blocks_for(num_tokens: int, first: int = 1) -> list[int]:
    return list(range(first, first + -(-num_tokens // 32)))


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergence(expected: NDArray[np.floating], actual: NDArray[np.floating]) -> NDArray[np.float64]:
    """KL of each row."""
    p, q = log_softmax(expected), log_softmax(actual)
    return (np.exp(p) * (p - q)).sum(axis=-1)


# Right numbers


@pytest.mark.parametrize("name", ALL_MODELS)
def test_exact_mode_agrees_with_float64(name: str, tmp_path: Path) -> None:
    runner = load(ALL_MODELS[name], tmp_path, is_exact=True, precision="f32")
    expected = reference.forward(tmp_path / "model.gguf", TOKENS[:48])
    (logits,) = run(runner, chunk([7, 2], 0, TOKENS[:48]))
    assert np.abs(logits - expected).max() < 2e-4 * expected.std()


@pytest.mark.parametrize("name", [*DEFAULT_SAMPLE, *gguf_factory.TYPES])
def test_default_mode_is_near_float64(name: str, tmp_path: Path) -> None:
    runner = load(ALL_MODELS[name], tmp_path, is_exact=False, precision=native_precision())
    expected = reference.forward(tmp_path / "model.gguf", TOKENS[:48])
    (logits,) = run(runner, chunk([7, 2], 0, TOKENS[:48]))
    # Tiny models amplify rounding: 0.004 … 0.015 here, where the starter model has a tenth of that.
    assert divergence(expected, logits).mean() < 0.025


@pytest.mark.parametrize("name", ["llama-gqa", "llama-yarn", "llama-window", "qwen2", "qwen3", "Q4_1", "Q6_K"])
def test_one_token_at_a_time_agrees_with_float64(name: str, tmp_path: Path) -> None:
    runner = load(ALL_MODELS[name], tmp_path, is_exact=True, precision="f32")
    expected = reference.forward(tmp_path / "model.gguf", TOKENS[:40])
    logits = [run(runner, chunk([7, 2], i, [token]))[0][0] for i, token in enumerate(TOKENS[:40])]
    assert np.abs(np.array(logits) - expected).max() < 2e-4 * expected.std()


@pytest.mark.parametrize("precision", ["bf16", "f32"])
def test_far_positions_are_as_exact_as_near_ones(precision: str, tmp_path: Path) -> None:
    """Angles of thousands of radians must not be rounded to bfloat16, which holds integers only up to 256."""
    if precision == "bf16" and native_precision() != "bf16":
        pytest.skip("this processor has no bfloat16")
    model = TinyModel(num_heads=8, num_layers=1, context=1200, weight_type="F16")
    runner = load(model, tmp_path, is_exact=True, precision=precision)
    tokens = np.random.default_rng(9).integers(0, 320, 1152).tolist()
    expected = reference.forward(tmp_path / "model.gguf", tokens)[-64:]
    blocks = blocks_for(len(tokens))
    for start in range(0, 1088, 64):
        run(runner, chunk(blocks, start, tokens[start : start + 64], 1))
    (logits,) = run(runner, chunk(blocks, 1088, tokens[1088:]))
    assert divergence(expected, logits).mean() < (5e-3 if precision == "bf16" else 1e-8)


def test_a_split_model_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    first = gguf_factory.write(SERVED, tmp_path / "parts" / "model.gguf", split_tensors=6)
    assert len(list((tmp_path / "parts").glob("*.gguf"))) == 4
    whole = load(SERVED, tmp_path, is_exact=True, precision="f32")
    split = load_file(first, is_exact=True, precision="f32")
    logits = [run(runner, chunk([1, 2], 0, TOKENS[:40]))[0] for runner in (whole, split)]
    np.testing.assert_array_equal(*logits)


# Files that must be refused


@pytest.mark.parametrize("name", gguf_factory.REFUSED)
def test_what_cannot_be_run_is_refused(name: str, tmp_path: Path) -> None:
    case = gguf_factory.REFUSED[name]
    path = case.write(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel) as refusal:
        gguf.open_model(path)
    message = str(refusal.value)
    assert "model" in message, "the file is named"
    assert [word for word in case.words if word.lower() not in message.lower()] == []


@pytest.mark.parametrize("name", ["architecture", "mixture-of-experts", "iq4-nl", "mxfp4", "longrope"])
def test_a_refusal_says_what_to_use_instead(name: str, tmp_path: Path) -> None:
    path = gguf_factory.REFUSED[name].write(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel, match=r"llama\.cpp.*instead"):
        gguf.open_model(path)


@given(data=st.data())
@settings(max_examples=40)
def test_a_damaged_file_is_refused_or_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any byte of the header may be anything: never another exception, never a hang."""
    path = tmp_path_factory.mktemp("damaged") / "model.gguf"
    gguf_factory.write(TinyModel(hidden=64, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward=64), path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, 1500) | st.integers(0, 12_000))
    content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(UnsupportedModel):
        gguf.open_model(path)


# Bits that must not change


@pytest.fixture(scope="module", params=["default", "exact-Q4_1", "exact-Q6_K", "exact-F16"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """One runner per kind of kernel: int8 rows, groups of 32, groups of 16, and floats."""
    mode, _, kind = request.param.partition("-")
    model = replace(SERVED, weight_type=kind or SERVED.weight_type)
    return load(model, tmp_path_factory.mktemp(mode), is_exact=mode == "exact", precision=native_precision())


@pytest.fixture(scope="module")
def whole(served: Runner) -> Logits:
    """Logits of 120 tokens computed in one call."""
    return run(served, chunk(blocks_for(120), 0, TOKENS[:120]))[0]


def cut(num_tokens: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches [start, end) of these sizes over and over; no last stretch of one token."""
    start, turn = 0, 0
    while start < num_tokens:
        end = min(start + sizes[turn % len(sizes)], num_tokens)
        end = num_tokens if num_tokens - end == 1 else end
        yield start, end
        start, turn = end, turn + 1


def in_chunks(runner: Runner, tokens: Sequence[int], sizes: Sequence[int], blocks: Sequence[int]) -> Logits:
    return np.concatenate(
        [run(runner, chunk(blocks, start, tokens[start:end]))[0] for start, end in cut(len(tokens), sizes)]
    )


def test_the_same_call_twice(served: Runner, whole: Logits) -> None:
    np.testing.assert_array_equal(run(served, chunk(blocks_for(120), 0, TOKENS[:120]))[0], whole)


def test_any_blocks_in_any_order(served: Runner, whole: Logits) -> None:
    for blocks in ([4, 3, 2, 1], [39, 1, 17, 8], [5, 30, 29, 38]):
        np.testing.assert_array_equal(run(served, chunk(blocks, 0, TOKENS[:120]))[0], whole)


@pytest.mark.parametrize("sizes", [[2], [3], [5, 2], [31], [32], [33], [64], [100], [7, 50, 2]], ids=str)
def test_chunks_of_any_size(served: Runner, whole: Logits, sizes: list[int]) -> None:
    np.testing.assert_array_equal(in_chunks(served, TOKENS[:120], sizes, [9, 3, 12, 6]), whole)


def test_only_the_last_logits(served: Runner, whole: Logits) -> None:
    for wanted in (1, 2, 5, 64):
        (logits,) = run(served, chunk(blocks_for(120), 0, TOKENS[:120], wanted))
        np.testing.assert_array_equal(logits, whole[-wanted:])


def test_several_prompts_in_one_call(served: Runner, whole: Logits) -> None:
    others = [TOKENS[150:170], TOKENS[200:233]]
    alone = [run(served, chunk([20, 21], 0, tokens))[0] for tokens in others]
    together = run(
        served,
        chunk([20], 0, others[0]),
        chunk([3, 5, 7, 9], 0, TOKENS[:120]),
        chunk([21, 22], 0, others[1]),
        chunk([30, 31], 0, TOKENS[:2], 0),
    )
    np.testing.assert_array_equal(together[0], alone[0])
    np.testing.assert_array_equal(together[1], whole)
    np.testing.assert_array_equal(together[2], alone[1])


def test_prefill_beside_decode_steps(served: Runner, whole: Logits) -> None:
    run(served, chunk([20, 21], 0, TOKENS[150:190], 1))
    (lone,) = run(served, chunk([20, 21], 40, TOKENS[190:191]))
    run(served, chunk([20, 21], 0, TOKENS[150:190], 1))
    crowd = run(
        served,
        chunk([20, 21], 40, TOKENS[190:191]),
        chunk(blocks_for(120), 0, TOKENS[:60]),
        chunk([22], 0, TOKENS[7:8]),
    )
    np.testing.assert_array_equal(crowd[0], lone)
    np.testing.assert_array_equal(crowd[1], whole[:60])


def test_a_decode_step_is_the_same_alone_and_in_a_crowd(served: Runner) -> None:
    """Seeded answers depend on it: one row is padded to two, since one alone would take another kernel."""
    lengths = [33, 2, 64, 17, 40, 5, 31, 32, 12, 60, 3, 8, 21, 50, 45, 9]
    tables = [[1 + 2 * i, 2 + 2 * i] for i in range(len(lengths))]
    for table, length in zip(tables, lengths, strict=True):
        run(served, chunk([*table, 33], 0, TOKENS[length : 2 * length], 1))
    steps = [
        chunk([*t, 33 + i % 7], n, TOKENS[n : n + 1]) for i, (t, n) in enumerate(zip(tables, lengths, strict=True))
    ]
    alone = [run(served, step)[0] for step in steps]
    for crowd in (steps, steps[:3], steps[4:9], steps[::-1]):
        for step, logits in zip(crowd, run(served, *crowd), strict=True):
            np.testing.assert_array_equal(logits, alone[steps.index(step)])


def test_a_shared_prefix(served: Runner, whole: Logits) -> None:
    """Two sequences on the same first two blocks: written earlier, or by the other one in the same call."""
    run(served, chunk([1, 2], 0, TOKENS[:64], 1))
    first, second = run(served, chunk([1, 2, 5, 6], 64, TOKENS[64:120]), chunk([1, 2, 7, 8], 64, TOKENS[64:110]))
    np.testing.assert_array_equal(first, whole[64:120])
    np.testing.assert_array_equal(second, whole[64:110])
    first, second = run(served, chunk([11, 12], 0, TOKENS[:64]), chunk([11, 12, 13, 14], 64, TOKENS[64:120]))
    np.testing.assert_array_equal(first, whole[:64])
    np.testing.assert_array_equal(second, whole[64:120])


def test_copy_on_write(served: Runner, whole: Logits) -> None:
    """A half-filled block is copied in the step in which its sharers go different ways."""
    run(served, chunk([1, 2], 0, TOKENS[:48], 1))
    other = TOKENS[250:280]
    expected = run(served, chunk(blocks_for(78, 20), 0, TOKENS[:48] + other))[0][48:]
    original, copy = run(served, chunk([1, 2, 3, 4], 48, TOKENS[48:120]), chunk([1, 9, 10], 48, other), copies=[(2, 9)])
    np.testing.assert_array_equal(original, whole[48:])
    np.testing.assert_array_equal(copy, expected)


@pytest.mark.parametrize("bits", [0xFF, 0x7F, 0x80])
def test_stale_bytes_in_blocks(served: Runner, whole: Logits, bits: int) -> None:
    """NaN, huge numbers or negative zeros left behind by whoever had the block before."""
    for cache in served._caches:
        cache.view(np.uint8)[...] = bits
    np.testing.assert_array_equal(in_chunks(served, TOKENS[:120], [50, 7], [4, 18, 2, 11]), whole)
    for cache in served._caches:
        cache[...] = 0


def test_stale_bytes_in_the_scratch_block(served: Runner) -> None:
    run(served, chunk([1], 0, TOKENS[:20], 1))
    (clean,) = run(served, chunk([1], 20, TOKENS[20:21]))
    for cache in served._caches:
        cache[SCRATCH_BLOCK].view(np.uint8)[...] = 0xFF
    np.testing.assert_array_equal(run(served, chunk([1], 20, TOKENS[20:21]))[0], clean)


def test_later_tokens_do_not_matter(served: Runner, whole: Logits) -> None:
    changed = TOKENS[:70] + TOKENS[200:250]
    np.testing.assert_array_equal(run(served, chunk([1, 2, 3, 4], 0, changed))[0][:70], whole[:70])


def test_decode_is_near_prefill(served: Runner, whole: Logits) -> None:
    """Not the same bits: another kernel. Its noise is bounded, and that of one step is not carried into the next."""
    run(served, chunk([1, 2, 3, 4], 0, TOKENS[:60], 1))
    logits = np.concatenate([run(served, chunk([1, 2, 3, 4], i, [TOKENS[i]]))[0] for i in range(60, 120)])
    assert divergence(whole[60:], logits).mean() < 0.02


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_random_schedules(served: Runner, seed: int) -> None:
    """Prompts of any length, cut anywhere, in any company, on any blocks: every row as if computed alone and whole."""
    rng = np.random.default_rng(seed)
    free = rng.permutation(np.arange(1, NUM_BLOCKS)).tolist()
    prompts, tables = [], []
    while len(free) > 6:
        length = int(rng.integers(2, 130))
        prompts.append(rng.integers(0, 320, length).tolist())
        tables.append([free.pop() for _ in range(-(-length // 32))][: -(-length // 32)])
        if len(free) <= 6 or len(prompts) == 8:
            break
    whole = [run(served, chunk(table, 0, prompt))[0] for prompt, table in zip(prompts, tables, strict=True)]
    pending = [list(cut(len(prompt), rng.integers(2, 70, 3).tolist())) for prompt in prompts]
    while any(pending):
        chosen = [i for i, rest in enumerate(pending) if rest and rng.random() < 0.7]
        spans = [pending[i].pop(0) for i in chosen]
        chunks = [chunk(tables[i], start, prompts[i][start:end]) for i, (start, end) in zip(chosen, spans, strict=True)]
        for i, (start, end), logits in zip(chosen, spans, run(served, *chunks) if chunks else [], strict=True):
            np.testing.assert_array_equal(logits, whole[i][start:end])


# Arrays that would crash the runtime


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: chunk([1], 0, [0, 320]),
        lambda: chunk([1], 0, [-1, 3]),
        lambda: chunk([NUM_BLOCKS], 0, [1, 2]),
        lambda: chunk([-1], 0, [1, 2]),
        lambda: chunk([1], 31, [1, 2]),
        lambda: chunk([1], -2, [1, 2]),
        lambda: chunk([1], 0, [1, 2], 3),
    ],
    ids=["token", "negative token", "block", "negative block", "short table", "negative start", "logits"],
)
def test_bad_indices_are_caught_before_the_runtime(served: Runner, whole: Logits, spoil: Callable[[], Chunk]) -> None:
    with pytest.raises(AssertionError):
        run(served, spoil())
    np.testing.assert_array_equal(run(served, chunk(blocks_for(120), 0, TOKENS[:120]))[0], whole)


@pytest.mark.parametrize("copy", [(NUM_BLOCKS, 1), (1, NUM_BLOCKS), (-1, 2)], ids=str)
def test_bad_copies_are_caught(served: Runner, copy: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        run(served, chunk([1], 0, [1, 2]), copies=[copy])
