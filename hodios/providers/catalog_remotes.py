"""From the catalog to servers that can be asked: who is active, as a `Remote`, with a row for each model it offers.

A model has one row per provider: of several offers the one that costs least, as far as their prices are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hodios.providers.catalog import Catalog
from hodios.providers.catalog_rows import ModelRow, Offer, ProviderRow
from hodios.providers.served import serve
from hodios.remotes import Remote, RemoteFeature, RemoteModel
from hodios.types import ModelCard, Price


def remotes_of(catalog: Catalog) -> tuple[Remote, ...]:
    """Everyone who may be asked. A provider may have no models yet: then its own list is waited for."""
    chosen = chosen_offers(catalog)
    replicas = _replicas(catalog, chosen.values())
    return tuple(
        remote_of(
            row, [_model(catalog, row, offer, replicas) for (name, _), offer in chosen.items() if name == row.name]
        )
        for row in catalog.providers.values()
        if catalog.is_active(row.name)
    )


def card_of(catalog: Catalog, offer: Offer) -> ModelCard | None:
    """What the model would be here, whether its provider is asked or not; None where nobody knows its context."""
    if context_length(catalog, offer) is None:
        return None
    row = catalog.providers[offer.provider]
    model = _model(catalog, row, offer, frozenset())
    return serve(remote_of(row, (model,)), model).card


def context_length(catalog: Catalog, offer: Offer) -> int | None:
    """As the provider says, else as the model's architecture has it; None where nobody knows."""
    if offer.context_length is not None:
        return offer.context_length
    model = catalog.models.get(offer.model)
    return model.context_length if model else None


def features_of(row: ProviderRow, offer: Offer, model: ModelRow | None) -> tuple[RemoteFeature, ...]:
    """What need not be emulated. Of a model that nobody described no more is expected than that it writes text."""
    if offer.features is not None:
        return offer.features
    lacking: set[RemoteFeature] = set()
    if model is None or not model.has_tools:
        lacking.add("tools")
    if model is None or "image" not in model.input_modalities:
        lacking.add("vision")
    return tuple(feature for feature in row.features if feature not in lacking)


def can_continue(row: ProviderRow, model: ModelRow | None) -> bool:
    """Whether an answer that another server began can be gone on with: weights are open, and there is a way to ask."""
    if model is None or not model.has_open_weights:
        return False
    is_raw = "completions" in row.dialects and "answers_completions_as_chat" not in row.quirks
    return is_raw or bool(row.prefill)


def chosen_offers(catalog: Catalog) -> dict[tuple[str, str], Offer]:
    """Those that are asked, by provider and model."""
    chosen: dict[tuple[str, str], Offer] = {}
    for offer in catalog.offers:
        if not (catalog.is_active(offer.provider) and offer.is_available and context_length(catalog, offer)):
            continue
        place = (offer.provider, offer.model)
        if place not in chosen or _rank(catalog.price(offer)) < _rank(catalog.price(chosen[place])):
            chosen[place] = offer
    return chosen


def _rank(price: Price) -> tuple[bool, int]:
    return (not price.is_known, price.prompt + price.completion)


def _replicas(catalog: Catalog, offers: Iterable[Offer]) -> frozenset[tuple[str, Price]]:
    """Models and prices that more than one server of our own has."""
    counts = Counter(
        (offer.model, catalog.price(offer)) for offer in offers if not catalog.providers[offer.provider].is_hosted
    )
    return frozenset(place for place, count in counts.items() if count > 1)


def remote_of(row: ProviderRow, models: Sequence[RemoteModel]) -> Remote:
    return Remote(
        name=row.name,
        base_url=row.base_url,
        api_key_env=row.api_key_env,
        dialect=row.dialects[0],
        is_streaming=row.is_streaming,
        parameters=row.parameters,
        ranges=row.ranges,
        connect_timeout_s=row.connect_timeout_s,
        first_byte_timeout_s=row.first_byte_timeout_s,
        silence_timeout_s=row.silence_timeout_s,
        has_completions="completions" in row.dialects and "answers_completions_as_chat" not in row.quirks,
        prefill=row.prefill,
        quirks=row.quirks,
        collects_data=row.collects_data,
        load=row.load,
        models=tuple(models),
    )


def _model(catalog: Catalog, row: ProviderRow, offer: Offer, replicas: frozenset[tuple[str, Price]]) -> RemoteModel:
    model = catalog.models.get(offer.model)
    added = catalog.added.get(offer.model)
    price = catalog.price(offer)
    context = context_length(catalog, offer)
    assert context is not None, "only offers whose context is known are chosen"
    return RemoteModel(
        id=offer.model,
        upstream_id=offer.id,
        aliases=_aliases(model, offer, added.aliases if added else ()),
        context_length=context,
        max_output_tokens=offer.max_output_tokens,
        features=features_of(row, offer, model),
        parameters=offer.parameters,
        family=(added.family if added else "") or (model.family if model else ""),
        dialect=offer.dialect,
        price=price,
        quantization=offer.quantization,
        license=model.license if model else "",
        continues=can_continue(row, model),
        is_replica=not row.is_hosted and (offer.model, price) in replicas,
    )


def _aliases(model: ModelRow | None, offer: Offer, added: Sequence[str]) -> tuple[str, ...]:
    """What clients of other systems call the model, each name once."""
    names = (*(model.names if model else ()), *added, offer.id)
    seen = {offer.model.casefold(): offer.model}
    for name in names:
        seen.setdefault(name.casefold(), name)
    return tuple(seen.values())[1:]
