"""What accounts hold and owe, as metrics and as a part of `GET health`. No labels: keys are nobody's business."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hodios.accounts.accounts import Figures
from hodios.money import dollar_number

FiguresOf = Callable[[], Figures]


class AccountCollector(Collector):
    """Asks at the time of the scrape."""

    def __init__(self, figures: FiguresOf) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        found = self._figures()
        gauges = (
            ("held", "Attempts under way for which money is reserved.", found.num_held),
            ("waiting", "Requests that wait until the limits of their keys let them pass.", found.num_waiting),
            ("undrained", "Attempts and requests that the store does not have yet.", found.num_undrained),
            ("journal_bytes", "Of the files that hold them meanwhile.", found.journal_bytes),
            ("leased_dollars", "Of budgets, leased to this process.", dollar_number(found.leased)),
            ("store_degraded", "1 where the store could not be reached last.", found.is_degraded),
            ("limits_degraded", "1 where limits are kept without Redis.", found.limits == "degraded"),
            ("limits_processes", "That have limits in common, as counted last.", found.num_sharing),
        )
        for name, told, value in gauges:
            yield GaugeMetricFamily(f"hodios_accounts_{name}", told, value=float(value))
        yield CounterMetricFamily(
            "hodios_accounts_failed_commits",
            "Times that the journal could not be brought to the disk.",
            value=float(found.num_failed_commits),
        )


def account_fields(figures: Figures) -> dict[str, Any]:
    return {
        "store": "degraded" if figures.is_degraded else "ready",
        "limits": figures.limits,
        "limits_processes": figures.num_sharing,
        "held": figures.num_held,
        "waiting": figures.num_waiting,
        "undrained": figures.num_undrained,
        "journal_bytes": figures.journal_bytes,
        "failed_commits": figures.num_failed_commits,
        "leased": dollar_number(figures.leased),
    }
