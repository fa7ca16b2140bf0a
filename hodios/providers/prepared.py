"""A model that is ready to be served: where its file, its tokenizer and its engine's socket are. Light to import."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from hodios.config import Config
from hodios.engine.options import WorkerOptions
from hodios.machine import num_physical_cores
from hodios.types import ModelCard


class Prepared(Struct, frozen=True, kw_only=True):
    """One installed model, ready for an engine worker and for the API. Travels to child processes as JSON."""

    card: ModelCard
    model_file: str
    """The GGUF file, or the first of its parts."""
    folder: str
    """Where all that was made of the file lies."""
    socket: str
    """Where its engine worker listens."""
    eos_ids: list[int]

    @property
    def tokenizer_path(self) -> Path:
        """For `Tokenizer.load`."""
        return Path(self.folder) / "tokenizer.json"

    @property
    def grammar_tokenizer_path(self) -> Path:
        """In the `tokenizers` library's own format."""
        return Path(self.folder) / "grammar-tokenizer.json"


def worker_options(prepared: Prepared, config: Config) -> WorkerOptions:
    """How the model's engine worker is to be started."""
    return WorkerOptions(
        model_path=prepared.model_file,
        tokenizer_json=str(prepared.grammar_tokenizer_path),
        socket_path=prepared.socket,
        cache_folder=prepared.folder,
        eos_ids=prepared.eos_ids,
        threads=config.threads or num_physical_cores(),
        is_exact=config.exact,
        speculates=config.speculation,
        kv_cache_bytes=config.kv_cache_bytes,
        max_sequences=config.max_sequences,
        max_batch_tokens=config.max_batch_tokens,
        max_queue=config.max_queue,
        context_length=config.context_length,
    )
