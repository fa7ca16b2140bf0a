"""Sums per hour: what a batch of attempts and requests adds to them, and what can be read out of them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hodios.store.records import ANSWERED, LoggedRequest, SettledAttempt
from hodios.store.schema import COUNTS, EVERYBODY, LATENCY_BOUNDS_S, LATENCY_SLOTS, REQUEST_COUNTS

HOUR_S = 3600
NAMES = (*COUNTS, *REQUEST_COUNTS)
Row = dict[str, Any]


def hour_of(at_s: float) -> int:
    """The Unix second with which the hour begins."""
    return int(at_s // HOUR_S) * HOUR_S


def of_providers(counted: Iterable[SettledAttempt], logged: Iterable[LoggedRequest]) -> list[Row]:
    """Rows of the table `hourly`."""
    return _merged(("hour", "project_id", "key_id", "model", "provider"), counted, logged)


def of_users(counted: Iterable[SettledAttempt], logged: Iterable[LoggedRequest]) -> list[Row]:
    """Rows of the table `hourly_users`."""
    return _merged(("hour", "project_id", "key_id", "user"), counted, logged)


def _merged(keys: Sequence[str], counted: Iterable[SettledAttempt], logged: Iterable[LoggedRequest]) -> list[Row]:
    """In the order of their keys, so that no two transactions wait for each other."""
    merged: dict[tuple[str | int, ...], dict[str, int]] = {}
    for record, counts in _counts(counted, logged):
        names = (getattr(record, key) or EVERYBODY for key in keys[1:])
        key = (hour_of(record.at_s), *names)
        row = merged.get(key)
        if row is None:
            row = merged[key] = dict.fromkeys(NAMES, 0)
        for name, count in counts.items():
            row[name] += count
    return [dict(zip(keys, key, strict=True)) | merged[key] for key in sorted(merged)]


def _counts(
    counted: Iterable[SettledAttempt], logged: Iterable[LoggedRequest]
) -> Iterator[tuple[SettledAttempt | LoggedRequest, dict[str, int]]]:
    for attempt in counted:
        yield (
            attempt,
            {
                "num_attempts": 1,
                "num_failed_attempts": int(attempt.outcome not in ANSWERED),
                "num_unpriced": int(attempt.cost is None),
                "prompt_tokens": attempt.prompt_tokens,
                "cached_tokens": attempt.cached_tokens,
                "completion_tokens": attempt.completion_tokens,
                "cost": attempt.cost or 0,
            },
        )
    for request in logged:
        first_s = request.first_token_s
        yield (
            request,
            {
                "num_requests": 1,
                "num_errors": int(request.error_code is not None),
                "num_first_tokens": int(first_s is not None),
                "latency_ms": round(request.latency_s * 1000),
                "first_token_ms": round((first_s or 0.0) * 1000),
                LATENCY_SLOTS[bisect.bisect_left(LATENCY_BOUNDS_S, request.latency_s)]: 1,
            },
        )


def quantile_s(slots: Sequence[int], share: float) -> float | None:
    """The latency that `share` of the requests did not exceed, as the bound of a slot; infinite beyond all bounds, None
    without requests."""
    total = sum(slots)
    if not total:
        return None
    seen = 0
    for bound_s, count in zip((*LATENCY_BOUNDS_S, float("inf")), slots, strict=True):
        seen += count
        if seen >= share * total:
            return bound_s
    return float("inf")
