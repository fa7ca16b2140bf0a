"""Is it alive, can it answer, and how is each model doing. No probe asks a model for anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hodios import __version__
from hodios.api.exchange import Exchange
from hodios.api.guard_metrics import guard_fields
from hodios.api.processes import Processes
from hodios.api.routes import RouteName
from hodios.api.status import StatusPage
from hodios.gateway import Gateway
from hodios.guard.panel import Panel
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.local import NAME as LOCAL

PATIENCE_S = 120.0
"""As long after its start a process with a model that is ready waits for those of this machine that still load."""


class Health:
    """The handlers of the probes. Ready is whoever has a model that is, once those of this machine have loaded: whoever
    is told so may ask for any of them."""

    def __init__(
        self,
        gateway: Gateway,
        store: CatalogStore,
        status: StatusPage,
        panel: Panel,
        account_report: Callable[[], dict[str, Any]] | None = None,
        *,
        processes: Processes,
        monotonic: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._status = status
        self._panel = panel
        self._account_report = account_report
        self._processes = processes
        self._monotonic = monotonic
        self._since = monotonic()
        self._has_loaded = False

    def _is_ready(self) -> bool:
        states = {(provider, health.state) for provider, health in self._gateway.health()}
        # Later on others are not held up by a model that somebody loads beside them.
        if (LOCAL, "loading") not in states or self._monotonic() - self._since >= PATIENCE_S:
            self._has_loaded = True
        return self._has_loaded and any(state == "ready" for _, state in states)

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"live": self.live, "ready": self.ready, "health": self.details}

    async def live(self, exchange: Exchange) -> None:
        await exchange.answer_json({"status": "live"})

    async def ready(self, exchange: Exchange) -> None:
        if self._is_ready():
            await exchange.answer_json({"status": "ready"})
        else:
            await exchange.answer_json({"status": "not_ready"}, status=503)

    async def details(self, exchange: Exchange) -> None:
        models: list[dict[str, Any]] = [
            {
                "model": health.model,
                "provider": provider,
                "state": health.state,
                "message": health.message,
                "restarts": health.num_restarts,
                "stats": dict(health.stats),
            }
            for provider, health in self._gateway.health()
        ]
        is_ready = self._is_ready()
        report: dict[str, Any] = {
            "status": "ready" if is_ready else "not_ready",
            "version": __version__,
            "process": self._processes.fields(),
            "uptime_s": round(self._monotonic() - self._since, 3),
            "catalog": {"version": self._store.current.version, "problem": self._store.problem or None},
            "service": self._status.summary(),
            "models": models,
            "guards": guard_fields(self._panel),
        }
        if self._account_report is not None:
            report["accounts"] = self._account_report()
        await exchange.answer_json(report, status=200 if is_ready else 503)
