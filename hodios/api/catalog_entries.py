"""The JSON of the catalog: a model with the fields of OpenAI, Novita, APIpie, DeepInfra and OpenRouter together, its
card, and who serves it, in the units and under the names that each of them has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from hodios.dialog.families import FAMILIES
from hodios.money import dollars, dollars_per_token, novita_units
from hodios.providers.catalog import Catalog
from hodios.providers.catalog_rows import Card, ModelRow, Offer
from hodios.types import ModelCard, Price, Range

Statistics = Callable[[str, str], Mapping[str, Any]]
"""(provider, model id) → what traffic has shown, under the names of `STATISTICS` as far as anything is known."""
UPTIMES = ("uptime_last_5m", "uptime_last_30m", "uptime_last_1d")
PERCENTILES = ("latency_last_30m", "throughput_last_30m")
APIPIE_FIGURES = ("avg_cost", "latency", "query_count")
STATISTICS = (*UPTIMES, *PERCENTILES, *APIPIE_FIGURES)

READY, NOT_READY, NOT_ASKED, NOT_LISTED = 0, -1, -2, -3
"""The `status` of an endpoint: it answers; it is away at the moment; it is not asked here; its provider no longer lists
it."""


class Place(NamedTuple):
    """A model at one who serves it, or could."""

    card: ModelCard
    row: ModelRow | None
    """None for a model that the catalog does not know."""
    offer: Offer | None
    """None for what the catalog has no offer of, such as models of this machine."""
    is_enabled: bool
    """Whether it may be asked for now."""
    is_ready: bool
    reason: str = ""
    """Why it is not asked."""


def entry_of(
    place: Place, providers: Sequence[str], supported: Sequence[str], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """One model. `providers`: all who serve it; the numbers are those of the first."""
    card, row = place.card, place.row
    description = _description(place)
    return {
        **_identity(place),
        "description": description,
        "model": card.id,
        "provider": card.provider,
        "providers": list(providers),
        "route": f"{card.provider}/{card.id}",
        "type": row.type if row else "llm",
        "subtype": row.subtype if row else "chat",
        "model_type": "chat",
        "enabled": int(place.is_enabled),
        "available": int(place.is_ready),
        "status": "ready" if place.is_ready else "not_ready",
        **_lengths(card),
        **_make(place),
        "features": list(card.features),
        "supported_parameters": list(supported),
        **_prices(card, description),
        **{name: figures.get(name) for name in APIPIE_FIGURES},
        "img": None,
        "img_json": None,
    }


def _identity(place: Place) -> dict[str, Any]:
    card, row = place.card, place.row
    name = (row.name if row else "") or card.name or card.id
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.author or card.provider,
        "root": card.id,
        "parent": None,
        "aliases": list(card.aliases),
        "canonical_slug": card.id,
        "hugging_face_id": (row.hub.safetensors or None) if row else None,
        "name": name,
        "title": name,
        "display_name": name,
    }


def _lengths(card: ModelCard) -> dict[str, int]:
    """APIpie's `max_tokens` is the context, too."""
    names = ("context_length", "context_size", "max_model_len", "max_tokens")
    answers = dict.fromkeys(("max_response_tokens", "max_output_tokens"), card.max_output_tokens)
    return {**dict.fromkeys(names, card.context_length), **answers}


def _make(place: Place) -> dict[str, Any]:
    """What kind of model it is, whoever serves it."""
    card, row = place.card, place.row
    modality = {"input_modalities": list(card.modalities), "output_modalities": ["text"]}
    return {
        **modality,
        "architecture": {
            "modality": f"{'+'.join(card.modalities)}->text",
            **modality,
            "tokenizer": "Other",
            "instruct_type": row.family if row else None,
            "name": card.architecture or (row.architecture if row else ""),
            "context_length": row.context_length if row else card.context_length,
        },
        "quantization": card.quantization or None,
        "num_parameters": card.num_parameters or None,
        "size_bytes": card.size_bytes or None,
        "license": card.license or (row.license if row else "") or None,
        "knowledge_cutoff": (row.card.knowledge_cutoff or None) if row else None,
        "system_fingerprint": card.fingerprint or None,
    }


def _description(place: Place) -> str:
    if place.row and place.row.card.description:
        return place.row.card.description
    card = place.card
    facts = ", ".join(fact for fact in (card.architecture, card.quantization, card.license) if fact)
    return f"{card.name or card.id} ({facts})" if facts else card.name or card.id


