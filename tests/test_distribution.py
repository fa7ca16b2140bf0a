"""What asks the same servers is taken together, what takes long begins first, and each file stays as it is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import distribution
import pytest


def test_whatever_asks_a_shared_server_is_taken_together(repository: Path) -> None:
    shared = re.compile(r"\b(live|terse|remote)_server: |\b(visitor|operator): Visit")
    files = [path for path in (repository / "tests").rglob("test_*.py") if shared.search(path.read_text())]
    units = [distribution.unit_of(str(path.relative_to(repository))) for path in files]
    assert set(units) == set(distribution.TOGETHER)


def test_every_file_that_is_named_is_there(repository: Path) -> None:
    named = (*distribution.LONG, *(file for files in distribution.TOGETHER.values() for file in files))
    assert [file for file in named if not (repository / file).exists()] == []


@pytest.mark.parametrize("num", [1, 5])
def test_long_ones_begin_first_and_files_keep_their_order(num: int) -> None:
    files = ["tests/a.py", "tests/engine/b.py", "tests/conformance/test_bfcl.py", "tests/browser/c.py", "tests/d.py"]
    files += ["tests/d.py", "tests/conformance/test_seeds.py"]
    items = [SimpleNamespace(nodeid=f"{file}::test_{each}") for each in range(num) for file in files]
    in_order = sorted(item.nodeid for item in items)
    distribution.order(items)  # type: ignore[arg-type]
    ids = [item.nodeid for item in items]
    assert sorted(ids) == in_order
    units = list(dict.fromkeys(distribution.unit_of(id.partition("::")[0]) for id in ids))
    assert units == ["browser", "live", "tests/engine/b.py", "tests/d.py", "tests/a.py"]
    for file in set(files):
        of_file = [id for id in ids if id.startswith(f"{file}::")]
        assert of_file == sorted(of_file)
