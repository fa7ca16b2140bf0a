"""`python -m hodios.providers.pull_worker SOURCE`: one download as a process of its own, which can be ended at any
time.

Tells its progress in lines of JSON on standard output; what it could not do, in its last line on standard error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import msgspec

from hodios.config import hub_endpoint, load
from hodios.errors import SetupError
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.control import PullProgress
from hodios.providers.pull import pull

EVERY_S = 0.3
"""How often progress is told at most."""


class Teller:
    """A `files.Progress` that prints."""

    def __init__(self, tell: Callable[[PullProgress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._files: dict[str, tuple[int, int | None]] = {}
        self._told_s = float("-inf")

    def __call__(self, name: str, done: int, total: int | None) -> None:
        self._files[name] = (done, total)
        now_s = self._clock()
        if now_s - self._told_s < EVERY_S and done != total:
            return
        self._told_s = now_s
        totals = [total for _, total in self._files.values()]
        known = None if None in totals else sum(total for total in totals if total is not None)
        self._tell(PullProgress(sum(done for done, _ in self._files.values()), known))


def main(arguments: list[str]) -> int:
    config = load()
    endpoint, token = hub_endpoint()
    try:
        catalog = CatalogStore(config).current
        asyncio.run(pull(arguments[0], config.home, Teller(_print), endpoint=endpoint, token=token, catalog=catalog))
    except SetupError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


def _print(progress: PullProgress) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
