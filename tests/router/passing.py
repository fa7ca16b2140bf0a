"""Attempts as the router tells of them, made in a line, and what becomes of a past by them."""

from __future__ import annotations

from typing import Any

from hodios.router.past import Kind, Past
from hodios.types import Attempt, Route

PLAIN = Kind(0, 0)
NOON_S = 20_000 * 86_400.0 + 12 * 3600
"""Of some day."""


def attempt(outcome: Any = "answered", wait_s: float | None = 0.5, speed: float = 50.0, **values: Any) -> Attempt:
    """A hundred tokens at `speed` after `wait_s`; None: nothing came."""
    ended_s = 1.0 if wait_s is None else wait_s + 99 / speed
    fields = {"provider": "p", "model": "m", "began_s": 0.0, "first_token_s": wait_s, "ended_s": ended_s}
    return Attempt(outcome=outcome, **{**fields, "completion_tokens": 100, **values})


def failed(**values: Any) -> Attempt:
    return attempt("failed", None, **values)


def route(*attempts: Attempt) -> Route:
    return Route(policy="", candidates=(), attempts=attempts)


def add(past: Past, now_s: float, num: int = 1, kind: Kind = PLAIN, **values: Any) -> None:
    for _ in range(num):
        past.add(attempt(**values), kind, now_s)
