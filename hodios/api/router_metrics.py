"""What the router knows of providers, in Prometheus' text format, read at the time of the scrape. Labels are providers,
model ids and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hodios.router.history import History
from hodios.router.past import OUTCOMES
from hodios.router.track import Tracks

_LABELS = ("model", "provider")


class RouterCollector(Collector):
    def __init__(self, history: History, tracks: Tracks) -> None:
        self._history = history
        self._tracks = tracks

    def collect(self) -> Iterable[Metric]:
        attempts = CounterMetricFamily(
            "hodios_attempts", "Requests that providers were asked, by how they ended.", labels=(*_LABELS, "outcome")
        )
        declining = GaugeMetricFamily(
            "hodios_declining", "1 where this gets worse, compared with the day before.", labels=(*_LABELS, "subject")
        )
        for provider, model, past in self._history.pasts():
            for outcome, num in zip(OUTCOMES, past.totals, strict=True):
                attempts.add_metric((model, provider, outcome), num)
            for decline in self._history.declines(provider, model):
                declining.add_metric((model, provider, decline.subject), 1)
        return [attempts, declining, *self._breakers(), self._probes(), *self._reports()]

    def _breakers(self) -> tuple[Metric, Metric]:
        is_ejected = GaugeMetricFamily("hodios_ejected", "1 where it failed too often to be asked.", labels=_LABELS)
        ejections = CounterMetricFamily("hodios_ejections", "How often that happened.", labels=_LABELS)
        for (provider, model), track in self._tracks.all().items():
            is_ejected.add_metric((model, provider), track.breaker.is_open)
            ejections.add_metric((model, provider), track.breaker.num_ejections)
        return is_ejected, ejections

    def _probes(self) -> Metric:
        probes = CounterMetricFamily(
            "hodios_probes", "Free probes of providers, by what they said.", labels=("provider", "verdict")
        )
        for (provider, verdict), num in self._history.num_probes().items():
            probes.add_metric((provider, verdict), num)
        return probes

    def _reports(self) -> tuple[Metric, Metric, Metric]:
        others = GaugeMetricFamily(
            "hodios_server_requests_of_others", "Requests that a replica has beside ours.", labels=_LABELS
        )
        waiting = GaugeMetricFamily(
            "hodios_server_requests_waiting", "Requests that a replica has not begun.", labels=_LABELS
        )
        usage = GaugeMetricFamily("hodios_server_cache_usage", "The used share of its KV cache.", labels=_LABELS)
        for (provider, model), track in self._tracks.all().items():
            if (report := track.load.report) is not None:
                others.add_metric((model, provider), report.num_others)
                waiting.add_metric((model, provider), report.num_waiting)
                if report.cache_usage is not None:
                    usage.add_metric((model, provider), report.cache_usage)
        return others, waiting, usage
