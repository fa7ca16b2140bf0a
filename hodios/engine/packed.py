"""Packed weights on disk, made once per model file and mapped from then on. A half-made folder is never found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hodios.engine import weights
from hodios.engine.gguf import GGUFFile, open_model
from hodios.engine.weights import PACK_VERSION, Weights
from hodios.errors import NotEnoughMemory

HASH_CHUNK_BYTES = 1 << 20


def open_weights(model_path: Path, cache_folder: Path, *, is_exact: bool) -> Weights:
    """The model's weights in the given mode, packed first where they are not yet. Raises SetupError."""
    folder = cache_folder / f"{'exact' if is_exact else 'fast'}-{PACK_VERSION}"
    if not folder.is_dir():
        _pack_into(folder, open_model(model_path), is_exact)
    return weights.load(folder)


def _pack_into(folder: Path, model: GGUFFile, is_exact: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(folder.parent, weights.packed_bytes(model, is_exact=is_exact))
    unfinished = Path(tempfile.mkdtemp(prefix=".packing-", dir=folder.parent))
    try:
        weights.pack(model, unfinished, is_exact=is_exact, weights_hash=content_hash(model.paths))
        # Another worker may have packed the same in the meantime; then theirs is as good.
        with contextlib.suppress(OSError):
            os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def content_hash(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the bytes of all parts."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(HASH_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NotEnoughMemory(
            f"Packing the weights needs {needed / 2**30:.1f} GiB on the disk of {folder}, which has "
            f"{free / 2**30:.1f} GiB left. Free some, or put HODIOS_HOME on another disk."
        )
