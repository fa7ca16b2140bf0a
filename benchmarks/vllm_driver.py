"""What vLLM is told to compute, one JSON line per task; runs in its own environment, with nothing of ours in it.

Usage: vllm_driver.py FOLDER. The engine runs in this process and is stepped from here, so no server's cost counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

# Installed in the environment of its own in which this runs.
import vllm  # type: ignore[import-not-found,unused-ignore]

MAX_LENGTH = 4096
MAX_STREAMS = 64

Prompt = list[int]


class Driver:
    def __init__(self, folder: str) -> None:
        self._engine = vllm.LLMEngine.from_engine_args(
            vllm.EngineArgs(
                model=folder,
                dtype="bfloat16",
                skip_tokenizer_init=True,
                max_model_len=MAX_LENGTH,
                max_num_seqs=MAX_STREAMS,
                enable_prefix_caching=False,
                disable_log_stats=True,
            )
        )
        self._num_requests = 0

    def prefill(self, prompts: list[Prompt]) -> dict[str, float]:
        began_s = time.perf_counter()
        self._submit(prompts, 1)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return {"rate": sum(map(len, prompts)) / (time.perf_counter() - began_s)}

    def decode(self, prompts: list[Prompt], num_streams: int, num_tokens: int) -> dict[str, float]:
        total_tokens, total_s = 0, 0.0
        for first in range(0, len(prompts), num_streams):
            tokens, seconds = self._decode(prompts[first : first + num_streams], num_tokens)
            total_tokens += tokens
            total_s += seconds
        return {"rate": total_tokens / total_s}

    def _decode(self, prompts: list[Prompt], num_tokens: int) -> tuple[int, float]:
        """Tokens and seconds between the step in which the last one begins and the one in which the first one ends."""
        self._submit(prompts, num_tokens)
        lengths: dict[str, int] = {}
        window: tuple[int, float] | None = None
        began: tuple[int, float] | None = None
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now_s = time.perf_counter()
            for output in outputs:
                lengths[output.request_id] = len(output.outputs[0].token_ids)
            num_produced = sum(lengths.values())
            if began is None and len(lengths) == len(prompts):
                began = (num_produced, now_s)
            if window is None and began is not None and any(output.finished for output in outputs):
                window = (num_produced - began[0], now_s - began[1])
        if window is None or window[0] == 0:
            raise RuntimeError("the first answer had ended before the last one began")
        return window

    def _submit(self, prompts: list[Prompt], num_tokens: int) -> None:
        for prompt in prompts:
            self._num_requests += 1
            sampling = vllm.SamplingParams(temperature=0.0, max_tokens=num_tokens, ignore_eos=True, detokenize=False)
            self._engine.add_request(str(self._num_requests), {"prompt_token_ids": prompt}, sampling)


def serve(driver: Driver, answers: Any) -> None:
    """Answer each line of standard input with one in `answers`."""
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        match task["type"]:
            case "Prefill":
                answer: Any = driver.prefill(task["prompts"])
            case "Decode":
                answer = driver.decode(task["prompts"], task["num_streams"], task["num_tokens"])
            case "Describe":
                answer = {"text": f"vLLM {vllm.__version__}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # What libraries print goes to standard error, so that nothing mixes with the answers.
    own_output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Driver(sys.argv[1]), own_output)
