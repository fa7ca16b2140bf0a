"""Packed weights on disk: made once, by whomever, found whole or not at all."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import gguf_factory
import numpy as np
import pytest
from gguf_factory import TinyModel

from hodios.engine import packed, weights
from hodios.engine.gguf import Architecture
from hodios.engine.packed import content_hash
from hodios.errors import NotEnoughMemory, SetupError, UnsupportedModel

MODEL = TinyModel(hidden=64, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward=64)
FAST = f"fast-{weights.PACK_VERSION}"
EXACT = f"exact-{weights.PACK_VERSION}"


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    return gguf_factory.write(MODEL, tmp_path / "model.gguf")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "key"


def anything_goes(architecture: Architecture, num_bytes: int) -> None:
    """For `check`."""


def open_weights(model_path: Path, cache: Path, *, is_exact: bool) -> weights.Weights:
    return packed.open_weights(model_path, cache, is_exact=is_exact, check=anything_goes)


def test_what_the_check_raises_comes_before_anything_is_packed(
    model_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def check(architecture: Architecture, num_bytes: int) -> None:
        seen.append((architecture.num_layers, num_bytes))
        raise NotEnoughMemory("no")

    monkeypatch.setattr(weights, "pack", lambda *arguments, **more: pytest.fail("packed all the same"))
    with pytest.raises(NotEnoughMemory, match="no"):
        packed.open_weights(model_path, cache, is_exact=False, check=check)
    [(num_layers, num_bytes)] = seen
    assert num_layers == 1
    assert num_bytes > 320 * 64
    assert visible(cache) == set()


def visible(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.name != ".lock"}


def test_each_mode_has_its_folder(model_path: Path, cache: Path) -> None:
    assert not open_weights(model_path, cache, is_exact=False).is_exact
    assert open_weights(model_path, cache, is_exact=True).is_exact
    assert visible(cache) == {FAST, EXACT}


def test_the_model_file_is_not_read_again(model_path: Path, cache: Path) -> None:
    first = open_weights(model_path, cache, is_exact=False)
    model_path.unlink()
    again = open_weights(model_path, cache, is_exact=False)
    np.testing.assert_array_equal(again.matrices["token_embd"][0].codes, first.matrices["token_embd"][0].codes)
    assert again.weights_hash == first.weights_hash


def test_the_hash_is_that_of_all_parts(tmp_path: Path, model_path: Path, cache: Path) -> None:
    assert open_weights(model_path, cache, is_exact=False).weights_hash == content_hash((model_path,))
    other = tmp_path / "other"
    other.write_bytes(b"more")
    assert content_hash((model_path, other)) != content_hash((model_path,))
    assert content_hash((other,)) == "187897ce0afcf20b50ba2b37dca84a951b7046f29ed5ab94f010619f69d6e189"


def test_a_full_disk_is_refused_with_numbers(model_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(weights, "packed_bytes", lambda model, is_exact: 3 * 2**30)
    with pytest.raises(NotEnoughMemory) as refusal:
        open_weights(model_path, cache, is_exact=False)
    assert "3.0 GiB" in str(refusal.value)
    assert "0.0 GiB left" in str(refusal.value)
    assert str(cache) in str(refusal.value)
    assert visible(cache) == set()


def test_a_disk_that_fills_up_meanwhile_is_told(model_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "pack", full)
    with pytest.raises(SetupError, match=r"model\.gguf cannot be packed into .*No space left"):
        open_weights(model_path, cache, is_exact=False)
    assert visible(cache) == set()


def test_a_folder_that_cannot_be_written_is_told(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SetupError, match="cannot be packed"):
        open_weights(model_path, tmp_path / "cache" / "key", is_exact=False)


def test_what_cannot_be_run_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = gguf_factory.REFUSED["missing-tensor"].write(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel):
        open_weights(path, cache, is_exact=False)
    assert visible(cache) == set()


def test_other_versions_are_removed_and_nothing_else(model_path: Path, cache: Path) -> None:
    for name in ("fast-0", "exact-0", "fast-zero", "fast-0.txt", "tokenizer"):
        (cache / name).mkdir(parents=True)
    open_weights(model_path, cache, is_exact=False)
    assert visible(cache) == {FAST, "exact-0", "fast-zero", "fast-0.txt", "tokenizer"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights.bin").unlink(),
        lambda folder: (folder / "weights.json").unlink(),
        lambda folder: (folder / "weights.json").write_text("{"),
        lambda folder: (folder / "weights.json").write_text("{}"),
        lambda folder: (folder / "weights.bin").write_bytes(b""),
        lambda folder: (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:1000]),
    ],
    ids=["no weights", "no index", "no json", "empty index", "empty weights", "cut off"],
)
def test_damage_is_told_with_what_to_do(damage: Callable[[Path], None], model_path: Path, cache: Path) -> None:
    open_weights(model_path, cache, is_exact=False)
    damage(cache / FAST)
    with pytest.raises(SetupError, match=f"{FAST} are damaged .* Delete that folder"):
        open_weights(model_path, cache, is_exact=False)


PACKER = """
import sys
from pathlib import Path
from hodios.engine.packed import open_weights
weights = open_weights(Path(sys.argv[1]), Path(sys.argv[2]), is_exact=False, check=lambda *_: None)
matrices = [part for parts in weights.matrices.values() for part in parts]
print(weights.weights_hash, sum(int(part.codes.astype("i8").sum()) for part in matrices))
"""


def test_concurrent_packers_agree(model_path: Path, cache: Path) -> None:
    command = [sys.executable, "-c", PACKER, str(model_path), str(cache)]
    packers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {packer.communicate(timeout=300)[0] for packer in packers}
    assert [packer.returncode for packer in packers] == [0, 0, 0]
    assert len(said) == 1
    assert visible(cache) == {FAST}


HALF_WAY = """
import signal, sys
from pathlib import Path
from hodios.engine import packed, weights
written = []
write = weights._write
def stopping(out, array):
    written.append(write(out, array))
    if len(written) == 5:
        out.flush()
        print("half way", flush=True)
        signal.pause()
    return written[-1]
weights._write = stopping
packed.open_weights(Path(sys.argv[1]), Path(sys.argv[2]), is_exact=False, check=lambda *_: None)
"""


def test_a_kill_in_the_middle_leaves_nothing_that_is_found(model_path: Path, cache: Path) -> None:
    command = [sys.executable, "-c", HALF_WAY, str(model_path), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as packer:
        assert packer.stdout is not None
        assert packer.stdout.readline() == "half way\n"
        packer.send_signal(signal.SIGKILL)
    assert FAST not in visible(cache)
    assert visible(cache), "it was killed before it began"
    found = open_weights(model_path, cache, is_exact=False)
    assert found.weights_hash == packed.content_hash((model_path,))
    assert visible(cache) == {FAST}
