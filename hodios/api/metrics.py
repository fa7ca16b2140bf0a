"""Counts of what the API did, in Prometheus' text format. Labels are routes, statuses and model ids, never callers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from hodios.api.counters import Counts, Durations
from hodios.api.exchange import Exchange
from hodios.api.processes import Processes
from hodios.providers.base import ModelHealth

HealthOf = Callable[[], Sequence[tuple[str, ModelHealth]]]
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_MODEL_LABELS = ("model", "provider")


class Metrics:
    """One registry per app; nothing global."""

    def __init__(self, health: HealthOf, *more: Collector, processes: Processes | None = None) -> None:
        self._processes = processes or Processes()
        self.registry = registry = CollectorRegistry()
        self.num_in_progress = 0
        self._requests = Counts(
            "hodios_requests", "Requests by route and status; 499 is a client that left.", ("route", "status")
        )
        self._seconds = Durations(
            "hodios_request_seconds", "From arrival to the end of the answer.", ("route",), _DURATIONS
        )
        self._first_token = Durations(
            "hodios_time_to_first_token_seconds",
            "From arrival to the first event of a provider.",
            _MODEL_LABELS,
            _DURATIONS,
        )
        self._tokens = Counts("hodios_tokens", "Tokens by kind.", (*_MODEL_LABELS, "kind"))
        self._calls = Counts("hodios_tool_calls", "Calls of tools that models asked for.", _MODEL_LABELS)
        in_progress = Gauge("hodios_requests_in_progress", "Requests not yet answered whole.", registry=registry)
        in_progress.set_function(lambda: self.num_in_progress)
        ProcessCollector(registry=registry)
        counting = (self._requests, self._seconds, self._first_token, self._tokens, self._calls)
        for collector in (*counting, _ModelCollector(health), *more):
            registry.register(collector)

    def record(self, exchange: Exchange, route: str) -> None:
        """One finished request."""
        self._requests.of[route, exchange.status] += 1
        self._seconds.add((route,), exchange.elapsed_s())
        if exchange.first_token_s is None:
            return
        model, provider = labels = (exchange.model, exchange.provider)
        self._first_token.add(labels, exchange.first_token_s)
        tokens = self._tokens.of
        if exchange.num_prompt_tokens:
            tokens[model, provider, "prompt"] += exchange.num_prompt_tokens
        if exchange.num_cached_tokens:
            tokens[model, provider, "cached"] += exchange.num_cached_tokens
        if exchange.num_completion_tokens:
            tokens[model, provider, "completion"] += exchange.num_completion_tokens
        if exchange.num_tool_calls:
            self._calls.of[labels] += exchange.num_tool_calls

    async def show(self, exchange: Exchange) -> None:
        """GET /metrics."""
        await exchange.answer(200, await self._processes.metrics(self.registry), CONTENT_TYPE_LATEST.encode())


class _ModelCollector(Collector):
    """What providers say of their models, asked at the time of the scrape."""

    def __init__(self, health: HealthOf) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        is_ready = GaugeMetricFamily("hodios_model_ready", "1 where the model can answer now.", labels=_MODEL_LABELS)
        restarts = CounterMetricFamily("hodios_model_restarts", "Restarts of the model's worker.", labels=_MODEL_LABELS)
        stats: dict[str, UnknownMetricFamily] = {}
        for provider, health in self._health():
            labels = (health.model, provider)
            is_ready.add_metric(labels, health.state == "ready")
            restarts.add_metric(labels, health.num_restarts)
            for name, value in health.stats.items():
                family = stats.setdefault(
                    name, UnknownMetricFamily(f"hodios_model_{name}", "As the engine counts it.", labels=_MODEL_LABELS)
                )
                family.add_metric(labels, value)
        return [is_ready, restarts, *stats.values()]
