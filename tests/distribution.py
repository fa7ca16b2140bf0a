"""Which tests a worker takes together: those of a file, and files that ask the same servers; long ones come first."""

from __future__ import annotations

from collections import Counter

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    # The web page, with the server behind it.
    "browser": ("tests/browser/",),
    # The starter model behind `live_server` and `terse_server`, and what `remote_server` plays.
    "live": (
        "tests/cli/test_chat_live.py",
        "tests/conformance/test_bfcl.py",
        "tests/conformance/test_browser.py",
        "tests/conformance/test_hostile_live.py",
        "tests/conformance/test_langchain.py",
        "tests/conformance/test_openai_live.py",
        "tests/conformance/test_remote_live.py",
        "tests/conformance/test_seeds.py",
    ),
}
"""A worker starts such servers once for all its tests. Taken together, they are not started once by each worker."""
LONG = ("tests/guard/test_quality.py", "tests/api/test_fuzz.py", "tests/faults/", "tests/engine/", "tests/conformance/")
"""What begins next. Whatever takes long and begins last has one worker work while the others are idle."""


def unit_of(file: str) -> str:
    return next((name for name, beginnings in TOGETHER.items() if file.startswith(beginnings)), file)


def order(items: list[pytest.Item]) -> None:
    """Sorts units as they are to be begun, and leaves the order within files."""
    units = [unit_of(item.nodeid.partition("::")[0]) for item in items]
    sizes = Counter(units)
    begins = {unit: number for number, unit in enumerate(TOGETHER)}

    def rank(unit: str) -> tuple[int, int, int, str]:
        length = next((number for number, beginning in enumerate(LONG) if unit.startswith(beginning)), len(LONG))
        return (begins.get(unit, len(begins)), length, -sizes[unit], unit)

    ranks = {unit: rank(unit) for unit in sizes}
    items[:] = [item for _, item in sorted(zip(units, items, strict=True), key=lambda pair: ranks[pair[0]])]


class Distribution(LoadFileScheduling):
    """With `--no-loadscope-reorder`: else xdist orders units by their number of tests."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(super()._split_scope(nodeid))