def _prices(card: ModelCard, description: str) -> dict[str, Any]:
    """In every unit in which others give prices. Null where nobody knows them."""
    price = card.price
    prompt, completion = (_if_known(price, dollars_per_token, amount) for amount in (price.prompt, price.completion))
    return {
        "input_token_price_per_m": _if_known(price, novita_units, price.prompt),
        "output_token_price_per_m": _if_known(price, novita_units, price.completion),
        "req_price": prompt,
        "res_price": completion,
        "price_type": "token",
        "price_unit": "USD",
        "pricing": pricing_of(price),
        "top_provider": {
            "context_length": card.context_length,
            "max_completion_tokens": card.max_output_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "default_parameters": None,
        "expiration_date": None,
        "metadata": {
            "description": description,
            "context_length": card.context_length,
            "max_tokens": card.max_output_tokens,
            "pricing": {
                "input_tokens": _if_known(price, _dollars_per_million, price.prompt),
                "output_tokens": _if_known(price, _dollars_per_million, price.completion),
            },
            "tags": [],
        },
    }


def _if_known(price: Price, written: Callable[[int], Any], amount: int) -> Any:
    return written(amount) if price.is_known else None


def _dollars_per_million(amount: int) -> int | float:
    return _number(Decimal(dollars(amount)))


def pricing_of(price: Price) -> dict[str, str | None]:
    """OpenRouter's: dollars per token and per request, as strings."""
    pricing = {
        "prompt": _if_known(price, dollars_per_token, price.prompt),
        "completion": _if_known(price, dollars_per_token, price.completion),
        "request": _if_known(price, dollars, price.request),
        "image": _if_known(price, dollars, 0),
    }
    if price.cached is not None:
        pricing["input_cache_read"] = _if_known(price, dollars_per_token, price.cached)
    return pricing


def endpoint_of(place: Place, catalog: Catalog, supported: Sequence[str], figures: Mapping[str, Any]) -> dict[str, Any]:
    """One who serves a model, in OpenRouter's fields, and what the catalog knows of the offer."""
    card, offer = place.card, place.offer
    provider = catalog.providers.get(card.provider)
    title = provider.title if provider else card.provider
    return {
        "name": f"{title} | {card.id}",
        "model_id": card.id,
        "model_name": (place.row.name if place.row else "") or card.name or card.id,
        "context_length": card.context_length,
        "pricing": pricing_of(card.price),
        "provider_name": title,
        "tag": f"{card.provider}/{offer.via}" if offer and offer.via else card.provider,
        "quantization": card.quantization or "unknown",
        "max_completion_tokens": card.max_output_tokens,
        "max_prompt_tokens": None,
        "supported_parameters": list(supported),
        "ranges": {name: _range(accepted) for name, accepted in card.ranges.items()},
        "status": _status(place),
        **{name: figures.get(name) for name in (*UPTIMES, *PERCENTILES)},
        "supports_implicit_caching": None,
        "provider": card.provider,
        "enabled": int(place.is_enabled),
        "reason": place.reason or None,
        "continues": card.continues,
        "collects_data": card.collects_data,
        **_offer_facts(offer),
    }


def _range(accepted: Range) -> dict[str, Any]:
    """As the catalog writes it, what is not told as null."""
    return {
        "min": _plain(accepted.min),
        "max": _plain(accepted.max),
        "above_min": accepted.is_above_min,
        "default": _plain(accepted.default),
        "max_items": accepted.max_items,
    }


def _status(place: Place) -> int:
    if place.is_enabled:
        return READY if place.is_ready else NOT_READY
    return NOT_ASKED if place.offer is None or place.offer.is_available else NOT_LISTED


def _offer_facts(offer: Offer | None) -> dict[str, Any]:
    if offer is None:
        return dict.fromkeys(("upstream_id", "via", "price_source", "as_of", "source", "note", "configuration"))
    return {
        "upstream_id": offer.id,
        "via": offer.via or None,
        "price_source": offer.price_source if offer.price is not None else None,
        "as_of": offer.as_of.isoformat() if offer.as_of else None,
        "source": offer.source or None,
        "note": offer.note or None,
        "configuration": list(offer.configuration),
    }


def details_of(row: ModelRow | None, catalog: Catalog) -> dict[str, Any]:
    """What an entry of one model has beside that of a list."""
    if row is None:
        return {"card": None, "hub": None, "family": None, "links": {}}
    family = FAMILIES[row.family]
    series = catalog.series.get(row.series)
    return {
        "card": {
            **_card(row.card),
            "series": {"name": series.name, "title": series.title, **_card(series.card)} if series else None,
            "sources": dict(row.sources),
        },
        "hub": {"safetensors": row.hub.safetensors or None, "gguf": list(row.hub.gguf)},
        "family": {
            "name": family.name,
            "template": family.template or None,
            "tool_template": family.tool_template or None,
            "tool_format": family.format,
        },
        "license_url": row.license_url or None,
        "open_weights": row.has_open_weights,
        "links": dict(row.card.links),
    }


def _card(card: Card) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(msgspec.to_builtins(card, builtin_types=(Decimal,)))
    return plain


def _plain(value: Any) -> Any:
    """Decimals become numbers of JSON."""
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
