"""Times as people write them: a day, a moment in ISO 8601, or Unix seconds. All days are those of UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

ACCEPTS = "a day (2026-11-21), a time in ISO 8601, or Unix seconds"
_LAST_S = 253402300799.0
"""The end of the year 9999."""


def moment_s(text: str, *, is_end: bool = False) -> float:
    """Unix seconds. A day is its first moment, or with `is_end` the first one after it; a time without a zone is that
    of UTC. Raises ValueError for all else."""
    try:
        found_s = float(text)
    except ValueError:
        found_s = _iso_s(text, is_end)
    # Neither NaN nor an infinity is.
    if not 0 <= found_s <= _LAST_S:
        raise ValueError(f"{text!r} is not within the years 1970 to 9999")
    return found_s


def _iso_s(text: str, is_end: bool) -> float:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        at = datetime.fromisoformat(text)
    else:
        at = datetime(day.year, day.month, day.day)
        try:
            at += timedelta(days=is_end)
        except OverflowError:
            raise ValueError(f"{text!r} has no day after it") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
