"""Logs that do not grow without bound."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hodios.providers.rotating_log import RotatingLog

numbers = itertools.count()


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 16))
def test_the_end_is_kept_whole_and_no_file_is_too_long(
    tmp_path_factory: object, pieces: list[bytes], most_bytes: int
) -> None:
    path = tmp_path_factory.mktemp(f"log{next(numbers)}") / "logs" / "x.log"  # type: ignore[attr-defined]
    log = RotatingLog(path, most_bytes=most_bytes)
    for piece in pieces:
        log.write(piece)
    log.close()
    older = path.with_name("x.log.1")
    kept = (older.read_bytes() if older.exists() else b"") + path.read_bytes()
    written = b"".join(pieces)
    assert len(path.read_bytes()) <= most_bytes
    assert len(kept) >= min(len(written), most_bytes)
    assert written.endswith(kept)
    assert {file.name for file in path.parent.iterdir()} <= {"x.log", "x.log.1"}


def test_a_new_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for word in (b"one\n", b"two\n"):
        log = RotatingLog(tmp_path / "x.log")
        log.write(word)
        log.close()
    assert (tmp_path / "x.log").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "x.log").stat().st_mode & 0o077 == 0


def test_the_last_line_with_words_in_it(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "x.log")
    assert log.last_line == ""
    log.write(b"one\n  the la")
    log.write("st wörd \n\n \n".encode())
    assert log.last_line == "the last wörd"
    log.close()
