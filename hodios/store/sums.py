"""Sums per hour: what a batch of attempts and requests adds to them, and what can be read out of them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hodios.store.records import ANSWERED, LoggedRequest, SettledAttempt
from hodios.store.schema import COUNTS, EVERYBODY, LATENCY_BOUNDS_S, LATENCY_SLOTS, REQUEST_COUNTS

HOUR_S = 3600
NAMES = (*COUNTS, *REQUEST_COUNTS)
Key = tuple[int, str, str, str, str, str]
"""Hour, project, key, model, provider, user."""
_FIRST_SLOT = NAMES.index(LATENCY_SLOTS[0])
_FILTERED = "content_filter"
"""The finish reason of what somebody's filter has stopped."""
_NOTHING = [0] * len(NAMES)


def hour_of(at_s: float) -> int:
    """The Unix second with which the hour begins."""
    return int(at_s // HOUR_S) * HOUR_S


def of_batch(counted: Iterable[SettledAttempt], logged: Iterable[LoggedRequest]) -> dict[Key, list[int]]:
    """Numbers in the order of NAMES."""
    # One row of numbers after the other, by place: this is done for every request, on the event loop.
    found: dict[Key, list[int]] = {}
    for attempt in counted:
        row = _row(found, attempt)
        row[0] += 1
        row[1] += attempt.outcome not in ANSWERED
        row[2] += attempt.cost is None
        row[3] += attempt.prompt_tokens
        row[4] += attempt.cached_tokens
        row[5] += attempt.completion_tokens
        row[6] += attempt.cost or 0
    for request in logged:
        row = _row(found, request)
        row[7] += 1
        row[8] += request.error_code is not None
        if request.first_token_s is not None:
            row[9] += 1
            row[11] += round(request.first_token_s * 1000)
        row[10] += round(request.latency_s * 1000)
        row[_FIRST_SLOT + bisect.bisect_left(LATENCY_BOUNDS_S, request.latency_s)] += 1
        row[-1] += request.finish_reason == _FILTERED
    return found


def of_providers(found: Mapping[Key, Sequence[int]]) -> list[tuple[Any, ...]]:
    """Rows of the table `hourly`."""
    return _folded((key[:5], row) for key, row in found.items())


def of_users(found: Mapping[Key, Sequence[int]]) -> list[tuple[Any, ...]]:
    """Rows of the table `hourly_users`."""
    return _folded(((*key[:3], key[5]), row) for key, row in found.items())


def _row(found: dict[Key, list[int]], entry: SettledAttempt | LoggedRequest) -> list[int]:
    key = (
        hour_of(entry.at_s),
        entry.project_id or EVERYBODY,
        entry.key_id,
        entry.model or EVERYBODY,
        entry.provider or EVERYBODY,
        entry.user or EVERYBODY,
    )
    row = found.get(key)
    if row is None:
        row = found[key] = _NOTHING.copy()
    return row


def _folded(rows: Iterable[tuple[tuple[Any, ...], Sequence[int]]]) -> list[tuple[Any, ...]]:
    """In the order of their keys, so that no two transactions wait for each other."""
    merged: dict[tuple[Any, ...], Sequence[int]] = {}
    for key, row in rows:
        there = merged.get(key)
        merged[key] = row if there is None else [a + b for a, b in zip(there, row, strict=True)]
    return [(*key, *merged[key]) for key in sorted(merged)]


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
