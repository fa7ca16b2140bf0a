"""How an engine worker is to be started. Light to import: no runtime, no numpy."""

from __future__ import annotations

import msgspec


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a worker is told at its start."""

    model_path: str
    """The GGUF file, or the first of its parts."""
    tokenizer_json: str
    """A file in the `tokenizers` library's format, for grammars."""
    socket_path: str
    cache_folder: str
    """Where this model's packed weights are kept between starts."""
    eos_ids: list[int]
    threads: int
    is_exact: bool = False
    speculates: bool = True
    kv_cache_bytes: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 512
    max_queue: int = 256
    context_length: int | None = None
    precision: str | None = None
    """bf16 or f32; None takes what the processor is best at."""
