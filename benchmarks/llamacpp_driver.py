"""What llama.cpp is told to compute, one JSON line per task; runs in its own environment, with nothing of ours in it.

Usage: llamacpp_driver.py MODEL THREADS, or llamacpp_driver.py --quantize SOURCE TARGET FTYPE. Uses the C interface
directly, with one sequence per stream in each batch, as its server does, and without a server's cost.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

# Installed in the environment of its own in which this runs.
import llama_cpp  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from numpy.typing import NDArray

NUM_BATCH = 512
MAX_PREFILL = 4096
MAX_STREAMS = 64
MAX_STREAM_TOKENS = 512
CALIBRATION_STREAMS = 16
CALIBRATION_TOKENS = 16

Prompt = list[int]


class Context:
    """One llama_context and a batch to fill. Sequences keep their prompts, so that the next task may rewind to them."""

    def __init__(self, model: Any, threads: int, has_flash: bool, *, num_sequences: int, num_tokens: int) -> None:
        self.has_flash = has_flash
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = num_sequences * num_tokens
        params.n_batch = params.n_ubatch = NUM_BATCH
        params.n_seq_max = num_sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if has_flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.kv_unified = False  # each sequence has its own buffer, so those that stand still cost nothing
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context of {num_sequences} × {num_tokens} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch = llama_cpp.llama_batch_init(NUM_BATCH, 0, 1)
        self._held: dict[int, Prompt] = {}

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def prefill(self, prompts: list[Prompt]) -> float:
        """Seconds to compute each prompt from an empty cache and take its first token."""
        began_s = time.perf_counter()
        for prompt in prompts:
            llama_cpp.llama_memory_clear(self._memory, False)
            for start in range(0, len(prompt), NUM_BATCH):
                self._compute([(0, start + i, token) for i, token in enumerate(prompt[start : start + NUM_BATCH])])
            self._choose(1)
        return time.perf_counter() - began_s

    def decode(self, prompts: list[Prompt], first: int, num_tokens: int) -> float:
        """Seconds for `num_tokens` greedy tokens of every prompt at once, after each one's first token."""
        self._hold(prompts, first)
        tokens = [prompt[-1] for prompt in prompts]
        began_s = time.perf_counter()
        for step in range(num_tokens + 1):
            self._compute(
                [(first + i, len(prompt) - 1 + step, tokens[i]) for i, prompt in enumerate(prompts)], all_logits=True
            )
            tokens = self._choose(len(prompts))
            if step == 0:
                began_s = time.perf_counter()
        return time.perf_counter() - began_s

    def _hold(self, prompts: list[Prompt], first: int) -> None:
        """Bring the sequences from `first` on to their prompts' last token but one."""
        for sequence, prompt in enumerate(prompts, first):
            if self._held.get(sequence) == prompt:
                llama_cpp.llama_memory_seq_rm(self._memory, sequence, len(prompt) - 1, -1)
                continue
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
            self._compute([(sequence, i, token) for i, token in enumerate(prompt[:-1])])
            self._held[sequence] = prompt

    def _compute(self, rows: list[tuple[int, int, int]], *, all_logits: bool = False) -> None:
        """One batch of (sequence, position, token), with logits for all rows or for the last."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, token) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = all_logits or i == len(rows) - 1
        if (status := llama_cpp.llama_decode(self._context, batch)) != 0:
            raise RuntimeError(f"llama_decode returned {status} for {len(rows)} rows")

    def _choose(self, num_rows: int) -> list[int]:
        """The most likely token of every row with logits: numpy's arg max is faster than llama.cpp's greedy sampler."""
        pointer = ctypes.cast(llama_cpp.llama_get_logits(self._context), ctypes.POINTER(ctypes.c_float))
        logits: NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(num_rows, self._vocab_size))
        return [int(token) for token in logits.argmax(axis=1)]


class Driver:
    """The model, and for each kind of task a context with flash attention or without it, whichever is faster."""

    def __init__(self, model_path: str, threads: int) -> None:
        self._model = llama_cpp.llama_model_load_from_file(model_path.encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {model_path}")
        self._threads = threads
        self._chosen: dict[str, Context] = {}

    def prefill(self, prompts: list[Prompt]) -> dict[str, float]:
        context = self._context("prefill", prompts)
        return {"rate": sum(map(len, prompts)) / context.prefill(prompts)}

    def decode(self, prompts: list[Prompt], num_streams: int, num_tokens: int) -> dict[str, float]:
        context = self._context("decode", prompts)
        seconds = sum(
            context.decode(prompts[first : first + num_streams], first, num_tokens)
            for first in range(0, len(prompts), num_streams)
        )
        return {"rate": len(prompts) * num_tokens / seconds}

    def describe(self) -> dict[str, str]:
        features = llama_cpp.llama_print_system_info().decode().replace(" = 1", "").replace("CPU : ", "").strip(" |")
        chosen = [f"{kind} {'with' if each.has_flash else 'without'} flash attention" for kind, each in self._kinds()]
        return {"text": "; ".join([f"llama-cpp-python {llama_cpp.__version__} ({features})", *chosen])}

    def _kinds(self) -> list[tuple[str, Context]]:
        return sorted(self._chosen.items(), reverse=True)

    def _context(self, kind: str, prompts: list[Prompt]) -> Context:
        if kind not in self._chosen:
            self._chosen[kind] = self._calibrate(kind, prompts)
        return self._chosen[kind]

    def _calibrate(self, kind: str, prompts: list[Prompt]) -> Context:
        """Both ways are tried three times, in turns, on a short task; the context with the shortest time is kept."""
        trials = [self._open(kind, has_flash) for has_flash in (True, False)]
        many = [prompts[i % len(prompts)] for i in range(CALIBRATION_STREAMS)]
        times: list[tuple[float, int]] = []
        for number in range(3 * len(trials)):
            context = trials[number % len(trials)]
            if kind == "prefill":
                seconds = context.prefill(prompts[:1])
            else:
                seconds = context.decode(many, 0, CALIBRATION_TOKENS)
            print(f"{kind}, flash attention {context.has_flash}: {seconds:.3f} s", file=sys.stderr, flush=True)
            times.append((seconds, number % len(trials)))
        best = trials.pop(min(times)[1])
        for other in trials:
            other.close()
        return best

    def _open(self, kind: str, has_flash: bool) -> Context:
        num_sequences, num_tokens = (1, MAX_PREFILL) if kind == "prefill" else (MAX_STREAMS, MAX_STREAM_TOKENS)
        return Context(self._model, self._threads, has_flash, num_sequences=num_sequences, num_tokens=num_tokens)


def quantize(source: str, target: str, ftype: str) -> None:
    """Write `source` anew in another type, all tensors alike. Raises RuntimeError where llama.cpp cannot."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(ftype)
    params.allow_requantize = True
    params.pure = True
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp does not write {source} as type {ftype}")


def serve(driver: Driver) -> None:
    """Answer each line of standard input with one of standard output."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        match task["type"]:
            case "Prefill":
                answer: Any = driver.prefill(task["prompts"])
            case "Decode":
                answer = driver.decode(task["prompts"], task["num_streams"], task["num_tokens"])
            case "Describe":
                answer = driver.describe()
        print(json.dumps(answer), flush=True)


def _ignore_log(level: int, text: bytes, data: Any) -> None:
    if level >= 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode(errors="replace"))


LOG_CALLBACK = llama_cpp.llama_log_callback(_ignore_log)

if __name__ == "__main__":
    llama_cpp.llama_log_set(LOG_CALLBACK, None)
    llama_cpp.llama_backend_init()
    if sys.argv[1] == "--quantize":
        quantize(*sys.argv[2:])
    else:
        serve(Driver(sys.argv[1], int(sys.argv[2])))
