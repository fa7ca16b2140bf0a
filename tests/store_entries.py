"""Attempts and requests as tests need them: all that a test does not say is as ordinary as can be."""

from __future__ import annotations

from datetime import date
from typing import Any

from hodios.store.records import AccountId, LoggedRequest, SettledAttempt

NOON_S = 1_795_262_400.0
"""2026-11-21 12:00 UTC."""
TOTAL = AccountId("key", "k1", "total")
DAY = AccountId("key", "k1", "day", date(2026, 11, 21))
PROJECT = AccountId("project", "p1", "total")


def attempt(request_id: str = "r1", number: int = 0, **changes: Any) -> SettledAttempt:
    ordinary: dict[str, Any] = {
        "key_id": "k1",
        "project_id": "p1",
        "user": None,
        "model": "m1",
        "provider": "v1",
        "outcome": "answered",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 20,
        "cost": 100,
        "is_estimated": False,
        "at_s": NOON_S,
        "accounts": (TOTAL, DAY, PROJECT),
    }
    return SettledAttempt(request_id=request_id, number=number, **(ordinary | changes))


def request(request_id: str = "r1", **changes: Any) -> LoggedRequest:
    ordinary: dict[str, Any] = {
        "answer_id": f"chat-{request_id}",
        "key_id": "k1",
        "project_id": "p1",
        "user": None,
        "wanted_model": "m1",
        "model": "m1",
        "provider": "v1",
        "status": 200,
        "upstream_status": 200,
        "finish_reason": "stop",
        "error_code": None,
        "latency_s": 0.7,
        "first_token_s": 0.2,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 20,
        "cost": 100,
        "is_streamed": True,
        "is_estimated": False,
        "route": b"{}",
        "at_s": NOON_S,
    }
    return LoggedRequest(request_id=request_id, **(ordinary | changes))
