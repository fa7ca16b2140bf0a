"""What traffic has shown, in the units and under the names of APIpie and OpenRouter. Shares are per cent, times
milliseconds, speeds tokens per second; null where nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hodios.router.history import History
from hodios.router.past import SHARES, SIZES, Distribution, Measure, Past, Tally

UNITS: Mapping[Measure, float] = MappingProxyType({"latency": 1e3, "throughput": 1.0})
_NAMES = tuple(f"p{round(share * 100)}" for share in SHARES)
_UNKNOWN = "-"
"""In APIpie's list of latencies."""


def percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def uptimes_of(past: Past, now_s: float) -> dict[str, float | None]:
    tallies = {"5m": past.minutes(now_s, 5), "30m": past.minutes(now_s, 30), "1d": past.day(now_s)}
    return {name: percent(tally.uptime) for name, tally in tallies.items()}


def percentiles_of(distribution: Distribution) -> dict[str, float] | None:
    found = distribution.percentiles()
    if found is None:
        return None
    unit = UNITS[distribution.measure]
    return {name: round(value * unit, 1) for name, value in zip(_NAMES, found, strict=True)}


def outcomes_of(tally: Tally) -> dict[str, int]:
    """Whose fault it was: nobody's, the provider's, the client's; what there was no room for; what clients ended."""
    return {
        "answered": tally.num("answered"),
        "failed": tally.num_failed,
        "refused": tally.num("refused"),
        "overloaded": tally.num("overloaded"),
        "cancelled": tally.num("cancelled"),
    }


class Figures:
    """`catalog_entries.Statistics` over a history."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __call__(self, provider: str, model: str) -> Mapping[str, Any]:
        past = self._history.past(provider, model)
        if past is None:
            return {}
        now_s = self._history.clock()
        latency, throughput = past.spread("latency", now_s), past.spread("throughput", now_s)
        return {
            **{f"uptime_last_{name}": share for name, share in uptimes_of(past, now_s).items()},
            "latency_last_30m": percentiles_of(latency.overall),
            "throughput_last_30m": percentiles_of(throughput.overall),
            "latency": _latencies([*(latency.by_size[size] for size in SIZES), latency.overall]),
            "query_count": past.day(now_s).num("answered"),
        }


def _latencies(distributions: list[Distribution]) -> str | None:
    """APIpie's: medians by size of the prompt and over all, separated by slashes."""
    medians = [found and str(round(found[0] * 1e3)) for found in (each.percentiles((0.5,)) for each in distributions)]
    return "/".join(median or _UNKNOWN for median in medians) if medians[-1] else None
