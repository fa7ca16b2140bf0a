"""How many orders to a model the rules of `hodios.guard.injection` see: `python -m benchmarks.injection`.

The corpora (bastioncorpus and agent-injection-bench, both MIT) were at hand when the rules were written, so that these
figures say what the rules were made for, and not what they will meet.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple
from zipfile import ZipFile

from benchmarks.guard_data import wheels
from hodios.guard.injection import injection_score

BASTION = wheels.Wheel("bastioncorpus", "0.6.0", "96d7268cfafc2be0908382b61af8b67dec19058e2877657b217e68be0552a00a")
BENCH = wheels.Wheel(
    "agent-injection-bench", "0.1.0", "1c4339fc4e2cfcecf7971a96ab58d74ae124f5766b0a2162340fa6731c6ce9f9"
)
BAR = 0.5
HARMLESS = ("control", "baseline")


class Sample(NamedTuple):
    corpus: str
    kind: str
    text: str
    is_order: bool


def samples() -> Iterator[Sample]:
    """Raises as `wheels.fetch`."""
    with wheels.fetch(BASTION) as archive:
        for row in _rows(archive, "bastioncorpus/corpus/injections.jsonl"):
            yield Sample("bastioncorpus", row["channel"], row["text"], row["label"] == "malicious")
    with wheels.fetch(BENCH) as archive:
        for row in _rows(archive, "aib/data/attacks.jsonl"):
            text = row.get("injected") or ""
            yield Sample("agent-injection-bench", row["channel"], text, row["family"] not in HARMLESS and bool(text))


def _rows(archive: ZipFile, name: str) -> Iterator[dict[str, Any]]:
    return map(json.loads, archive.read(name).decode().splitlines())


def main() -> None:
    seen: dict[tuple[str, str, bool], list[bool]] = defaultdict(list)
    for sample in samples():
        seen[sample.corpus, sample.kind, sample.is_order].append(injection_score(sample.text) >= BAR)
    print("corpus | written by | orders | of them seen | harmless | of them taken for orders")
    for corpus, kind in sorted({key[:2] for key in seen}):
        orders, harmless = seen[corpus, kind, True], seen[corpus, kind, False]
        print(f"{corpus} | {kind} | {len(orders)} | {sum(orders)} | {len(harmless)} | {sum(harmless)}")
    found = [each for key, all_seen in seen.items() if key[2] for each in all_seen]
    wrong = [each for key, all_seen in seen.items() if not key[2] for each in all_seen]
    print(f"RESULT injection-recall {sum(found) / len(found):.3f}")
    print(f"RESULT injection-harmless-left-alone {1 - sum(wrong) / len(wrong):.3f}")


if __name__ == "__main__":
    main()
