"""What accounts hold and owe, as metrics and as a part of `GET health`. No labels: keys are nobody's business."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hodios.accounts.accounts import Figures
from hodios.accounts.housekeeper import Housekeeping
from hodios.api.request_log import Losses
from hodios.api.usage_entries import timestamp
from hodios.money import dollar_number

FiguresOf = Callable[[], Figures]
HousekeepingOf = Callable[[], Housekeeping]


class AccountCollector(Collector):
    """Asks at the time of the scrape."""

    def __init__(self, figures: FiguresOf, housekeeping: HousekeepingOf, losses: Callable[[], Losses]) -> None:
        self._figures = figures
        self._housekeeping = housekeeping
        self._losses = losses

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
        losses = self._losses()
        yield CounterMetricFamily(
            "hodios_unlogged_requests",
            "Requests whose log entry could not be written.",
            value=float(losses.num_unlogged),
        )
        yield CounterMetricFamily(
            "hodios_unstored_contents",
            "Requests whose content was to be stored, and could not be.",
            value=float(losses.num_unstored),
        )
        yield from self._retention()

    def _retention(self) -> Iterable[Metric]:
        found = self._housekeeping()
        deleted = CounterMetricFamily(
            "hodios_retention_deleted_rows", "Rows that were too old, by table.", labels=("table",)
        )
        for table, num_rows in found.num_deleted.items():
            deleted.add_metric((table,), float(num_rows))
        yield deleted
        yield GaugeMetricFamily(
            "hodios_retention_failing",
            "1 where this process could not delete what is old last.",
            value=float(found.is_failing),
        )
        if found.ended is not None:
            yield GaugeMetricFamily(
                "hodios_retention_ended_timestamp_seconds",
                "When what is old was deleted last, by whichever process.",
                value=found.ended.at_s,
            )


def account_fields(figures: Figures, housekeeping: Housekeeping) -> dict[str, Any]:
    ended = housekeeping.ended
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
        "retention": {
            "state": "failing" if housekeeping.is_failing else "ready",
            "ended_at": None if ended is None else timestamp(ended.at_s),
            "deleted_rows": None if ended is None else ended.num_rows,
        },
    }
