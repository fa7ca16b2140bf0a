"""Which models lie in HODIOS_HOME/models. Knows file names only; what is in the files the engine reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, structs

PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0")
"""Quantizations in the order in which one is taken where none was asked for."""
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_QUANTIZATION = re.compile(
    r"(?:^|[._-])((?:UD-)?I?Q\d+(?:_(?:\d|K|NL|XS|XXS|S|M|L|XL))*|TQ\d_0|BF16|F16|F32|FP16|MXFP4)(?=[._-]|$)",
    re.IGNORECASE,
)


class InstalledModel(Struct, frozen=True, kw_only=True):
    id: str
    """`author/name`, with `:quantization` where the folder holds several; one of these has the plain id as alias."""
    aliases: tuple[str, ...] = ()
    path: Path
    """The file, or the first of a split one."""
    files: tuple[Path, ...]
    size_bytes: int
    quantization: str
    """From the file's name; empty where it says nothing."""


def installed(home: Path) -> list[InstalledModel]:
    """All whole models under `home`, by id. Downloads under way and incomplete split files are none."""
    found: list[InstalledModel] = []
    for folder in sorted((home / "models").glob("*/*/")):
        found += _models_in(folder)
    return _without_ambiguous_aliases(sorted(found, key=lambda model: model.id.lower()))


def find(models: Iterable[InstalledModel], name: str) -> InstalledModel | None:
    """The model of that id or alias, upper and lower case alike."""
    wanted = name.lower()
    return next((model for model in models if wanted in _names(model)), None)


def quantization_of(file_name: str) -> str:
    """`Q4_K_M` of `Llama-3.2-1B-Instruct-Q4_K_M.gguf`; empty where the name says none."""
    stem = SPLIT.sub("", file_name).removesuffix(".gguf")
    matches = _QUANTIZATION.findall(stem)
    return matches[-1].upper() if matches else ""


def _models_in(folder: Path) -> list[InstalledModel]:
    repository = f"{folder.parent.name}/{folder.name}"
    sets = sorted(_sets_in(folder), key=_preference)
    labels = Counter(quantization_of(files[0].name) for files in sets)
    models = []
    for position, files in enumerate(sets):
        quantization = quantization_of(files[0].name)
        label = quantization if labels[quantization] == 1 and quantization else files[0].stem
        suffix = f":{label}" if len(sets) > 1 else ""
        plain = (repository, *_short_names(folder.name)) if suffix and position == 0 else ()
        models.append(
            InstalledModel(
                id=f"{repository}{suffix}",
                aliases=(*(f"{name}{suffix}" for name in _short_names(folder.name)), *plain),
                path=files[0],
                files=files,
                size_bytes=sum(file.stat().st_size for file in files),
                quantization=quantization,
            )
        )
    return models


def _preference(files: tuple[Path, ...]) -> tuple[int, str]:
    quantization = quantization_of(files[0].name)
    return (PREFERRED.index(quantization) if quantization in PREFERRED else len(PREFERRED), files[0].name)


def _sets_in(folder: Path) -> list[tuple[Path, ...]]:
    """Single files, and the split ones of which all parts are there."""
    sets: dict[tuple[str, int], list[Path]] = {}
    for file in sorted(folder.glob("*.gguf")):
        split = SPLIT.search(file.name)
        if file.is_file() and not file.name.startswith("."):
            key = (file.name[: split.start()], int(split[2])) if split else (file.name, 1)
            sets.setdefault(key, []).append(file)
    return [tuple(files) for (_, count), files in sets.items() if len(files) == count]


def _short_names(name: str) -> list[str]:
    bare = re.sub(r"-GGUF$", "", name, flags=re.IGNORECASE)
    return [name] if bare == name else [name, bare]


def _names(model: InstalledModel) -> set[str]:
    return {model.id.lower(), *(alias.lower() for alias in model.aliases)}


def _without_ambiguous_aliases(models: list[InstalledModel]) -> list[InstalledModel]:
    counts = Counter(name for model in models for name in _names(model))
    return [
        structs.replace(model, aliases=tuple(alias for alias in model.aliases if counts[alias.lower()] == 1))
        for model in models
    ]
