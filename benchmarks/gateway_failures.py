"""Peers that could not do what was asked of them: what of, and what was seen. They are not asked for it again."""

from __future__ import annotations

import sys

from benchmarks import gateway_plan as plan
from benchmarks.processes import BenchmarkError

_INDISPENSABLE = (plan.DIRECT, plan.OURS)
"""Without these there is nothing to tell."""
_MOST_SHOWN = 400


class Failures:
    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], str] = {}

    def has(self, subject: str, what: str) -> bool:
        return (subject, what) in self._seen

    def note(self, subject: str, what: str, error: BenchmarkError) -> None:
        """Raises the error where there is no going on without the subject."""
        if subject in _INDISPENSABLE:
            raise error
        self._seen[subject, what] = " ".join(str(error).split())[:_MOST_SHOWN]
        print(f"{subject} fails: {what}: {error}", file=sys.stderr, flush=True)

    def lines(self) -> list[str]:
        """For the report; none where everybody did everything."""
        if not self._seen:
            return []
        told = [f"- {subject}, {what}: `{text.replace('`', chr(39))}`" for (subject, what), text in self._seen.items()]
        return ["Could not do what was asked of them, and were not asked again:", "", *told, ""]
