"""`GET /status`: how every model is doing at everyone who serves it, and how it has been for a day. Asks nobody.

Holds nothing that only the operator may know: names, states and numbers, no messages of providers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from hodios.api.exchange import Exchange
from hodios.api.statistics import outcomes_of, percent, percentiles_of, uptimes_of
from hodios.gateway import Gateway
from hodios.providers.base import ModelState
from hodios.router.decline import trend
from hodios.router.history import History
from hodios.router.incidents import Incident
from hodios.router.past import MEASURES, Past
from hodios.router.router import Router

State = Literal["operational", "degraded", "down"]
STATES: tuple[State, ...] = ("operational", "degraded", "down")
FRESH_S = 5.0
"""How old an answer may be: anybody may ask, and as often as they like."""
LEAST_UPTIME = 0.95
"""Of half an hour. Who has less is degraded."""
_LEAST_JUDGED = 20
_WHY_DOWN: Mapping[ModelState, str] = {"loading": "it is loading", "restarting": "it restarts", "failed": "it failed"}


class Standing(NamedTuple):
    """One model at one provider."""

    provider: str
    model: str
    state: State
    reasons: tuple[str, ...]


class StatusPage:
    """The handler, and what `/health` and the metrics say in short."""

    def __init__(self, gateway: Gateway, router: Router, history: History) -> None:
        self._gateway = gateway
        self._router = router
        self._history = history
        self._looked: dict[Standing, dict[str, Any]] = {}
        self._encoded = b""
        """For those who may see all of it."""
        self._until_s = float("-inf")
        self._lock = asyncio.Lock()

    def standings(self) -> list[Standing]:
        """Of everybody who serves a model now."""
        health = {(provider, each.model): each.state for provider, each in self._gateway.health()}
        ejected = {key for key, track in self._router.tracks.all().items() if track.breaker.is_open}
        found = []
        for seat in self._gateway.seats():
            key = (seat.provider.name, seat.card.id)
            found.append(self._standing(*key, health.get(key, "ready"), is_ejected=key in ejected))
        return found

    def summary(self) -> dict[str, Any]:
        standings = self.standings()
        return {
            "status": overall(standings),
            "degraded": _named(standings, "degraded"),
            "down": _named(standings, "down"),
            "open_incidents": self._history.incidents.num_open,
        }

    async def show(self, exchange: Exchange) -> None:
        """GET /status. Keys see what they may ask for."""
        async with self._lock:
            if not 0 <= self._until_s - self._history.clock() <= FRESH_S:
                await self._look()
        key = exchange.key
        if key is None or (key.models is None and key.providers is None):
            await exchange.answer(200, self._encoded)
        else:
            await exchange.answer_json(self._page(key.allows))

    async def _look(self) -> None:
        now_s, looked = self._history.clock(), {}
        for each in self.standings():
            looked[each] = self._model(each, now_s)
            # Long lists must not hold up answers that are being streamed.
            await asyncio.sleep(0)
        self._looked, self._until_s = looked, now_s + FRESH_S
        self._encoded = msgspec.json.encode(self._page(lambda model, provider: True))

    def _page(self, allows: Callable[[str, str], bool]) -> dict[str, Any]:
        """Of each (model, provider) that is allowed."""
        standings = [each for each in self._looked if allows(each.model, each.provider)]
        providers: dict[str, list[dict[str, Any]]] = {}
        for each in standings:
            providers.setdefault(each.provider, []).append(self._looked[each])
        return {
            "status": overall(standings),
            "updated_at": _time(self._until_s - FRESH_S),
            "models": _by_model(standings),
            "providers": [
                {
                    "name": name,
                    "status": best(each.state for each in standings if each.provider == name),
                    "reachable": self._reachable(name),
                    "models": models,
                }
                for name, models in providers.items()
            ],
            "incidents": [
                _incident(incident)
                for incident in self._history.incidents.newest_first()
                if allows(incident.model, incident.provider)
            ],
        }

    def _standing(self, provider: str, model: str, health: ModelState, *, is_ejected: bool) -> Standing:
        reasons = [_WHY_DOWN[health]] if health != "ready" else []
        if is_ejected:
            reasons.append("it failed too often and is not asked")
        checked = self._history.checked(provider)
        if checked is not None and checked.verdict == "ill":
            reasons.append("it cannot be reached")
        if reasons:
            return Standing(provider, model, "down", tuple(reasons))
        reasons = [decline.message for decline in self._history.declines(provider, model)]
        past = self._history.past(provider, model)
        tally = past.minutes(self._history.clock(), 30) if past else None
        if tally and tally.num_judged >= _LEAST_JUDGED and (tally.uptime or 0) < LEAST_UPTIME:
            reasons.append("it failed more than one in twenty requests of half an hour")
        return Standing(provider, model, "degraded" if reasons else "operational", tuple(reasons))

    def _model(self, standing: Standing, now_s: float) -> dict[str, Any]:
        past = self._history.past(standing.provider, standing.model) or Past()
        declines = self._history.declines(standing.provider, standing.model)
        return {
            "id": standing.model,
            "status": standing.state,
            "reasons": list(standing.reasons),
            "uptime": uptimes_of(past, now_s),
            "attempts": {
                "30m": outcomes_of(past.minutes(now_s, 30)),
                "1d": outcomes_of(past.day(now_s)),
            },
            "hours": [
                {
                    "from": _time(begin_s),
                    "uptime": percent(tally.uptime),
                    "attempts": tally.num_judged,
                    "failed": tally.num_failed,
                }
                for begin_s, tally in past.hours(now_s)
            ],
            **{measure: _spread(past, measure, now_s) for measure in MEASURES},
            "trend": _trend(past, now_s),
            "warnings": [
                {"subject": decline.subject, "since": _time(decline.since_s), "message": decline.message}
                for decline in declines
            ],
        }

    def _reachable(self, provider: str) -> bool | None:
        """By the last free probe; null where it said nothing, or traffic has said more since."""
        checked = self._history.checked(provider)
        return None if checked is None or checked.verdict == "unknown" else checked.verdict == "well"


def _named(standings: Iterable[Standing], state: State) -> list[str]:
    return [f"{each.provider}/{each.model}" for each in standings if each.state == state]


def best(states: Iterable[State]) -> State:
    return min(states, key=STATES.index)


def overall(standings: Iterable[Standing]) -> State:
    """Down where no model can answer, degraded where one of them cannot do so as it should."""
    models: dict[str, list[State]] = {}
    for each in standings:
        models.setdefault(each.model, []).append(each.state)
    states = {best(found) for found in models.values()}
    if states == {"operational"}:
        return "operational"
    return "down" if states <= {"down"} else "degraded"


def _by_model(standings: Iterable[Standing]) -> list[dict[str, Any]]:
    models: dict[str, list[Standing]] = {}
    for each in standings:
        models.setdefault(each.model, []).append(each)
    return [
        {
            "id": model,
            "status": best(each.state for each in found),
            "providers": {each.provider: each.state for each in found},
        }
        for model, found in models.items()
    ]


def _spread(past: Past, measure: Any, now_s: float) -> dict[str, Any]:
    spread = past.spread(measure, now_s)
    return {
        "overall": percentiles_of(spread.overall),
        "samples": spread.overall.num,
        "by_size": {size: percentiles_of(each) for size, each in spread.by_size.items()},
        "by_capability": {capability: percentiles_of(each) for capability, each in spread.by_capability.items()},
        "by_version": {version: percentiles_of(each) for version, each in spread.by_version.items()},
    }


def _trend(past: Past, now_s: float) -> dict[str, float | None]:
    """Half an hour compared with the day before: medians as ratios, uptime as a difference of per cents."""
    found: dict[str, float | None] = {}
    for measure in MEASURES:
        ratio = trend(past, measure, now_s)
        found[measure] = None if ratio is None else round(ratio, 3)
    now, before = past.minutes(now_s, 30).uptime, past.before(now_s).uptime
    found["uptime"] = None if now is None or before is None else percent(now - before)
    return found


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "provider": incident.provider,
        "model": incident.model,
        "began_at": _time(incident.began_s),
        "ended_at": None if incident.ended_s is None else _time(incident.ended_s),
        "ejections": incident.num_ejections,
        "reason": incident.reason or None,
    }


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
