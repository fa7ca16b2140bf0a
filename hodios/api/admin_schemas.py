"""What the operator's routes are asked and answer: as objects, and as JSON schemas made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.providers.prices import PriceChange, Source, in_dollars
from hodios.providers.sync_report import Standing, SyncOutcomes

Dollars = dict[str, str] | None


class SyncRequest(Struct, frozen=True):
    """Without names it is everyone who is asked at all."""

    providers: list[str] | None = None


class Reloaded(Struct, frozen=True):
    version: int


class SyncStandings(Struct, frozen=True):
    data: list[Standing]
    interval_s: float | None
    object: Literal["list"] = "list"


class PastPrice(Struct, frozen=True):
    """One change. Prices as the settings write them: dollars per million tokens, and per request; null: not known."""

    at: datetime
    provider: str
    model: str
    offer: str
    via: str | None
    source: Source
    old: Dollars
    new: Dollars


class PriceHistory(Struct, frozen=True):
    data: list[PastPrice]
    object: Literal["list"] = "list"


def past_price(change: PriceChange) -> PastPrice:
    return PastPrice(
        at=change.at,
        provider=change.provider,
        model=change.model,
        offer=change.offer,
        via=change.via or None,
        source=change.source,
        old=in_dollars(change.old),
        new=in_dollars(change.new),
    )


def admin_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (SyncRequest, Reloaded, SyncOutcomes, SyncStandings, PriceHistory)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)
