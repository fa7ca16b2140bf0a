"""`GET /admin/v1/recommendations`: what traffic suggests to the operator."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.accounts.recommendation import Kind, Prices, Recommendation
from hodios.accounts.recommendations import SPAN_S, recommended
from hodios.accounts.registry import Registry
from hodios.api.admin import require_admin
from hodios.api.exchange import Exchange
from hodios.api.explanation import cost_number, milliseconds
from hodios.api.routes import RouteName
from hodios.api.usage import moment_in
from hodios.api.usage_entries import from_store, timestamp
from hodios.errors import NotAvailable
from hodios.gateway import Gateway
from hodios.store.database import Database
from hodios.types import Price

FILTERS = ("from", "to")


class Advice(Struct, frozen=True, kw_only=True):
    """What is no matter of a kind is null in it."""

    kind: Kind
    message: str
    model: str | None
    provider: str | None
    instead: str | None
    """Which provider to ask."""
    saving: float | None
    """Dollars, for the same tokens within the same time."""
    latency_ms: int | None
    """Of a usual answer, now."""
    latency_instead_ms: int | None
    key_id: str | None
    project_id: str | None
    spent_share: float | None
    requests: int | None
    """Of which it is said."""
    max_tokens: int | None
    """That they allow now, at least."""
    max_tokens_instead: int | None


class AdviceList(Struct, frozen=True, kw_only=True):
    """`from` and `to`: between which times usage was looked at."""

    data: list[Advice]
    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")
    object: Literal["list"] = "list"


class Recommendations:
    """Without a store every answer is a 501. `clock` gives Unix seconds."""

    def __init__(
        self,
        gateway: Gateway,
        database: Database | None,
        registry: Registry | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gateway = gateway
        self._database = database
        self._registry = registry
        self._clock = clock

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"recommendations": self.show}

    async def show(self, exchange: Exchange) -> None:
        require_admin(exchange)
        if self._database is None or self._registry is None:
            raise NotAvailable("what was used is not kept here: this server runs without a store")
        since_s, until_s = moment_in(exchange, "from", is_end=False), moment_in(exchange, "to", is_end=True)
        until_s = self._clock() if until_s is None else until_s
        since_s = max(0.0, until_s - SPAN_S) if since_s is None else since_s
        reading = recommended(self._database, self._registry, self._prices(), since_s, until_s)
        data = [advice_of(found) for found in await from_store(reading)]
        await exchange.answer_json(AdviceList(data=data, since=timestamp(since_s), until=timestamp(until_s)))

    def _prices(self) -> Prices:
        prices: dict[str, dict[str, Price]] = {}
        for seat in self._gateway.seats():
            prices.setdefault(seat.card.id, {})[seat.provider.name] = seat.card.price
        return prices


def advice_of(found: Recommendation) -> Advice:
    return Advice(
        kind=found.kind,
        message=found.message,
        model=found.model,
        provider=found.provider,
        instead=found.instead,
        saving=cost_number(found.saving),
        latency_ms=milliseconds(found.latency_s),
        latency_instead_ms=milliseconds(found.latency_instead_s),
        key_id=found.owner_id if found.owner_kind == "key" else None,
        project_id=found.owner_id if found.owner_kind == "project" else None,
        spent_share=found.spent_share,
        requests=found.num_requests,
        max_tokens=found.max_tokens,
        max_tokens_instead=found.max_tokens_instead,
    )


def recommendation_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    _, components = msgspec.json.schema_components((AdviceList,), ref_template="#/components/schemas/{name}")
    return dict(components)
