"""How much memory a family of processes holds, each page counted once.

The sum of what each process has in memory counts pages twice that they share; and each one's proportional share (PSS)
gets smaller where strangers use the same library, as the load does beside a gateway that is written in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>[0-9a-f]+) (?P<device>\S+) (?P<inode>\d+)")


class Place(NamedTuple):
    """Where in which file a mapping begins."""

    device: str
    inode: str
    offset: str


def family_mib(pids: Iterable[int]) -> float:
    """Memory of their own, of which only those share pages that were forked from each other, and what is in memory of
    the files that they have mapped: as much of each as the one has that has most of it. Those that have ended hold
    nothing."""
    own, files = 0, dict[Place, int]()
    for pid in pids:
        try:
            own += _own_kib(Path(f"/proc/{pid}/smaps_rollup").read_text())
            for place, size in _of_files(Path(f"/proc/{pid}/smaps").read_text()):
                files[place] = max(files.get(place, 0), size)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return (own + sum(files.values())) / 1024


def _own_kib(rollup: str) -> int:
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:"))


def _of_files(smaps: str) -> Iterator[tuple[Place, int]]:
    place, size = None, 0
    for line in smaps.splitlines():
        if found := _MAPPING.match(line):
            place = Place(found["device"], found["inode"], found["offset"]) if found["inode"] != "0" else None
        elif line.startswith("Rss:"):
            size = int(line.split()[1])
        elif line.startswith("Anonymous:") and place is not None:
            yield place, size - int(line.split()[1])
