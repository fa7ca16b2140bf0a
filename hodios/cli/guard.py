"""`hodios guard`: what the content filters say of a text, with or without a running server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from rich.table import Table

from hodios.cli.console import known_key, server_url, stderr, stdout
from hodios.config import Config, load
from hodios.errors import SetupError
from hodios.guard.policy import Policy, resolved
from hodios.guard_settings import GuardSettings
from hodios.types import CATEGORIES, Side

if TYPE_CHECKING:
    from hodios.guard.base import Assessment, Category, Passage
    from hodios.providers.client import GuardReport

_BUDGET_S = 60.0
"""Nobody else waits."""
_SIDES: tuple[Side, ...] = ("prompt", "answer", "document")


class _Row(Struct, frozen=True):
    category: str
    score: float
    threshold: float | None
    """None where nothing follows from the score by itself."""
    guard: str
    ms: float

    @property
    def is_flagged(self) -> bool:
        return self.threshold is not None and self.score >= self.threshold


def guard(
    text: Annotated[str | None, typer.Argument(help="The text; - or none reads it from standard input.")] = None,
    side: Annotated[
        str, typer.Option(help="Who wrote it: prompt (a user), answer (a model) or document (a tool's result).")
    ] = "prompt",
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    asks_server: Annotated[
        bool, typer.Option("--server", help="Ask the running server, with all guards that it has.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Where that server is reached, if not as the settings say.", show_default=False),
    ] = None,
) -> None:
    """Show what the content filters say of a text. Exit code 1 where they flag it."""
    config = load()
    known = next((each for each in _SIDES if each == side), None)
    if known is None:
        raise SetupError(f"--side {side!r} is not accepted: one of {', '.join(_SIDES)}.")
    if asks_server and known != "prompt":
        raise SetupError(f"--side {side} cannot be asked of a server: leave out --server, or the side.")
    policy = resolved((config.guard or GuardSettings()).policy)
    reports = _asked(config, url, _read(text)) if asks_server or url else _judged(config, _read(text), known)
    rows = _rows(reports, policy)
    missing = _not_evaluated(reports)
    if is_json:
        stdout().print(json.dumps(_fields(rows, reports, missing), ensure_ascii=False, indent=2))
    else:
        _show(rows, reports, missing)
    raise typer.Exit(1 if any(row.is_flagged for row in rows) else 0)


def _read(text: str | None) -> str:
    """Raises SetupError where there is nothing to read."""
    if text in (None, "-"):
        if text is None and sys.stdin.isatty():
            raise SetupError('There is no text: hodios guard "some text", or hodios guard < file.')
        return sys.stdin.read()
    assert text is not None
    return text


def _asked(config: Config, url: str | None, text: str) -> Sequence[GuardReport]:
    from hodios.providers.client import Client

    async def ask() -> Sequence[GuardReport]:
        async with Client(url or server_url(config), known_key(config)) as client:
            return await client.moderate(text)

    return asyncio.run(ask())


def _judged(config: Config, text: str, side: Side) -> Sequence[GuardReport]:
    """By the guards of the settings, in this process; those that are models have to be asked of a server."""
    from hodios.api.filters import run_fields
    from hodios.api.guards import guarding_of
    from hodios.guard.base import Passage
    from hodios.guard.budgets import Budgets
    from hodios.providers.client import GuardReport

    async def judge() -> Sequence[GuardReport]:
        panel = guarding_of(config).panel
        if (config.guard or GuardSettings()).embedded:
            panel.add(_InProcess())
        try:
            passages = [Passage(text=text, side=side)]
            if side == "answer":
                passages.append(Passage(text=text, side="code"))
            runs = await panel.judge(passages, Budgets(_BUDGET_S))
        finally:
            await panel.aclose()
        fields = [run_fields(run) for run in runs]
        return [
            GuardReport(**{name: field[name] for name in GuardReport.__struct_fields__ if name in field})
            for field in fields
        ]

    return asyncio.run(judge())


class _InProcess:
    """The embedded guard without its process."""

    name = "embedded"
    sides: frozenset[Side] = frozenset(_SIDES)

    def __init__(self) -> None:
        # Imported here because it loads what the arithmetic needs.
        from hodios.guard.classifier import Classifier

        self._classifier = Classifier()
        self.version = self._classifier.version

    @property
    def categories(self) -> frozenset[Category]:
        return self._classifier.categories

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        from hodios.guard.inquiry import assessment

        found = await asyncio.to_thread(self._classifier.scores, [passage.text for passage in passages])
        return [assessment(passage.side, scores) for passage, scores in zip(passages, found, strict=True)]

    async def aclose(self) -> None:
        pass


def _rows(reports: Sequence[GuardReport], policy: Policy) -> list[_Row]:
    bars: Mapping[str, float] = {str(name): bar for name, bar in policy.flag_at.items()}
    rows = [
        _Row(category, score, bars.get(category), report.name, report.ms)
        for report in reports
        for category, score in {**report.scores, **report.further}.items()
    ]
    return sorted(rows, key=lambda row: -row.score)


def _not_evaluated(reports: Sequence[GuardReport]) -> list[str]:
    seen = {category for report in reports if not report.problem for category in report.scores}
    return [category for category in CATEGORIES if category not in seen]


def _fields(rows: Sequence[_Row], reports: Sequence[GuardReport], missing: Sequence[str]) -> dict[str, object]:
    return {
        "flagged": [row.category for row in rows if row.is_flagged],
        "scores": [
            {"category": row.category, "score": row.score, "threshold": row.threshold, "guard": row.guard, "ms": row.ms}
            for row in rows
        ],
        "not_evaluated": list(missing),
        "problems": {report.name: report.problem for report in reports if report.problem},
    }


def _show(rows: Sequence[_Row], reports: Sequence[GuardReport], missing: Sequence[str]) -> None:
    table = Table("category", "score", "threshold", "guard", "ms", box=None, pad_edge=False)
    for row in rows:
        threshold = "" if row.threshold is None else "never" if row.threshold > 1 else f"{row.threshold:.2f}"
        style = "bold red" if row.is_flagged else None
        table.add_row(row.category, f"{row.score:.4f}", threshold, row.guard, f"{row.ms:.1f}", style=style)
    if rows:
        stdout().print(table)
    for report in reports:
        if report.problem:
            stderr().print(f"{report.name} has not judged it: {report.problem}", style="yellow")
    if missing:
        stderr().print(f"Nobody has looked at: {', '.join(missing)}", style="yellow")
