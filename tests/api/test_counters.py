"""What is counted here is told as Prometheus' own library would tell it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from hodios.api.counters import Counts, Durations

LIMITS = (0.005, 0.5, 1.0, 30.0)
SAMPLES = (0.0, 0.005, 0.0051, 0.5, 1.0, 29.0, 30.0, 31.0, 1e9)
LABELS = [("a", 200), ('b "quoted"\\\n', 499)]


def told(registry: CollectorRegistry) -> list[str]:
    """Without the times at which series were begun."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_counts() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("requests", "Requests.", ("route", "status"))
    ours.register(counts)
    counter = Counter("requests", "Requests.", ("route", "status"), registry=theirs)
    for number, labels in enumerate(LABELS, start=3):
        counts.of[labels] += number
        counter.labels(*labels).inc(number)
    assert told(ours) == told(theirs)
    assert 'requests_total{route="a",status="200"} 3.0' in told(ours)


def test_durations() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("seconds", "Seconds.", ("route", "status"), LIMITS)
    ours.register(durations)
    histogram = Histogram("seconds", "Seconds.", ("route", "status"), registry=theirs, buckets=LIMITS)
    for labels in LABELS:
        for sample in SAMPLES:
            durations.add(labels, sample)
            histogram.labels(*labels).observe(sample)
    assert told(ours) == told(theirs)
    assert 'seconds_bucket{le="0.5",route="a",status="200"} 4.0' in told(ours)
