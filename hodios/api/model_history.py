"""`GET models/{id}/prices` and `models/{id}/history`: what a model has cost, and how it has been served, at each
provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.api.admin import limit_in
from hodios.api.admin_schemas import PastPrice, past_price
from hodios.api.catalog import Catalog
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.api.statistics import percent, percentiles_of
from hodios.errors import InvalidRequest
from hodios.gateway import Gateway
from hodios.providers.sync import Synchronizer
from hodios.router.history import History
from hodios.router.past import DAY, SIZES, Bins, Distribution, Past, Stretch
from hodios.store.records import KeyRecord

PRICE_FILTERS = ("provider", "limit")
HISTORY_FILTERS = ("hours",)
DEFAULT_PRICES, MOST_PRICES = 1000, 10_000


class Percentiles(Struct, frozen=True):
    p50: float
    p75: float
    p90: float
    p99: float


class SizeFigures(Struct, frozen=True):
    """Of requests whose prompts have a like number of characters."""

    samples: int
    latency: Percentiles | None
    """Milliseconds to the first token."""
    throughput: Percentiles | None
    """Tokens per second after it."""


class Bucket(Struct, frozen=True, rename={"begin": "from"}):
    """A stretch of time."""

    begin: datetime
    seconds: int
    requests: int
    errors: int
    """By the provider's fault."""
    uptime: float | None
    """Per cent; null where nothing was asked."""
    latency: Percentiles | None
    throughput: Percentiles | None
    by_size: dict[str, SizeFigures]
    """Only of those that were asked."""


class Course(Struct, frozen=True):
    """Of one provider, oldest first; the last one is under way."""

    provider: str
    model: str
    hours: list[Bucket]
    recent: list[Bucket]
    """Of half an hour, by five minutes."""


class ModelCourse(Struct, frozen=True, rename={"begin": "from", "end": "to"}):
    model: str
    begin: datetime
    end: datetime
    data: list[Course]
    object: Literal["list"] = "list"


class ModelPrices(Struct, frozen=True):
    """Changes, the newest first."""

    model: str
    data: list[PastPrice]
    object: Literal["list"] = "list"


class ModelHistory:
    """The handlers."""

    def __init__(self, gateway: Gateway, catalog: Catalog, synchronizer: Synchronizer, history: History) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._synchronizer = synchronizer
        self._history = history

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"model_prices": self.prices, "model_history": self.course}

    async def prices(self, exchange: Exchange) -> None:
        model = self._catalog.named(exchange)
        provider, limit = (exchange.query(name) for name in PRICE_FILTERS)
        changes = await self._synchronizer.changes(
            model=model,
            provider=provider or None,
            among=None if exchange.key is None else exchange.key.providers,
            most=limit_in(limit, MOST_PRICES) if limit else DEFAULT_PRICES,
        )
        await exchange.answer_json(ModelPrices(model, [past_price(change) for change in reversed(changes)]))

    async def course(self, exchange: Exchange) -> None:
        model = self._catalog.named(exchange)
        num_hours = _hours_in(exchange.query("hours"))
        now_s = self._history.clock()
        data = []
        for provider in self._providers(model, exchange.key):
            past = self._history.past(provider, model) or Past()
            hours = [_bucket(each) for each in past.by_hour(now_s, num_hours)]
            # Long lists must not hold up answers that are being streamed.
            await asyncio.sleep(0)
            data.append(Course(provider, model, hours, [_bucket(each) for each in past.by_short(now_s)]))
            await asyncio.sleep(0)
        begin = _time(now_s - (num_hours - 1) * 3600 - now_s % 3600)
        await exchange.answer_json(ModelCourse(model, begin, _time(now_s), data))

    def _providers(self, model: str, key: KeyRecord | None) -> list[str]:
        """Who serves it, and after them who did and does not any more; of those whom the key may ask."""
        serving = [seat.provider.name for seat in self._gateway.seats() if seat.card.id == model]
        all_of_it = [*serving, *(provider for provider, id, _ in self._history.pasts() if id == model)]
        return [provider for provider in dict.fromkeys(all_of_it) if key is None or key.allows(model, provider)]


def _hours_in(text: str | None) -> int:
    """Raises InvalidRequest."""
    if not text:
        return DAY
    if not (text.isascii() and text.isdecimal() and len(text) < 3 and 1 <= int(text) <= DAY):
        raise InvalidRequest(f"hours: {text[:60]!r} is not accepted; accepted: 1 to {DAY}", param="hours")
    return int(text)


def _bucket(stretch: Stretch) -> Bucket:
    latency, throughput = stretch.latency, stretch.throughput
    sizes = {}
    for name, waits, speeds in zip(SIZES, latency, throughput, strict=True):
        of_waits, of_speeds = Distribution("latency", waits), Distribution("throughput", speeds)
        if of_waits.num:
            sizes[name] = SizeFigures(of_waits.num, _percentiles(of_waits), _percentiles(of_speeds))
    return Bucket(
        begin=_time(stretch.begin_s),
        seconds=stretch.length_s,
        requests=sum(stretch.tally.counts.values()),
        errors=stretch.tally.num_failed,
        uptime=percent(stretch.tally.uptime),
        latency=_percentiles(Distribution("latency", _merged(latency))),
        throughput=_percentiles(Distribution("throughput", _merged(throughput))),
        by_size=sizes,
    )


def _merged(sizes: Iterable[Bins]) -> Bins:
    merged: Bins = {}
    for bins in sizes:
        for bin_, num in bins.items():
            merged[bin_] = merged.get(bin_, 0) + num
    return merged


def _percentiles(distribution: Distribution) -> Percentiles | None:
    found = percentiles_of(distribution)
    return None if found is None else Percentiles(**found)


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)


def model_history_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (ModelPrices, ModelCourse)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)
