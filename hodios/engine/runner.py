"""Runs batches on the compiled graph and owns the KV cache's memory. Knows chunks and blocks, no requests.

Every array is checked before it reaches the runtime, which checks nothing itself: a bad index would crash the process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from hodios.engine import graph
from hodios.engine.memory import BLOCK_SIZE
from hodios.engine.shapes import bucket_sizes, round_rows
from hodios.engine.weights import Weights

if TYPE_CHECKING:
    from hodios.engine.scheduler import Batch, Chunk

SCRATCH_BLOCK = 0
"""Padding rows write their keys and values here; no sequence ever holds it."""

ENGINE_VERSION = f"openvino-{ov.__version__.split('-')[0]}"

LEAST_INPUT_GROUP, MOST_INPUT_GROUP = 32, 64
"""Inputs that share a scale where they are quantized: as many as weights do, within these bounds."""

WARM_LOGIT_ROWS = 64
"""A step rarely wants more rows' logits than this: one per running sequence, and some for guesses."""

TRIED_ROWS = (2, 4, 8, 12, 16, 32)
"""Row counts of which the least is looked for whose kernels round as those of more rows do."""
ROW_COST_TRIES = 8
"""Steps of either kind from which the cost of a row is taken."""
SCRATCH_STRIDE = 7919
"""Prime, so that the tokens of a scratch step differ."""

RUNTIME_CACHE_ENTRIES = 2000
"""Bound of the plugin's store of per-shape kernels; the warm-up set of a 30-layer model needs a third of it."""


