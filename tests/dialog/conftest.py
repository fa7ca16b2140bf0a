"""Vocabularies, expected tokens and chat templates that others wrote: from llama.cpp's sources, as PyPI has them."""

from __future__ import annotations

import gc
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pytest

sys.path.append(str(Path(__file__).parent))

from conversations import MARKUP, FileTokens, clock
from mistral_files import metadata_of

from hodios.dialog.families import FAMILIES
from hodios.dialog.profile import Profile
from hodios.dialog.tokenizer import Tokenizer
from hodios.dialog.vocabulary import CONTROL, USER_DEFINED

SOURCES = "llama-cpp-python==0.3.36"
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@pytest.fixture(scope="session")
def llama_cpp_models(repository: Path, alone: Callable[[str], AbstractContextManager[None]]) -> Path:
    """The folder `models` of llama.cpp, downloaded once into the checkout's cache."""
    home = repository / ".cache" / SOURCES
    models = home / "models"
    with alone("llama.cpp"):
        if not models.is_dir():
            _fetch(home, models)
    return models


def _fetch(home: Path, models: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    archive = _download(home)
    partial = home / "partial"
    with tarfile.open(archive) as sources:
        for member in sources:
            _, found, name = member.name.partition("/vendor/llama.cpp/models/")
            if found and member.isfile():
                _extract(sources, member, partial / name)
    archive.unlink()
    partial.rename(models)


def _extract(sources: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    # Not all Pythons that we support can be asked to extract no more than data.
    source = sources.extractfile(member)
    assert source is not None
    assert ".." not in target.parts
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _download(home: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"]
    result = subprocess.run([*command, "--dest", str(home), SOURCES], capture_output=True, text=True, check=False)
    archives = list(home.glob("*.tar.gz"))
    if result.returncode or not archives:
        pytest.fail(f"the tokenizer tests need the sources of {SOURCES}, and pip cannot fetch them:\n{result.stderr}")
    return archives[0]


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file. The `gguf` package reads it too, but takes seconds for large vocabularies."""
    with path.open("rb") as file:
        magic, version, _, num_keys = struct.unpack("<4sIQQ", file.read(24))
        assert (magic, version) in {(b"GGUF", 2), (b"GGUF", 3)}
        return {_read(file, STRING): _read(file, struct.unpack("<I", file.read(4))[0]) for _ in range(num_keys)}


def _read(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return file.read(struct.unpack("<Q", file.read(8))[0]).decode()
    if kind == ARRAY:
        kind, length = struct.unpack("<IQ", file.read(12))
        if kind in NUMBERS:
            form = f"<{length}{NUMBERS[kind]}"
            return list(struct.unpack(form, file.read(struct.calcsize(form))))
        return [_read(file, kind) for _ in range(length)]
    form = f"<{NUMBERS[kind]}"
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


@pytest.fixture(scope="session")
def vocabulary_metadata(llama_cpp_models: Path, starter_model_path: Path) -> Callable[[str], dict[str, Any]]:
    """By the name that llama.cpp gives a vocabulary, or "starter": the metadata of its GGUF file."""

    @cache
    def read(name: str) -> dict[str, Any]:
        path = starter_model_path if name == "starter" else llama_cpp_models / f"ggml-vocab-{name}.gguf"
        return read_metadata(path)

    return read


@pytest.fixture(scope="session")
def tokenizer_of(vocabulary_metadata: Callable[[str], dict[str, Any]]) -> Callable[[str], Tokenizer]:
    @cache
    def build(name: str) -> Tokenizer:
        tokenizer = Tokenizer.from_gguf(vocabulary_metadata(name))
        # It stays to the end; the collector need not look through a million words again and again.
        gc.freeze()
        return tokenizer

    return build


@pytest.fixture(scope="session")
def mistral_tokenizer_of() -> Callable[[str], Tokenizer]:
    """Mistral's own vocabularies, by the name of their version."""

    @cache
    def build(name: str) -> Tokenizer:
        tokenizer = Tokenizer.from_gguf(metadata_of(name))
        gc.freeze()
        return tokenizer

    return build


@pytest.fixture(scope="session")
def hermes(vocabulary_metadata: Callable[[str], dict[str, Any]]) -> Tokenizer:
    """A vocabulary as Hermes 2 Pro made it of Llama 3's: ChatML and the tags of tools are tokens."""
    names = ("<|im_start|>", "<|im_end|>", "<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>")
    metadata = dict(vocabulary_metadata("llama-bpe"))
    tokens = list(metadata["tokenizer.ggml.tokens"])
    types = list(metadata["tokenizer.ggml.token_type"])
    for number, name in enumerate((*names, "</tool_response>")):
        id = tokens.index(f"<|reserved_special_token_{number + 10}|>")
        tokens[id] = name
        types[id] = CONTROL if name.startswith("<|") else USER_DEFINED
    return Tokenizer.from_gguf(metadata | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types})


@pytest.fixture(scope="session")
def template_sources(llama_cpp_models: Path) -> dict[str, str]:
    """Chat templates of published models, by the names of llama.cpp's files."""
    paths = sorted((llama_cpp_models / "templates").glob("*.jinja"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="session")
def published_markup(template_sources: dict[str, str]) -> frozenset[str]:
    """All that looks like a control token in any of these templates, or is one in a family."""
    found = {text for source in template_sources.values() for text in MARKUP.findall(source)}
    found |= {text for family in FAMILIES.values() for text in family.markup if MARKUP.fullmatch(text)}
    return frozenset(found | {"<s>", "</s>"})


@pytest.fixture(scope="session")
def published_profiles(template_sources: dict[str, str], published_markup: frozenset[str]) -> dict[str, Profile]:
    """Of models that have these templates, and a control token for all markup."""
    tokens = {name: FileTokens({"default": source}, published_markup) for name, source in template_sources.items()}
    return {name: Profile.for_tokenizer(entry, clock) for name, entry in tokens.items()}


@pytest.fixture(scope="session")
def starter(tokenizer_of: Callable[[str], Tokenizer]) -> Tokenizer:
    """Byte-level BPE, of the model that comes with the program."""
    return tokenizer_of("starter")


@pytest.fixture(scope="session")
def llama2(tokenizer_of: Callable[[str], Tokenizer]) -> Tokenizer:
    """SentencePiece BPE."""
    return tokenizer_of("llama-spm")
