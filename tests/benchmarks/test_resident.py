"""Pages of a family of processes count once, and its own memory in each of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.resident import family_mib

FILE_MIB, OWN_MIB = 32, 16
PROGRAM = f"""
import mmap, sys
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
num = sum(pages[at] for at in range(0, len(pages), 4096))
own = bytearray(b"x" * {OWN_MIB} * 2**20)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[int]]:
    path = tmp_path / "pages"
    path.write_bytes(b"\1" * FILE_MIB * 2**20)
    command = [sys.executable, "-c", PROGRAM, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    yield [process.pid for process in processes]
    for process in processes:
        process.communicate()


def test_shared_pages_count_once(two: list[int]) -> None:
    alone, together = family_mib(two[:1]), family_mib(two)
    assert alone > FILE_MIB + OWN_MIB
    # The other one adds what is its own, and neither the file nor the libraries.
    assert OWN_MIB < together - alone < OWN_MIB + FILE_MIB / 2


def test_strangers_make_nobody_smaller(two: list[int]) -> None:
    assert family_mib(two[:1]) == pytest.approx(family_mib(two[1:]), abs=1)


def test_who_has_ended_holds_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    assert family_mib([ended.pid]) == 0
