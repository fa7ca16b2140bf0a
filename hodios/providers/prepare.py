"""What is made once of an installed model's file before it is served: its tokenizer, its card, where its engine is.

Kept in a folder per file and version under HODIOS_HOME/cache; a half-made folder is never found.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from hodios import __version__
from hodios.config import Config
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import GGUFFile, open_model
from hodios.providers.installed import InstalledModel
from hodios.providers.prepared import Prepared
from hodios.types import ModelCard

MAX_OUTPUT_TOKENS = 16384
MAX_SOCKET_PATH = 100
"""Unix sockets have no longer names (108 bytes on Linux, less elsewhere)."""


def prepare(model: InstalledModel, config: Config) -> Prepared:
    """Read the file, or what was made of it before. Raises SetupError for a file that cannot be served."""
    folder = config.home / "cache" / _key(model)
    if not (folder / "prepared.json").is_file():
        _make(folder, model)
    made = msgspec.json.decode((folder / "prepared.json").read_bytes(), type=_Made)
    card = msgspec.structs.replace(made.card, id=model.id, aliases=model.aliases)
    return Prepared(
        card=card,
        model_file=str(model.path),
        folder=str(folder),
        socket=str(_socket_path(config.home, folder.name)),
        eos_ids=made.eos_ids,
    )


class _Made(Struct, frozen=True):
    card: ModelCard
    eos_ids: list[int]


def _key(model: InstalledModel) -> str:
    """Another file, another version: another folder."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in model.files]
    digest = hashlib.sha256(repr((__version__, stats)).encode())
    return digest.hexdigest()[:24]


def _make(folder: Path, model: InstalledModel) -> None:
    file = open_model(model.path)
    tokenizer = Tokenizer.from_gguf(file.metadata)
    made = _Made(_card(file, model), sorted(tokenizer.eos_ids))
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".preparing-", dir=folder.parent))
    try:
        tokenizer.save(unfinished / "tokenizer.json")
        (unfinished / "grammar-tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        (unfinished / "prepared.json").write_bytes(msgspec.json.encode(made))
        if not folder.is_dir():
            os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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


def _socket_path(home: Path, name: str) -> Path:
    """Under `home` where the name is short enough for a socket, else in a folder of this user's own.

    Two servers of one home must not meet each other's engines, so each has names of its own.
    """
    path = home / "run" / f"{name[:12]}-{os.getpid()}.sock"
    if len(str(path)) > MAX_SOCKET_PATH:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"hodios-{os.getuid()}-{digest}" / path.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
