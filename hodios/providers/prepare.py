"""What is made once of an installed model's file before it is served: its tokenizer, its card, where its engine is.

Kept in a folder per file and version under HODIOS_HOME/cache; a half-made folder is never found.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from hodios import __version__
from hodios.config import Config
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import GGUFFile, open_model
from hodios.engine.whole_folder import make_whole, write_durably
from hodios.errors import SetupError
from hodios.providers.installed import InstalledModel
from hodios.providers.prepared import Prepared
from hodios.providers.sockets import socket_path
from hodios.types import ModelCard

MAX_OUTPUT_TOKENS = 16384


def prepare(model: InstalledModel, config: Config) -> Prepared:
    """Read the file, or what was made of it before. Raises SetupError for a file that cannot be served."""
    cache = config.home / "cache"
    try:
        folder = cache / _key(model.files)
        if _read(folder) is None:
            make_whole(folder, lambda unfinished: _make(unfinished, model), is_whole=lambda there: bool(_read(there)))
        _remove_outdated(cache)
        socket = socket_path(config.home, folder.name)
    except OSError as error:
        raise SetupError(f"{model.id} cannot be made ready in {config.home}: {error}") from error
    made = _read(folder)
    if made is None:
        raise SetupError(f"{folder} was removed while {model.id} was made ready. Start again.")
    return Prepared(
        card=msgspec.structs.replace(made.card, id=model.id, aliases=model.aliases),
        model_file=str(model.path),
        folder=str(folder),
        socket=str(socket),
        eos_ids=made.eos_ids,
    )


class _Made(Struct, frozen=True):
    files: list[str]
    """What it was made of."""
    card: ModelCard
    eos_ids: list[int]


def _key(files: Iterable[Path]) -> str:
    """Another file, another version: another folder. Raises OSError where a file is gone."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr((__version__, stats)).encode())
    return digest.hexdigest()[:24]


def _read(folder: Path) -> _Made | None:
    """None where nothing was made, or something that this version does not understand."""
    try:
        return msgspec.json.decode((folder / "prepared.json").read_bytes(), type=_Made)
    except (OSError, msgspec.MsgspecError):
        return None


def _make(unfinished: Path, model: InstalledModel) -> None:
    file = open_model(model.path)
    tokenizer = Tokenizer.from_gguf(file.metadata)
    made = _Made([str(path) for path in model.files], _card(file, model), sorted(tokenizer.eos_ids))
    tokenizer.save(unfinished / "tokenizer.json")
    write_durably(unfinished / "grammar-tokenizer.json", tokenizer.to_json().encode())
    write_durably(unfinished / "prepared.json", msgspec.json.encode(made))


def _remove_outdated(cache: Path) -> None:
    """Folders of which we know that their model is gone, has changed, or was read by another version."""
    for folder in cache.iterdir():
        made = None if folder.is_symlink() else _read(folder)
        if made is not None and not _is_current(folder, made):
            shutil.rmtree(folder, ignore_errors=True)


def _is_current(folder: Path, made: _Made) -> bool:
    try:
        return folder.name == _key(map(Path, made.files))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _card(file: GGUFFile, model: InstalledModel) -> ModelCard:
    author, _, name = model.id.partition("/")
    context = file.architecture.context_length
    return ModelCard(
        id=model.id,
        author=author,
        name=str(file.metadata.get("general.name") or name),
        context_length=context,
        max_output_tokens=min(context, MAX_OUTPUT_TOKENS),
        created=int(model.path.stat().st_mtime),
        quantization=model.quantization,
        architecture=file.architecture.name,
        num_parameters=file.num_parameters,
        size_bytes=file.size_bytes,
        license=str(file.metadata.get("general.license") or ""),
    )
