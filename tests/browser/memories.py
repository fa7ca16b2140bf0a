"""What the server remembers when the person comes: a day of traffic, incidents, prices that moved, benchmark runs, and
a model whose every text would take over a page that trusts it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from visit import HERMES, HOSTILE, MODEL

from hodios.providers.prices import PriceHistory, Quote
from hodios.router.history import History
from hodios.router.history_file import HistoryFile
from hodios.router.past import Kind
from hodios.types import Attempt, Price

HOUR_S = 3600
_SPEEDS = {"cheap": (0.4, 60.0), "dear": (0.2, 150.0)}
"""Seconds to the first token and tokens per second, of short prompts."""


def remember(home: Path, now: datetime, *, has_hostile: bool) -> None:
    _traffic(home, now.timestamp())
    _prices(home, now)
    _runs(home, now)
    if has_hostile:
        (home / "evals" / "broken.json").write_text(json.dumps({"results": []}))
        _hostile_model(home)


def _traffic(home: Path, now_s: float) -> None:
    """Of 24 hours; five hours ago half of what `dear` was asked failed, and it was left alone for a while."""
    history = History(clock=lambda: now_s)
    for ago in range(23, -1, -1):
        for provider, (wait_s, speed) in _SPEEDS.items():
            for number in range(8):
                size = number % 4
                is_failed = (provider, ago) == ("dear", 5) and number < 4
                wave = 1 + (ago % 6) / 10 + number / 20
                attempt = _attempt(provider, wait_s * (1 + size) * wave, speed / wave, is_failed=is_failed)
                history._past(provider, MODEL).add(attempt, Kind(size, 0), now_s - ago * HOUR_S - 60)
    incidents = history.incidents
    for ago, minutes, reason in ((9, 12, "3 of 4 requests failed: 503"), (5, 40, "4 of 8 requests failed: 500")):
        incidents.note("dear", MODEL, True, now_s - ago * HOUR_S, reason)
        incidents.note("dear", MODEL, False, now_s - ago * HOUR_S + minutes * 60)
    HistoryFile(home).save(history.save())


def _attempt(provider: str, wait_s: float, speed: float, *, is_failed: bool) -> Attempt:
    return Attempt(
        provider=provider,
        model=MODEL,
        began_s=0.0,
        first_token_s=None if is_failed else wait_s,
        ended_s=wait_s + 100 / speed,
        outcome="failed" if is_failed else "answered",
        completion_tokens=0 if is_failed else 101,
        price=Price(),
    )


def _prices(home: Path, now: datetime) -> None:
    past = PriceHistory(home)
    for days, (cheap, dear) in {60: (0.25, 2.0), 25: (0.15, 2.0), 8: (0.15, 3.0)}.items():
        quotes = [_quote("cheap", cheap), _quote("dear", dear)]
        past.record(quotes, now - timedelta(days=days))


def _quote(provider: str, dollars: float) -> Quote:
    price = Price(prompt=round(dollars * 1e9), completion=round(2 * dollars * 1e9))
    return Quote(provider=provider, model=MODEL, offer=MODEL, price=price, source="manual")


def _runs(home: Path, now: datetime) -> None:
    folder = home / "evals"
    folder.mkdir()
    run = {
        "results": {
            "arc_challenge": {"acc,none": 0.5478, "acc_stderr,none": 0.0145, "acc_norm,none": 0.5853},
            "gsm8k": {"exact_match,strict-match": 0.61, "exact_match_stderr,strict-match": 0.0134},
        },
        "n-shot": {"arc_challenge": 0, "gsm8k": 5},
        "n-samples": {name: {"original": 2000, "effective": 1172} for name in ("arc_challenge", "gsm8k")},
        "model_name": HERMES,
        "date": int((now - timedelta(days=2)).replace(tzinfo=UTC).timestamp()),
    }
    (folder / "hermes.json").write_text(json.dumps(run))


def _hostile_model(home: Path) -> None:
    folder = home / "catalog" / "models"
    folder.mkdir(parents=True)
    text = json.dumps(HOSTILE)
    (folder / "hostile.toml").write_text(
        f"""
id = {text}
name = {text}
author = {text}
family = "chatml"
context_length = 4096
[card]
description = {text}
developer = {text}
intended_use = {text}
languages = [{text}]
links = {{ {text} = "javascript:window.harmed=1" }}
[[card.sections]]
title = {text}
text = {text}
[[card.benchmarks]]
name = {text}
note = {text}
[[card.benchmarks.results]]
task = {text}
metric = {text}
value = 0.5
"""
    )
