"""Measures how fast answers are read in the worst of all chunkings: one character at a time.

Prints a table and the lines `RESULT splitter-… ratio`: characters per second ÷ 200,000, which is what a thousand
streams of 200 characters per second take together.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from benchmarks import figures
from benchmarks.figures import Ratio, Samples
from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.reasoning import PlainParser, ReasoningParser
from hodios.dialog.splitter import Splitter, Tags
from hodios.types import Tool

TARGET = 200_000
"""Characters per second."""
LENGTH = 100_000
_PROSE = "Between a < b and c, as <b>many</b> know, [the list] of {all} tools says: use them; it's for the best.\n"
_ARGUMENTS = MappingProxyType(
    {
        "path": "notes/Tōkyō.md",
        "text": 'Tags such as <tool_call> and {"braces": [1]} are text here.\n' * 4,
        "lines": [1, 2.5, -3e10, True, None],
        "options": {"depth": {"is": {"small": "yes"}}},
    }
)
_TOOL = "write_file"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dialog", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="each measures everything once (default: 7)")
    num_rounds = parser.parse_args(arguments).rounds
    samples, ratios = Samples(), []
    for _ in range(num_rounds):
        for name, read in subjects().items():
            samples.add(name, "speed", read())
    for name in samples.subjects:
        speeds = samples.of(name, "speed")
        for speed in speeds:
            samples.add(name, "ratio", speed / TARGET)
        ratios.append(Ratio(f"splitter-{name}", (name, "ratio"), None, target=1.0))
    found = figures.results(samples, ratios)
    print("\n".join(figures.results_table(found)) + "\n")
    print("\n".join(figures.result_lines(found)))
    return 0


def subjects() -> Mapping[str, Callable[[], float]]:
    """What is measured, by name: each returns characters per second."""
    found: dict[str, Callable[[], float]] = {"tags": speed_of_splitter, "reasoning": speed_of_thoughts}
    for name in FORMATS:
        found[name] = partial(speed_of_format, name, is_trusted=False)
        found[f"{name}-trusted"] = partial(speed_of_format, name, is_trusted=True)
    return found


def prose() -> str:
    return _PROSE * (LENGTH // 2 // len(_PROSE))


def answer(name: str) -> str:
    """Prose, and then calls of about the same length."""
    call = {"id": "abc123XYZ", "function": {"name": _TOOL, "arguments": dict(_ARGUMENTS)}}
    format = FORMATS[name]
    num_calls = LENGTH // 2 // len(format.write_calls([call]))
    calls = format.write_calls([call] * num_calls)
    # Bare objects count at the start of an answer alone; after prose they need their tag.
    return prose() + ("<|python_tag|>" if name == "llama3" else "") + calls


def speed_of_format(name: str, *, is_trusted: bool) -> float:
    return speed(ReasoningParser(FORMATS[name].parser([Tool(_TOOL)], is_trusted=is_trusted)).push, answer(name))


def speed_of_thoughts() -> float:
    return speed(ReasoningParser(PlainParser()).push, f"<think>\n{prose()}</think>\n\n{prose()}")


def speed_of_splitter() -> float:
    splitter = Splitter(Tags(["<tool_call>", "</tool_call>"]))
    return speed(lambda character: splitter.read(character, 0), prose())


def speed(push: Callable[[str], object], text: str) -> float:
    began_s = time.perf_counter()
    for character in text:
        push(character)
    return len(text) / (time.perf_counter() - began_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
