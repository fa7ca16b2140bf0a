"""Sums per hour: what a batch of attempts and requests adds to them, and what can be read out of them."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from hodios.store.records import ANSWERED
from hodios.store.schema import COUNTS, EVERYBODY, LATENCY_BOUNDS_S, LATENCY_SLOTS, REQUEST_COUNTS

HOUR_S = 3600
NAMES = (*COUNTS, *REQUEST_COUNTS)
Key = tuple[int, str, str, str, str, str]
"""Hour, project, key, model, provider, user."""
Batch = Mapping[str, Sequence[Any]]
"""Attempts or requests: a column for each name, by their columns' names."""
_FILTERED = "content_filter"
"""The finish reason of what somebody's filter has stopped."""
_slot_of = partial(bisect.bisect_left, LATENCY_BOUNDS_S)
_in_milliseconds = (1000.0).__mul__
_NOTHING = [0] * len(NAMES)


def hour_of(at_s: float) -> int:
    """The Unix second with which the hour begins."""
    return int(at_s // HOUR_S) * HOUR_S


def of_batch(counted: Batch, logged: Batch) -> dict[Key, list[int]]:
    """Numbers in the order of NAMES."""
    found: dict[Key, list[int]] = {}
    for batch, numbers_of, at in ((counted, _of_attempts, 0), (logged, _of_requests, len(COUNTS))):
        for key, places in _groups(batch):
            row = found.setdefault(key, _NOTHING.copy())
            for place, number in enumerate(numbers_of(batch, places), start=at):
                row[place] += number
    return found


def _of_attempts(counted: Batch, places: Sequence[int]) -> Iterable[int]:
    outcomes, costs = _part(counted["outcome"], places), _part(counted["cost"], places)
    tokens = (_part(counted[name], places) for name in ("prompt_tokens", "cached_tokens", "completion_tokens"))
    num_failed = len(places) - sum(map(ANSWERED.__contains__, outcomes))
    return (len(places), num_failed, costs.count(None), *map(sum, tokens), sum(filter(None, costs)))


def _of_requests(logged: Batch, places: Sequence[int]) -> Iterable[int]:
    latencies = _part(logged["latency_s"], places)
    firsts = [first_s for first_s in _part(logged["first_token_s"], places) if first_s is not None]
    errors, reasons = _part(logged["error_code"], places), _part(logged["finish_reason"], places)
    slots = Counter(map(_slot_of, latencies))
    return (
        len(places),
        len(places) - errors.count(None),
        len(firsts),
        sum(map(round, map(_in_milliseconds, latencies))),
        sum(map(round, map(_in_milliseconds, firsts))),
        *(slots[number] for number in range(len(LATENCY_SLOTS))),
        reasons.count(_FILTERED),
    )


def of_providers(found: Mapping[Key, Sequence[int]]) -> list[tuple[Any, ...]]:
    """Rows of the table `hourly`."""
    return _folded((key[:5], row) for key, row in found.items())


def of_users(found: Mapping[Key, Sequence[int]]) -> list[tuple[Any, ...]]:
    """Rows of the table `hourly_users`."""
    return _folded(((*key[:3], key[5]), row) for key, row in found.items())


def _groups(batch: Batch) -> Iterable[tuple[Key, list[int]]]:
    """The places of those that add to the same sums."""
    names = zip(*(batch[name] for name in ("project_id", "key_id", "model", "provider", "user")), strict=True)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, (at_s, own) in enumerate(zip(batch["at_s"], names, strict=True)):
        groups[at_s // HOUR_S, own].append(place)
    for (hour, (project, key, model, provider, user)), places in groups.items():
        begin_s = int(hour) * HOUR_S
        yield (begin_s, project or EVERYBODY, key, model or EVERYBODY, provider or EVERYBODY, user or EVERYBODY), places


def _part(column: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    return column if len(places) == len(column) else [column[place] for place in places]


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
