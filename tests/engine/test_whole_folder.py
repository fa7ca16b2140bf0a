"""One folder, made once: by many at a time, after kills, and over what is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hodios.engine.whole_folder import UNFINISHED_NAME, make_whole, write_durably


def fill(folder: Path) -> None:
    write_durably(folder / "content", b"whole")


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"

    def watched(unfinished: Path) -> None:
        assert not folder.exists()
        fill(unfinished)

    make_whole(folder, watched)
    assert (folder / "content").read_bytes() == b"whole"
    assert not (folder.parent / UNFINISHED_NAME).exists()


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    make_whole(tmp_path / "folder", fill)
    make_whole(tmp_path / "folder", lambda unfinished: pytest.fail("made again"))


def test_what_is_not_whole_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "junk").write_text("half")
    make_whole(tmp_path / "folder", fill, is_whole=lambda folder: (folder / "content").exists())
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["content"]


def test_a_failure_leaves_nothing_and_is_told(tmp_path: Path) -> None:
    def failing(unfinished: Path) -> None:
        fill(unfinished)
        raise KeyError("no")

    with pytest.raises(KeyError):
        make_whole(tmp_path / "folder", failing)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    make_whole(tmp_path / "folder", fill)
    assert (tmp_path / "folder" / "content").exists()


def test_many_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[str] = []

    def counted(unfinished: Path) -> None:
        made.append(threading.current_thread().name)
        fill(unfinished)

    threads = [threading.Thread(target=make_whole, args=(tmp_path / "folder", counted)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "folder" / "content").read_bytes() == b"whole"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OSError, match="folder"):
        make_whole(tmp_path / "folder", fill)


KILLED = """
import os, signal, sys
from pathlib import Path
from hodios.engine.whole_folder import make_whole
def fill(folder):
    (folder / "content").write_bytes(b"half")
    print("filling", flush=True)
    signal.pause()
make_whole(Path(sys.argv[1]), fill)
"""


def test_a_killed_maker_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "filling\n"
        waiting = threading.Thread(target=make_whole, args=(folder, fill))
        waiting.start()
        assert not folder.exists()
        os.kill(maker.pid, signal.SIGKILL)
    waiting.join(timeout=60)
    assert (folder / "content").read_bytes() == b"whole"
    assert not (tmp_path / UNFINISHED_NAME).exists()
