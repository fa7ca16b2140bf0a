"""Packed weights on disk, made once per model file and mapped from then on. A half-made folder is never found."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hodios.engine import weights
from hodios.engine.gguf import Architecture, GGUFFile, open_model
from hodios.engine.weights import PACK_VERSION, Weights
from hodios.engine.whole_folder import make_whole
from hodios.errors import NotEnoughMemory, SetupError

HASH_CHUNK_BYTES = 1 << 20


def open_weights(
    model_path: Path, cache_folder: Path, *, is_exact: bool, check: Callable[[Architecture, int], object]
) -> Weights:
    """The model's weights in the given mode, packed first where they are not yet. Raises SetupError.

    `check` gets the architecture and the size in bytes before anything is packed, and raises what speaks against it.
    """
    mode = "exact" if is_exact else "fast"
    folder = cache_folder / f"{mode}-{PACK_VERSION}"
    if not folder.is_dir():
        try:
            make_whole(folder, lambda unfinished: _pack(open_model(model_path), unfinished, is_exact, check))
        except OSError as error:
            raise SetupError(f"The weights of {model_path.name} cannot be packed into {folder}: {error}") from error
        _remove_other_versions(folder, mode)
    try:
        return weights.load(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"The packed weights in {folder} are damaged ({error}). Delete that folder: it will be made anew."
        ) from error


def _pack(model: GGUFFile, unfinished: Path, is_exact: bool, check: Callable[[Architecture, int], object]) -> None:
    num_bytes = weights.packed_bytes(model, is_exact=is_exact)
    check(model.architecture, num_bytes)
    _check_disk(unfinished, num_bytes)
    weights.pack(model, unfinished, is_exact=is_exact, weights_hash=content_hash(model.paths))


def _remove_other_versions(folder: Path, mode: str) -> None:
    """What no engine of this version would read. An engine that still has it mapped keeps it until it ends."""
    for other in folder.parent.iterdir():
        if other != folder and re.fullmatch(rf"{mode}-\d+", other.name):
            shutil.rmtree(other, ignore_errors=True)


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
            f"Packing the weights needs {needed / 2**30:.1f} GiB on the disk of {folder.parent}, which has "
            f"{free / 2**30:.1f} GiB left. Free some, or put HODIOS_HOME on another disk."
        )
