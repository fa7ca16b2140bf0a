"""How busy a server is, out of its metrics in Prometheus' text format. Sans-IO.

Whatever cannot be read is left out: other metrics, lines that are none, and values that count nothing.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hodios.providers.base import ServerLoad
from hodios.remotes import LoadGauges

MOST_BYTES = 2 * 2**20
"""Of a text that is read."""
_MOST = 1e9
"""What is more is no count of requests."""
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_OPENING = re.compile(r"[ \t]*\{")
_LABEL = re.compile(r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))')
_END = re.compile(r"[ \t]*\}")
_VALUE = re.compile(r"[ \t]*([0-9.eE+-]+)(?:\s|$)")
_ESCAPED = re.compile(r"\\(.)")


class Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float
    """Finite, and not below 0."""


def read_gauges(text: bytes, gauges: LoadGauges) -> dict[str, ServerLoad]:
    """By the model as the server calls it; "" where no label says which. Requests are summed over a model's
    engines, of their caches the fullest counts."""
    names = {*gauges.running, *gauges.waiting, *gauges.cache_usage}
    values: dict[str, dict[str, list[float]]] = {}
    for sample in _samples(text, names):
        if any(sample.labels.get(label) for label in gauges.part_labels):
            continue
        model = sample.labels.get(gauges.model_label, "") if gauges.model_label else ""
        values.setdefault(model, {}).setdefault(sample.name, []).append(sample.value)
    return {
        model: ServerLoad(
            num_running=round(sum(running)),
            num_waiting=round(sum(_first(found, gauges.waiting))),
            cache_usage=max(_first(found, gauges.cache_usage), default=None),
        )
        for model, found in values.items()
        if (running := _first(found, gauges.running))
    }


def loads_of(loads: Mapping[str, ServerLoad], names: Mapping[str, str]) -> dict[str, ServerLoad]:
    """By the keys of `names`, which has the models as the server calls them. What a server says of one model alone
    counts for all of its models: they are adapters and other names of it."""
    only = next(iter(loads.values())) if len(loads) == 1 else None
    found = {model: loads.get(name, only) for model, name in names.items()}
    return {model: load for model, load in found.items() if load is not None}


def _first(found: Mapping[str, list[float]], names: Sequence[str]) -> list[float]:
    """The values of the first of `names` that is there."""
    return next((found[name] for name in names if name in found), [])


def _samples(text: bytes, names: set[str]) -> Iterator[Sample]:
    # A server's text has a thousand lines of other metrics.
    beginnings = tuple(name.encode() for name in names)
    for line in text[:MOST_BYTES].split(b"\n"):
        if line.startswith(beginnings):
            sample = _sample(line.decode("utf-8", "replace"))
            if sample is not None and sample.name in names:
                yield sample


def _sample(line: str) -> Sample | None:
    """One line: name, labels, the value, and a time that nobody needs. None where it is otherwise."""
    name = _NAME.match(line)
    if not name:
        return None
    at = name.end()
    labels: dict[str, str] = {}
    if opening := _OPENING.match(line, at):
        at = opening.end()
        while label := _LABEL.match(line, at):
            labels[label[1]] = _ESCAPED.sub(_unescaped, label[2])
            at = label.end()
        end = _END.match(line, at)
        if not end:
            return None
        at = end.end()
    found = _VALUE.match(line, at)
    if not found:
        return None
    try:
        value = float(found[1])
    except ValueError:
        return None
    return Sample(name[0], labels, value) if 0 <= value <= _MOST else None


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
