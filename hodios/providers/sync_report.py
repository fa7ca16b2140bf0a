"""What came of asking providers for their lists: how each of them stands, and what became otherwise, for JSON too."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from hodios.providers.catalog import Catalog
from hodios.providers.catalog_remotes import context_length
from hodios.providers.catalog_rows import Offer
from hodios.providers.listings import Latency, Refused
from hodios.providers.prices import in_dollars

MOST_REFUSED = 100
What = Literal["new", "gone", "back", "price", "context_length", "max_output_tokens"]
Told = dict[str, str] | int | None
"""A price in dollars, as the settings write it; a number of tokens; None where nobody says."""


class OfferChange(Struct, frozen=True, kw_only=True):
    """One thing that is otherwise now. Only what counts here is told: a manual price hides those behind it."""

    provider: str
    model: str
    offer: str
    via: str = ""
    what: What
    before: Told = None
    after: Told = None


class Standing(Struct, frozen=True, kw_only=True):
    """How one provider stands."""

    provider: str
    listing: str
    error: str | None = None
    """Why it could not be asked the last time; its values are the last ones then."""
    num_failures: int = 0
    """In a row."""
    read_at: datetime | None = None
    age_s: float | None = None
    """How old the values are."""
    next_in_s: float | None = None
    num_models: int = 0
    num_others: int = 0
    """Models that it lists and that do not write text."""
    num_refused: int = 0
    refused: tuple[Refused, ...] = ()
    """Some of the entries that make no sense; such models keep their last values."""
    latencies: tuple[Latency, ...] = ()


class Outcome(Struct, frozen=True, kw_only=True):
    """Of one visit."""

    state: Literal["changed", "unchanged", "failed"]
    standing: Standing
    changes: tuple[OfferChange, ...] = ()


class SyncOutcomes(Struct, frozen=True):
    """Of several visits, as the API answers them."""

    data: list[Outcome]
    object: Literal["list"] = "list"


def changes_between(before: Catalog, after: Catalog, provider: str) -> tuple[OfferChange, ...]:
    """What is otherwise at one provider."""
    old, new = _offers(before, provider), _offers(after, provider)
    found: list[OfferChange] = []
    for key, offer in new.items():
        previous = old.get(key)
        if previous is None:
            if offer.is_available:
                found.append(_change(offer, "new", None, in_dollars(after.price(offer))))
            continue
        if previous.is_available != offer.is_available:
            found.append(_change(offer, "back" if offer.is_available else "gone"))
        pairs: tuple[tuple[What, Told, Told], ...] = (
            ("price", in_dollars(before.price(previous)), in_dollars(after.price(offer))),
            ("context_length", context_length(before, previous), context_length(after, offer)),
            ("max_output_tokens", previous.max_output_tokens, offer.max_output_tokens),
        )
        found += [_change(offer, what, was, now) for what, was, now in pairs if was != now]
    found += [_change(offer, "gone") for key, offer in old.items() if key not in new and offer.is_available]
    return tuple(found)


def _offers(catalog: Catalog, provider: str) -> dict[tuple[str, str, str], Offer]:
    return {(offer.model, offer.id, offer.via): offer for offer in catalog.offers if offer.provider == provider}


def _change(offer: Offer, what: What, before: Told = None, after: Told = None) -> OfferChange:
    return OfferChange(
        provider=offer.provider,
        model=offer.model,
        offer=offer.id,
        via=offer.via,
        what=what,
        before=before,
        after=after,
    )
