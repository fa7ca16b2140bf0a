"""What is measured, of whom, and which ratios are told. Pure: reads no file and starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks import prompts
from benchmarks.figures import Ratio
from benchmarks.tasks import Answers, Decode, FirstTokens, Prefill, Prompt, Task

OURS = "Hodios"
EXACT = "Hodios --exact"
PLAIN = "Hodios without speculation"
LLAMACPP = "llama.cpp"
BEST = "llama.cpp, BF16"
VLLM = "vLLM, BF16"
EVERYBODY = (OURS, LLAMACPP, EXACT, BEST, VLLM)
STREAMS = (1, 8, 16, 32, 64)

_PREFILL_TARGETS = {LLAMACPP: 4.0, EXACT: 3.0, BEST: 1.4, VLLM: 1.0}
_STREAM_TARGETS = {LLAMACPP: {1: 1.0, 16: 3.5}, BEST: {16: 2.0}, VLLM: dict.fromkeys(STREAMS, 1.3)}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One task for some subjects; `task` gives the prompts of a round, `figures` names what is kept of the answer."""

    name: str
    subjects: tuple[str, ...]
    task: Callable[[int], Task]
    figures: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is computed; `QUICK` only shows that everything works."""

    num_prefill: int = 4
    prefill_length: int = 512
    long_length: int = 2048
    stream_prompt: int = 128
    stream_tokens: int = 128
    num_single: int = 4
    """Prompts that are answered one after the other in the measurement of one stream."""
    num_sharing: int = 16
    num_shared: int = 2000
    passage: int = 160
    copied_tokens: int = 256
    json_streams: int = 8
    json_tokens: int = 128


QUICK = Sizes(
    num_prefill=1,
    prefill_length=64,
    long_length=128,
    stream_tokens=32,
    stream_prompt=32,
    num_single=1,
    num_sharing=4,
    num_shared=200,
    copied_tokens=32,
    json_tokens=24,
)


def measurements(vocab_size: int, texts: Mapping[str, Prompt], *, is_quick: bool) -> list[Measurement]:
    """`texts` has the tokens of `corpus` and of `request`, which asks for JSON."""
    sizes = QUICK if is_quick else Sizes()
    corpus = texts["corpus"]
    return [
        _prefill("prefill", EVERYBODY, sizes.num_prefill, sizes.prefill_length, vocab_size),
        _prefill("prefill-2048", (OURS, LLAMACPP, BEST, VLLM), 1, sizes.long_length, vocab_size),
        *(_streams(count, sizes, corpus) for count in STREAMS),
        *(_single(f"streams-{n}-plain", f"streams-{n}", (PLAIN,), _decode(n, sizes, corpus)) for n in (1, 16)),
        *_shared_prefix(sizes, corpus),
        _single(
            "speculation",
            "copying",
            (OURS, PLAIN),
            Decode([prompts.repeating(corpus, sizes.passage, 4)], 1, sizes.copied_tokens),
        ),
        *_json(sizes, corpus, texts["request"]),
    ]


def _prefill(name: str, subjects: tuple[str, ...], num_prompts: int, length: int, vocab_size: int) -> Measurement:
    def task(number: int) -> Task:
        rng = np.random.default_rng([length, number])
        return Prefill(prompts.random_prompts(rng, num_prompts, length, vocab_size))

    return Measurement(name, subjects, task, {"rate": name})


def _streams(num_streams: int, sizes: Sizes, corpus: Prompt) -> Measurement:
    subjects = EVERYBODY if num_streams == 16 else (OURS, LLAMACPP, VLLM)
    figures = {"rate": f"streams-{num_streams}"}
    if num_streams == 16:
        figures["efficiency"] = "step-efficiency"
    task = _decode(num_streams, sizes, corpus)
    return Measurement(f"streams-{num_streams}", subjects, lambda number: task, figures)


def _decode(num_streams: int, sizes: Sizes, corpus: Prompt) -> Decode:
    """All measurements take their prompts from the front of one list, so that a peer may keep what it has computed."""
    all_prompts = prompts.windows(corpus, max(STREAMS), sizes.stream_prompt)
    num_prompts = sizes.num_single if num_streams == 1 else num_streams
    return Decode(all_prompts[:num_prompts], num_streams, sizes.stream_tokens)


def _shared_prefix(sizes: Sizes, corpus: Prompt) -> list[Measurement]:
    sharing = prompts.shared_prefix(corpus, sizes.num_sharing, sizes.num_shared, 32)
    return [
        _single(name, name, (OURS,), FirstTokens(sharing, may_share), "seconds")
        for name, may_share in (("ttft-cached", True), ("ttft-uncached", False))
    ]


def _json(sizes: Sizes, corpus: Prompt, request: Prompt) -> list[Measurement]:
    asking = [request + text for text in prompts.windows(corpus, sizes.json_streams, 96)]
    return [
        _single(name, name, (OURS, PLAIN), Answers(asking, sizes.json_tokens, schema))
        for name, schema in (("unconstrained", None), ("json-schema", prompts.people_schema()))
    ]


def _single(name: str, figure: str, subjects: tuple[str, ...], task: Task, kind: str = "rate") -> Measurement:
    return Measurement(name, subjects, lambda number: task, {kind: figure})


def ratios() -> list[Ratio]:
    """The RESULT lines in their order; those without both sides are left out by `figures.results`."""
    lines = [Ratio("prefill", (OURS, "prefill"), (LLAMACPP, "prefill"), _PREFILL_TARGETS[LLAMACPP])]
    lines += [_against(LLAMACPP, count, "") for count in STREAMS]
    lines += [
        Ratio("streams-1-plain", (PLAIN, "streams-1"), (LLAMACPP, "streams-1")),
        Ratio("streams-16-plain", (PLAIN, "streams-16"), (LLAMACPP, "streams-16")),
        Ratio("prefill-2048", (OURS, "prefill-2048"), (LLAMACPP, "prefill-2048")),
        Ratio("exact-prefill", (EXACT, "prefill"), (LLAMACPP, "prefill"), _PREFILL_TARGETS[EXACT]),
        Ratio("exact-streams-16", (EXACT, "streams-16"), (LLAMACPP, "streams-16"), 2.3),
        Ratio("shared-prefix-ttft", (OURS, "ttft-cached"), (OURS, "ttft-uncached"), 5.0, is_time=True),
        Ratio("speculation", (OURS, "copying"), (PLAIN, "copying"), 1.5),
        Ratio("json-schema", (PLAIN, "json-schema"), (PLAIN, "unconstrained"), 0.9),
        Ratio("json-schema-speculating", (OURS, "json-schema"), (OURS, "unconstrained")),
        Ratio("step-efficiency", (OURS, "step-efficiency"), None, 0.85),
        Ratio("best-prefill", (OURS, "prefill"), (BEST, "prefill"), _PREFILL_TARGETS[BEST]),
        _against(BEST, 16, "best-"),
        Ratio("vllm-prefill", (OURS, "prefill"), (VLLM, "prefill"), _PREFILL_TARGETS[VLLM]),
        *(_against(VLLM, count, "vllm-") for count in STREAMS),
    ]
    return lines


def _against(peer: str, num_streams: int, prefix: str) -> Ratio:
    figure = f"streams-{num_streams}"
    target = _STREAM_TARGETS[peer].get(num_streams)
    return Ratio(f"{prefix}{figure}", (OURS, figure), (peer, figure), target)


def units() -> dict[str, str]:
    rates = ("prefill", "prefill-2048", "copying", "unconstrained", "json-schema", *(f"streams-{n}" for n in STREAMS))
    return dict.fromkeys(rates, "tokens/s") | {
        "ttft-cached": "s",
        "ttft-uncached": "s",
        "step-efficiency": "infer ÷ step",
    }
