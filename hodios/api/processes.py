"""The API processes of one server: which one this is, and the metrics of all of them in one answer.

Each tells the others its own over a socket that their user alone can reach. With one process nothing is added.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

ANSWER_WITHIN_S = 1.0
"""So long a scrape waits for the other processes."""


class Processes:
    """`number` is this one's, from 1; `sockets` are those of all, in order, and none where there is only one."""

    def __init__(self, number: int = 1, sockets: Sequence[Path] = ()) -> None:
        self.number = number
        self._sockets = tuple(sockets)

    @property
    def num(self) -> int:
        return max(1, len(self._sockets))

    def fields(self) -> dict[str, int]:
        """Which process answers."""
        return {"number": self.number, "of": self.num, "pid": os.getpid()}

    async def metrics(self, registry: CollectorRegistry) -> bytes:
        """Of all processes in Prometheus' text format, each with its label `process`."""
        if self.num == 1:
            return generate_latest(registry)
        others = [number for number in range(1, self.num + 1) if number != self.number]
        told = await asyncio.gather(*(self._ask(number) for number in others))
        answers = [(self.number, self._own(registry)), *zip(others, told, strict=True)]
        answering = GaugeMetricFamily(
            "hodios_process_up", "1 where the process has told its metrics.", labels=("process",)
        )
        for number, text in sorted(answers):
            answering.add_metric((str(number),), bool(text))
        registry_of_all = CollectorRegistry()
        registry_of_all.register(_Fixed([answering]))
        return merged([generate_latest(registry_of_all), *(text for _, text in sorted(answers))])

    @contextlib.asynccontextmanager
    async def telling(self, registry: CollectorRegistry) -> AsyncGenerator[None, None]:
        """Within the block the others can ask this process."""
        if self.num == 1:
            yield
            return

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(self._own(registry))
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        path = self._sockets[self.number - 1]
        server = await asyncio.start_unix_server(tell, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def _ask(self, number: int) -> bytes:
        """Nothing where it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(self._sockets[number - 1])
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""

    def _own(self, registry: CollectorRegistry) -> bytes:
        labelled = CollectorRegistry()
        labelled.register(_Fixed([_labelled(metric, str(self.number)) for metric in registry.collect()]))
        return generate_latest(labelled)


class _Fixed(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _labelled(metric: Metric, process: str) -> Metric:
    """`metric` was made for this scrape, so it may change."""
    metric.samples = [sample._replace(labels={**sample.labels, "process": process}) for sample in metric.samples]
    return metric


def merged(texts: Iterable[bytes]) -> bytes:
    """Samples of one metric together, as the format demands: each begins with its HELP and its TYPE."""
    heads: dict[bytes, list[bytes]] = {}
    for text in texts:
        samples: list[bytes] = []
        help_line = b""
        for line in text.splitlines(keepends=True):
            if line.startswith(b"# HELP "):
                help_line = line
            elif line.startswith(b"# TYPE "):
                samples = heads.setdefault(help_line + line, [])
            else:
                samples.append(line)
    return b"".join(head + b"".join(samples) for head, samples in heads.items())
