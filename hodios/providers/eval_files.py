"""Results of lm-evaluation-harness that lie below `HODIOS_HOME/evals`, wherever its `--output_path` has put them: read,
and refused with a sentence where they are none."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

FOLDER = "evals"
MOST_FILES = 500
MOST_BYTES = 16 * 2**20
_MODEL = re.compile(r"(?:^|,)\s*(?:model|pretrained)\s*=\s*([^,]+)")
_ERROR = "_stderr"
_LATEST_S = 253_402_300_800
"""With which the year 10000 begins."""


class EvalResult(Struct, frozen=True, kw_only=True):
    """One figure of a task. `value` is as the harness writes it: shares are from 0 to 1."""

    task: str
    metric: str
    filter: str | None
    """What was done to answers before they were judged; null where nothing was."""
    value: float
    standard_error: float | None
    num_shots: int | None
    num_samples: int | None


class EvalRun(Struct, frozen=True, kw_only=True):
    """One file."""

    file: str
    """Its path below `evals`."""
    model: str
    """As whoever ran it called it."""
    at: datetime | None
    limit: float | None
    """How many samples of each task were asked at most, below 1 which share of them; null: all."""
    results: list[EvalResult]


class Refused(Struct, frozen=True):
    file: str
    message: str


class Found(NamedTuple):
    runs: tuple[EvalRun, ...]
    """The newest first."""
    refused: tuple[Refused, ...]


class EvalFiles:
    """Reads again only what has changed. Blocks on the disk; safe to use from several threads."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, int], EvalRun | Refused]] = {}

    def read(self) -> Found:
        with self._lock:
            known = {}
            for path in self._paths():
                name = path.relative_to(self._folder).as_posix()
                entry = self._entry(name, path)
                if entry is not None:
                    known[name] = entry
            self._known = known
            read = [each for _, each in known.values()]
        runs = [each for each in read if isinstance(each, EvalRun)]
        runs.sort(key=lambda run: (run.at or datetime.min.replace(tzinfo=UTC), run.file), reverse=True)
        return Found(tuple(runs), tuple(each for each in read if isinstance(each, Refused)))

    def _paths(self) -> list[Path]:
        """Of more than are read, the last by name, which the harness ends with the date."""
        found = [
            Path(folder, name)
            for folder, _, names in os.walk(self._folder)
            for name in names
            if name.endswith(".json") and not name.startswith(".")
        ]
        return sorted(found, key=lambda path: path.name)[-MOST_FILES:]

    def _entry(self, name: str, path: Path) -> tuple[tuple[int, int], EvalRun | Refused] | None:
        """None where it vanishes while it is looked at."""
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            known = self._known.get(name)
            if known is not None and known[0] == stamp:
                return known
            if stat.st_size > MOST_BYTES:
                return stamp, Refused(name, f"{name} has {stat.st_size} bytes; accepted: at most {MOST_BYTES}")
            return stamp, _read(name, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            return (0, 0), Refused(name, f"{name} cannot be read: {error.strerror}")


def _read(name: str, content: bytes) -> EvalRun | Refused:
    try:
        return parsed(name, content)
    except ValueError as error:
        return Refused(name, f"{name} is no result of lm-evaluation-harness: {error}")


def parsed(name: str, content: bytes) -> EvalRun:
    """Raises ValueError, with what is wrong."""
    try:
        document = json.loads(content, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(document, dict):
        raise ValueError(f"it is {_kind(document)}; accepted: an object")
    tasks = document.get("results")
    if not isinstance(tasks, dict) or not tasks:
        raise ValueError(f"results is {_kind(tasks)}; accepted: an object with a member for each task")
    results = [result for task, figures in tasks.items() for result in _results(task, figures, document)]
    if not results:
        raise ValueError("results has no figure; accepted: members like 'acc,none': 0.5")
    return EvalRun(
        file=name, model=_model(document), at=_time(document.get("date")), limit=_limit(document), results=results
    )


def _model(document: dict[str, Any]) -> str:
    config = document.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    if isinstance(arguments, dict):
        names = [arguments.get("model"), arguments.get("pretrained")]
    else:
        found = _MODEL.search(arguments) if isinstance(arguments, str) else None
        names = [found[1].strip() if found else None]
    for name in (document.get("model_name"), *names):
        if isinstance(name, str) and name:
            return name
    raise ValueError("it names no model; accepted: model_name, or config.model_args with model=…")


def _results(task: str, figures: Any, document: dict[str, Any]) -> list[EvalResult]:
    """Of one task. Older versions of the harness write metrics without the comma and the filter's name."""
    if not isinstance(figures, dict):
        raise ValueError(f"results.{task} is {_kind(figures)}; accepted: an object")
    found = []
    for key, value in figures.items():
        metric, _, name = key.partition(",")
        if metric.endswith(_ERROR) or (number := _number(value)) is None or metric == "sample_len":
            continue
        error = figures.get(f"{metric}{_ERROR},{name}" if name else metric + _ERROR)
        found.append(
            EvalResult(
                task=task,
                metric=metric,
                filter=None if name in ("", "none") else name,
                value=number,
                standard_error=_number(error),
                num_shots=_whole(document.get("n-shot"), task),
                num_samples=_num_samples(document.get("n-samples"), task),
            )
        )
    return found


def _num_samples(samples: Any, task: str) -> int | None:
    counts = samples.get(task) if isinstance(samples, dict) else None
    return _whole(counts, "effective")


def _whole(values: Any, name: str) -> int | None:
    value = values.get(name) if isinstance(values, dict) else None
    return value if type(value) is int and 0 <= value < 2**53 else None


def _limit(document: dict[str, Any]) -> float | None:
    config = document.get("config")
    return _number(config.get("limit")) if isinstance(config, dict) else None


def _number(value: Any) -> float | None:
    if type(value) not in (int, float) or not abs(value) < 2**53:
        return None
    return float(value)


def _time(value: Any) -> datetime | None:
    """The harness writes Unix seconds."""
    seconds = _number(value)
    if seconds is None or not 0 <= seconds < _LATEST_S:
        return None
    return datetime.fromtimestamp(math.floor(seconds), UTC)


def _kind(value: Any) -> str:
    kinds = {dict: "an empty object", list: "a list", str: "a string", bool: "a boolean", type(None): "missing"}
    return kinds.get(type(value), "a number")
