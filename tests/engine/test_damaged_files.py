"""Model files that anybody may have written: whatever is wrong with them is told to the operator, at once."""

from __future__ import annotations

import contextlib
import random
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_factory import TinyModel, write

from hodios.engine.gguf import open_model
from hodios.errors import SetupError

ENOUGH_BYTES = 8 * 2**30
"""Of address space. What a file only claims to have is not made room for."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(TinyModel(), tmp_path_factory.mktemp("whole") / "model.gguf").read_bytes()


@pytest.fixture(autouse=True)
def _little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ENOUGH_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def opened_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(SetupError):
        open_model(path)


def test_files_that_end_too_soon(whole: bytes, tmp_path: Path) -> None:
    for size in (0, 3, 4, 8, 16, 23, 24, 25, 100, 1000, len(whole) // 2, len(whole) - 1):
        opened_or_refused(tmp_path / "model.gguf", whole[:size])


def test_any_damage(whole: bytes, tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(min(len(content), 4000))] = chance.randrange(256)
        opened_or_refused(tmp_path / "model.gguf", bytes(content))


@pytest.mark.parametrize("place", [8, 16])
@pytest.mark.parametrize("count", [2**16, 2**31, 2**40, 2**63, 2**64 - 1])
def test_counts_of_what_is_not_there(whole: bytes, tmp_path: Path, place: int, count: int) -> None:
    """Of tensors and of metadata."""
    opened_or_refused(tmp_path / "model.gguf", whole[:place] + struct.pack("<Q", count) + whole[place + 8 :])


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
def test_a_key_without_end(whole: bytes, tmp_path: Path, length: int) -> None:
    opened_or_refused(tmp_path / "model.gguf", whole[:24] + struct.pack("<Q", length) + whole[32:])
