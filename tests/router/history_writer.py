"""A program that writes histories, one after the other, until it is killed: `history_writer.py HOME`."""

from __future__ import annotations

import sys
from pathlib import Path

from passing import NOON_S, attempt, route

from hodios.router.history import History
from hodios.router.history_file import HistoryFile
from hodios.types import Request


def main(home: Path) -> None:
    now_s = NOON_S
    history = History(clock=lambda: now_s)
    request = Request(id="chat-1", model="m", messages=())
    for number in range(400):
        for outcome in ("answered", "failed"):
            history.record(request, route(attempt(outcome, 0.01 * number, model=f"m{number}")), None, None)
    file = HistoryFile(home)
    while True:
        now_s += 1
        assert file.save(history.save())
        sys.stdout.write("saved\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
