"""How a request found its answer, as JSON: who might have answered, why others were not asked, what each one did."""

from __future__ import annotations

from typing import Any

from hodios.api.catalog_entries import pricing_of
from hodios.money import cost_of, dollar_number
from hodios.types import Attempt, Candidate, Route


def route_of(route: Route) -> dict[str, Any]:
    """Times in milliseconds since the request came in."""
    return {
        "policy": route.policy,
        "candidates": [_candidate(candidate) for candidate in route.candidates],
        "attempts": [attempt_of(attempt) for attempt in route.attempts],
    }


def cost_number(nano: int | None) -> int | float | None:
    """Dollars, exactly; null where nobody knows."""
    return None if nano is None else dollar_number(nano)


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e3)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "provider": candidate.provider,
        "model": candidate.model,
        "pricing": pricing_of(candidate.price),
        "excluded": candidate.excluded or None,
    }


def attempt_of(attempt: Attempt) -> dict[str, Any]:
    """Times as in `route_of`."""
    return {
        "provider": attempt.provider,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "began_ms": milliseconds(attempt.began_s),
        "first_token_ms": milliseconds(attempt.first_token_s),
        "ended_ms": milliseconds(attempt.ended_s),
        "status": attempt.status,
        "error": attempt.error or None,
        "prompt_tokens": attempt.prompt_tokens,
        "cached_tokens": attempt.cached_tokens,
        "completion_tokens": attempt.completion_tokens,
        "cost": cost_number(cost_of((attempt,))),
    }
