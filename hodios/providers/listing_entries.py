"""What the readers of lists have in common: what is asked, and how an entry becomes an offer. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from hodios.providers.catalog_rows import Offer
from hodios.providers.listing_values import PER_REQUEST, price
from hodios.remotes import RemoteFeature
from hodios.types import Price

Entry = Mapping[str, Any]


class Ask(Struct, frozen=True):
    """One request for a list, or for more on one of its models."""

    path: str
    """Below the base URL, or below the host where `is_at_root`."""
    is_at_root: bool = False
    model: str = ""
    """Whom it is about; sent as a POST where it is not ""."""


class Tags(Struct, frozen=True):
    """What a server recognises its last answer by; "" where it gave none."""

    etag: str = ""
    last_modified: str = ""


class Around(Struct, frozen=True, kw_only=True):
    """What an entry is read with."""

    native: tuple[RemoteFeature, ...]
    """What the provider can do for some of its models."""
    entries: Sequence[object]
    by_id: Mapping[str, Entry]
    answers: Mapping[Ask, Any]


def offer_of(
    id: str, contexts: Sequence[int | None], max_output: int | None = None, amount: Price | None = None
) -> Offer:
    """The shortest of all contexts is the one that can be relied on."""
    context = min((length for length in contexts if length is not None), default=None)
    if context is not None and max_output is not None:
        max_output = min(max_output, context)
    return Offer(id=id, context_length=context, max_output_tokens=max_output, price=amount)


def price_of(prices: Entry, keys: tuple[str, str, str], unit: int, *, request: object = None) -> Price:
    """`keys`: of prompt, completion, and cached prompt, which may be missing. The others may not."""
    prompt, completion, cached = (prices.get(key) for key in keys)
    if prompt is None or completion is None:
        raise ValueError("it has no price")
    return Price(
        prompt=price(prompt, unit),
        completion=price(completion, unit),
        cached=None if cached is None else price(cached, unit),
        request=0 if request is None else price(request, PER_REQUEST),
    )


def with_features(offer: Offer, around: Around, lacking: set[RemoteFeature]) -> Offer:
    return structs.replace(offer, features=tuple(feature for feature in around.native if feature not in lacking))
