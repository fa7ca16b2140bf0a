"""A program that writes a journal and says before and after each change what it does, until it is killed.

`python journal_writer.py HOME SEED`
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from hodios.accounts.journal import Journal


def main() -> None:
    rng = random.Random(int(sys.argv[2]))
    journal = Journal(Path(sys.argv[1]), num_slots=32, most_segments=8)
    tell("process", journal.process)
    handles = {}
    for number in range(10**9):
        name = rng.choice(list(handles)) if handles else ""
        what = rng.choice(["hold", "hold", "progress", "progress", "progress", "settle", "free"])
        if what == "hold" and len(handles) < 40:
            text = f"{number} " + "x" * rng.choice([10, 100, 890, 900, 3000])
            tell("begin", "hold", text, 0)
            handles[text] = journal.hold(text.encode(), 5, 1.0)
            tell("done")
        elif what == "progress" and name and handles[name].state.phase == 1:
            tell("begin", "progress", name, number)
            journal.progress(handles[name], number, number, number)
            tell("done")
        elif what == "settle" and name and handles[name].state.phase == 1:
            tell("begin", "settle", name, number)
            journal.settle(handles[name], "answered", number, False, 2.0)
            tell("done")
        elif what == "free" and name:
            tell("begin", "free", name, 0)
            journal.free(handles.pop(name))
            tell("done")


def tell(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
