"""Samples of all rounds, and what is made of them: medians, ratios, tables. Pure arithmetic and text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from msgspec import Struct

BEGIN = "<!-- {section}: written by `python -m {by} --write` -->"
END = "<!-- end of {section} -->"


class Ratio(Struct, frozen=True):
    """One RESULT line: two samples of each round divided, so that more is better."""

    name: str
    ours: tuple[str, str]
    """(subject, figure), as in `Samples`."""
    theirs: tuple[str, str] | None
    """None: `ours` is a ratio already."""
    target: float | None = None
    is_time: bool = False
    """Less is better: theirs ÷ ours."""


class Result(Struct, frozen=True):
    name: str
    ratio: float
    """Median over the rounds."""
    least: float
    most: float
    target: float | None


class Samples:
    """One value per round for every (subject, figure)."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = {}

    def add(self, subject: str, figure: str, value: float) -> None:
        self._values.setdefault((subject, figure), []).append(value)

    def of(self, subject: str, figure: str) -> Sequence[float]:
        return self._values.get((subject, figure), ())

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(subject for subject, _ in self._values))

    @property
    def figures(self) -> list[str]:
        return list(dict.fromkeys(figure for _, figure in self._values))


def results(samples: Samples, ratios: Iterable[Ratio]) -> list[Result]:
    """Those ratios for which both sides were measured."""
    found = []
    for ratio in ratios:
        values = _values(samples, ratio)
        if values:
            found.append(Result(ratio.name, median(values), min(values), max(values), ratio.target))
    return found


def _values(samples: Samples, ratio: Ratio) -> list[float]:
    ours = samples.of(*ratio.ours)
    if ratio.theirs is None:
        return list(ours)
    pairs = zip(ours, samples.of(*ratio.theirs), strict=False)
    return [theirs / own if ratio.is_time else own / theirs for own, theirs in pairs]


def result_lines(found: Iterable[Result]) -> list[str]:
    return [f"RESULT {result.name} {result.ratio:.3f}" for result in found]


def samples_table(samples: Samples, units: Mapping[str, str]) -> list[str]:
    """Medians: a row per figure, a column per subject."""
    rows = [["", *samples.subjects]]
    for figure in samples.figures:
        values = [samples.of(subject, figure) for subject in samples.subjects]
        rows.append([f"{figure}, {units[figure]}", *(_shown(median(each)) if each else "–" for each in values)])
    return markdown_table(rows)


def results_table(found: Iterable[Result]) -> list[str]:
    rows = [["line", "ratio", "least – most", "target", ""]]
    for result in found:
        rows.append(
            [
                f"`{result.name}`",
                f"{result.ratio:.2f}",
                f"{result.least:.2f} – {result.most:.2f}",
                "" if result.target is None else f"{result.target:g}",
                verdict(result),
            ]
        )
    return markdown_table(rows)


def verdict(result: Result) -> str:
    if result.target is None:
        return ""
    return "met" if result.ratio >= result.target else "missed"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first row is the head; columns are padded, so that it reads as plain text too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def replace_section(document: str, section: str, lines: Iterable[str], *, by: str = "benchmarks.engine") -> str:
    """The document with other lines between the section's markers, which are added at its end if there are none.

    Raises ValueError where they are not in order."""
    begin, end = BEGIN.format(section=section, by=by), END.format(section=section)
    if begin not in document and end not in document:
        document = f"{document.rstrip()}\n\n## {section}\n\n{begin}\n{end}\n"
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError(f"the document must hold once, and in this order: {begin} and {end}")
    head, _, rest = document.partition(begin)
    _, _, tail = rest.partition(end)
    return "\n".join([head + begin, "", *lines, "", end + tail])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
