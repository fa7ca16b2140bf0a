"""What answers say of the content filters: the six slots with their booleans, and the details behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodios.guard.panel import merged
from hodios.types import CATEGORIES, GuardRun, Judgement

DETECTED = CATEGORIES[4:]
"""Slots that always say what was detected; the others only where something was."""


def filter_results(*judgements: Judgement | None) -> dict[str, dict[str, bool]]:
    """`filtered`: it was stopped for that; `detected`: a guard found it, which the policy may let pass."""
    for judgement in judgements:
        if judgement is not None and judgement.flagged:
            return _results(*judgements)
    return HARMLESS


def _results(*judgements: Judgement | None) -> dict[str, dict[str, bool]]:
    flagged = {category for judgement in judgements if judgement for category in judgement.flagged}
    blocked = {category for judgement in judgements if judgement for category in judgement.blocked}
    results: dict[str, dict[str, bool]] = {}
    for category in CATEGORIES:
        results[category] = {"filtered": category in blocked}
        if category in DETECTED or category in flagged:
            results[category]["detected"] = category in flagged
    return results


def filter_details(prompt: Judgement | None, answer: Judgement | None) -> dict[str, Any]:
    """Which guards ran on what and what they said; and the categories at which nobody has looked, on one side or
    both."""
    sides = [judgement for judgement in (prompt, answer) if judgement is not None]
    return {
        "guards": [run_fields(run) for judgement in sides for run in judgement.runs],
        "not_evaluated": not_evaluated(sides),
    }


def filter_summary(judged: Mapping[int | None, Judgement], refused: Sequence[str] = ()) -> dict[str, Any] | None:
    """Of a whole request, for whoever looks at it later: what was found in the prompt or any choice. `refused`: for
    what the prompt was, before there was an answer."""
    if refused:
        return {"flagged": list(refused), "blocked": list(refused), "not_evaluated": [], "guards": []}
    if not judged:
        return None
    sides = list(judged.values())
    runs: Sequence[GuardRun] = [run for judgement in sides for run in judgement.runs]
    flagged = blocked = _NOTHING
    for judgement in sides:
        if judgement.flagged:
            flagged, blocked = flagged | judgement.flagged, blocked | judgement.blocked
    return {
        "flagged": _listed(flagged),
        "blocked": _listed(blocked),
        "not_evaluated": not_evaluated(sides),
        "guards": [run_fields(run) for run in (runs if len(sides) <= 2 else merged(runs))],
    }


def _listed(found: frozenset[str]) -> list[str]:
    return [category for category in CATEGORIES if category in found] if found else []


def not_evaluated(sides: Sequence[Judgement]) -> list[str]:
    """In the order of the slots."""
    asked = missed = _NOTHING
    for judgement in sides:
        runs, asked = judgement.runs, asked | judgement.asked
        if len(runs) != 1 or runs[0].problem or not runs[0].scores.keys() >= judgement.asked:
            missed |= judgement.asked.difference(*[run.scores for run in runs if not run.problem])
    if not missed and len(asked) == len(CATEGORIES):
        return []
    return [category for category in CATEGORIES if category in missed or category not in asked]


def run_fields(run: GuardRun) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": run.guard,
        "version": run.version,
        "side": run.side,
        "ms": int(run.duration_s * 1e6) / 1e3,
        "scores": run.scores,
    }
    if run.further:
        fields["further"] = run.further
    if run.problem:
        fields["problem"] = run.problem
    return fields


_NOTHING = frozenset[str]()
HARMLESS = _results()
