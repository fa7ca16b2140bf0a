"""What guards did, as metrics and as a part of `GET health`. Labels are guards, categories and sides, never callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hodios.guard.member import DURATIONS_S
from hodios.guard.panel import Panel

_LABELS = ("guard", "side")
_FOUND = ("category", "side")


class GuardCollector(Collector):
    """Asks at the time of the scrape."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def collect(self) -> Iterable[Metric]:
        judged = CounterMetricFamily("hodios_guard_judged", "Times that a guard has judged.", labels=_LABELS)
        down = CounterMetricFamily("hodios_guard_down", "Times that it could not.", labels=_LABELS)
        shed = CounterMetricFamily("hodios_guard_shed", "Times that it had too much to do.", labels=_LABELS)
        seconds = HistogramMetricFamily("hodios_guard_seconds", "How long judging took.", labels=_LABELS)
        for labels, figures in self._panel.figures.items():
            judged.add_metric(labels, figures.num_judged)
            down.add_metric(labels, figures.num_down)
            shed.add_metric(labels, figures.num_shed)
            seconds.add_metric(labels, _buckets(figures.slots), figures.total_s)
        yield from (judged, down, shed, seconds)
        for name, told, counts in (
            ("flagged", "Prompts and answers in which a category was found.", self._panel.flagged),
            ("blocked", "Those of them that were stopped.", self._panel.blocked),
        ):
            found = CounterMetricFamily(f"hodios_guard_{name}", told, labels=_FOUND)
            for labels, count in counts.items():
                found.add_metric(labels, count)
            yield found
        is_up = GaugeMetricFamily("hodios_guard_up", "1 where the guard can judge now.", labels=("guard",))
        for guard, state in self._panel.states():
            is_up.add_metric((guard.name,), not state.problem)
        yield is_up


def guard_fields(panel: Panel) -> list[dict[str, Any]]:
    """Of each guard, for `GET health`."""
    return [
        {
            "name": guard.name,
            "version": guard.version,
            "state": state.problem or "ready",
            "sides": sorted(guard.sides),
            "categories": sorted(guard.categories),
            "restarts": state.num_restarts,
            "waiting_characters": state.num_waiting,
        }
        for guard, state in panel.states()
    ]


def _buckets(slots: list[int]) -> list[tuple[str, float]]:
    """As Prometheus has them: each with all that are below."""
    bounds = [*map(str, DURATIONS_S), "+Inf"]
    return [(bound, float(sum(slots[: place + 1]))) for place, bound in enumerate(bounds)]