class Runner:
    """One compiled model with `num_blocks` KV blocks, block 0 being scratch."""

    def __init__(
        self,
        weights: Weights,
        *,
        num_blocks: int,
        threads: int,
        max_batch_tokens: int,
        precision: str = "bf16",
        quantizes_activations: bool = True,
    ) -> None:
        """`quantizes_activations`: let the runtime round the inputs of quantized matrices to 8 bits, in groups."""
        self.architecture = weights.architecture
        self.num_blocks = num_blocks
        self.max_batch_tokens = max_batch_tokens
        self._weights = weights
        input_group = _input_group(weights) if quantizes_activations else 0
        model = _compile(graph.build(weights), threads, precision, input_group)
        self._request = model.create_infer_request()
        self._caches = self._allocate(precision)
        self._inputs: dict[str, NDArray[Any]] = {}
        self._repeatable_rows = self._find_repeatable_rows()

    def _find_repeatable_rows(self) -> int:
        """Fewer rows than this take other kernels, which round differently: a lone answer would not be the same in a
        crowd. How many differs between processors, precisions and kinds of matrices, so it is tried out."""
        sizes = [size for size in TRIED_ROWS if size <= self.max_batch_tokens]
        logits = {size: self._run_scratch(size)[:2].copy() for size in sizes}
        least = sizes[-1]
        for size in reversed(sizes):
            if not np.array_equal(logits[size], logits[sizes[-1]]):
                break
            least = size
        return least

    def _allocate(self, precision: str) -> list[NDArray[Any]]:
        """Cache arrays `[blocks, …]`, two per layer; the pages are not touched, and so not resident, until used."""
        caches = []
        dtype, kind = (np.uint16, ov.Type.bf16) if precision == "bf16" else (np.float32, ov.Type.f32)
        for layer in range(self.architecture.num_layers):
            for name in (f"key_cache.{layer}", f"value_cache.{layer}"):
                shape = (self.num_blocks, self.architecture.num_kv_heads, BLOCK_SIZE, self.architecture.head_dim)
                declared = tuple(self._request.model_inputs[self._input_index(name)].partial_shape)[1:]
                assert tuple(int(size.get_length()) for size in declared) == shape[1:], f"{name}: {declared} ≠ {shape}"
                array = _aligned_zeros(shape, dtype)
                self._request.set_tensor(name, ov.Tensor(array, ov.Shape(list(shape)), kind))
                caches.append(array)
        return caches

    def _input_index(self, name: str) -> int:
        return next(i for i, port in enumerate(self._request.model_inputs) if port.any_name == name)

    def start(self, batch: Batch) -> None:
        """Begin a step; the caller may do other work until `wait`."""
        for source, target in batch.copies:
            self._check_blocks([source, target])
            for cache in self._caches:
                cache[target] = cache[source]
        least = self._repeatable_rows if batch.is_repeatable else 1
        self._inputs = self._arrays(batch.chunks, max(batch.padded_tokens, least), least)
        for name, array in self._inputs.items():
            self._request.set_tensor(name, ov.Tensor(array))
        self._request.start_async()

    def wait(self) -> NDArray[np.float32]:
        """Logits `[rows, vocabulary]`: each chunk's last `num_logits` positions, in order; until the next `start`."""
        self._request.wait()
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits[: self._num_rows]

    def run(self, batch: Batch) -> NDArray[np.float32]:
        self.start(batch)
        return self.wait()

    def warm_up(self, sizes: Iterable[int] | None = None) -> None:
        """Run every padded row count once, so that no request pays for the creation of its kernels."""
        for size in bucket_sizes(self.max_batch_tokens) if sizes is None else sizes:
            self._run_scratch(size)

    def row_cost(self) -> float:
        """What each further row costs in a step of many, as a share of what rows cost on average: two thirds where
        arithmetic decides, a third on processors with matrix units. Takes some steps."""
        few, many = (size for size in TRIED_ROWS if size >= TRIED_ROWS[-1] // 2)
        if many > self.max_batch_tokens:
            return 1.0
        seconds = [(self._work_of_scratch(few), self._work_of_scratch(many)) for _ in range(ROW_COST_TRIES)]
        least_few, least_many = min(each[0] for each in seconds), min(each[1] for each in seconds)
        return (least_many - least_few) / (many - few) * few / least_few

    def _work_of_scratch(self, size: int) -> float:
        # The processor's time, not the clock's: beside other work that would tell anything.
        began_s = time.process_time()
        self._run_scratch(size)
        return time.process_time() - began_s

    def _run_scratch(self, size: int) -> NDArray[np.float32]:
        """Logits of the first rows of a step that nobody asked for; rows that all sizes share are the same."""
        self._inputs = self._arrays((), size)
        self._inputs["input_ids"] = np.arange(size, dtype=np.int64) * SCRATCH_STRIDE % self.architecture.vocab_size
        self._inputs["logit_rows"] = np.arange(min(size, WARM_LOGIT_ROWS))
        for name, array in self._inputs.items():
            self._request.set_tensor(name, ov.Tensor(array))
        self._request.infer()
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits

    def _arrays(self, chunks: Sequence[Chunk], padded: int, least_logits: int = 1) -> dict[str, NDArray[Any]]:
        tokens = [token for chunk in chunks for token in chunk.tokens]
        lengths = [len(chunk.tokens) for chunk in chunks]
        past = [chunk.start for chunk in chunks]
        blocks = [self._table(chunk) for chunk in chunks]
        self._pad(padded - len(tokens), tokens, lengths, past, blocks)
        begins = _offsets(lengths)
        arrays = {
            "input_ids": np.array(tokens, np.int64),
            "position_ids": np.concatenate([np.arange(p, p + n) for p, n in zip(past, lengths, strict=True)]),
            "logit_rows": self._logit_rows(chunks, begins, least_logits),
            "past_lens": np.array(past, np.int32),
            "subsequence_begins": begins,
            "block_indices_begins": _offsets([len(table) for table in blocks]),
            "block_indices": np.array([block for table in blocks for block in table], np.int32),
            "max_context_len": np.array(max(p + n for p, n in zip(past, lengths, strict=True)), np.int32),
        }
        self._check(arrays)
        return arrays

    def _table(self, chunk: Chunk) -> list[int]:
        """The blocks that hold the chunk and all before it."""
        needed = -(-(chunk.start + len(chunk.tokens)) // BLOCK_SIZE)
        table = chunk.sequence.blocks[:needed]
        assert len(table) == needed, f"a chunk ending at {chunk.start + len(chunk.tokens)} has {len(table)} blocks"
        return table

    def _pad(
        self, missing: int, tokens: list[int], lengths: list[int], past: list[int], blocks: list[list[int]]
    ) -> None:
        """Fill up to the padded size with sequences of meaningless tokens on the scratch block."""
        assert missing >= 0, f"{len(tokens)} rows do not fit the padded {missing + len(tokens)}"
        tokens.extend([0] * missing)
        while missing > 0:
            lengths.append(min(missing, BLOCK_SIZE))
            past.append(0)
            blocks.append([SCRATCH_BLOCK])
            missing -= lengths[-1]

    def _logit_rows(self, chunks: Sequence[Chunk], begins: NDArray[np.int32], least: int) -> NDArray[np.int64]:
        """Row numbers, padded with row 0 to `least` at least, and to a size of the warm-up set."""
        rows = [row for i, chunk in enumerate(chunks) for row in range(begins[i + 1] - chunk.num_logits, begins[i + 1])]
        self._num_rows = len(rows)
        padded = np.zeros(round_rows(max(len(rows), least)), np.int64)
        padded[: len(rows)] = rows
        return padded

    def _check(self, arrays: dict[str, NDArray[Any]]) -> None:
        ids, positions, rows = arrays["input_ids"], arrays["position_ids"], arrays["logit_rows"]
        assert ids.size == positions.size == arrays["subsequence_begins"][-1], "row counts differ"
        assert ids.min() >= 0, f"token id {ids.min()} is negative"
        assert ids.max() < self.architecture.vocab_size, f"token id {ids.max()} is outside the vocabulary"
        assert rows.min() >= 0, "negative logit row"
        assert rows.max() < ids.size, "logit row outside the batch"
        assert arrays["past_lens"].min() >= 0, "negative past"
        self._check_blocks(arrays["block_indices"])

    def _check_blocks(self, blocks: NDArray[np.int32] | list[int]) -> None:
        assert np.min(blocks) >= 0, f"block {np.min(blocks)} is negative"
        assert np.max(blocks) < self.num_blocks, f"block {np.max(blocks)} is outside the cache of {self.num_blocks}"


def native_precision() -> str:
    """bf16 where the processor multiplies it natively, else f32."""
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


def _input_group(weights: Weights) -> int:
    return max(LEAST_INPUT_GROUP, min([MOST_INPUT_GROUP, *_groups(weights)]))


def _groups(weights: Weights) -> list[int]:
    """Columns that share a scale, for each quantized matrix."""
    matrices = [matrix for parts in weights.matrices.values() for matrix in parts]
    return [matrix.group for matrix in matrices if matrix.scales is not None]


def _compile(model: ov.Model, threads: int, precision: str, input_group: int) -> Any:
    return ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
            # The cores are shared with the API and its clients, which a pinned thread could not make way for.
            "ENABLE_CPU_PINNING": "NO",
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(input_group),
            "CPU_RUNTIME_CACHE_CAPACITY": str(RUNTIME_CACHE_ENTRIES),
        },
    )


def _offsets(lengths: Sequence[int]) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _aligned_zeros(shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Zeros on a 64-byte boundary, for the widest vector loads."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)
