"""`GET models` and what lies below it: every model, one model with its card, and who serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import structs

from hodios.api.catalog_entries import Place, Statistics, details_of, endpoint_of, entry_of
from hodios.api.exchange import Exchange
from hodios.api.parameters import CHAT, COMPLETIONS, Parameter, parameters
from hodios.errors import InvalidRequest, ModelNotFound
from hodios.gateway import Gateway, not_allowed
from hodios.providers.catalog import Catalog as Rows
from hodios.providers.catalog_remotes import card_of, chosen_offers
from hodios.providers.catalog_rows import ModelRow, Offer
from hodios.types import ModelCard

FILTERS = ("type", "subtype", "provider", "model", "enabled", "supported_parameters", "q")
_ENABLED = ("1", "0", "all")
_UNREMARKABLE = ("model", "messages", "prompt", "strict", "include_route")
"""Parameters that say nothing of a model."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OTHER_OFFER = "another offer of this provider is asked instead"
_NOT_INSTALLED = "nobody serves it"


def no_statistics(provider: str, model: str) -> Mapping[str, Any]:
    return _NOTHING


class Catalog:
    """The handlers of the model routes. `rows` gives the catalog of the moment."""

    def __init__(
        self,
        gateway: Gateway,
        max_choices: int,
        rows: Callable[[], Rows],
        statistics: Statistics = no_statistics,
    ) -> None:
        self._gateway = gateway
        self._rows = rows
        self._statistics = statistics
        tables = (parameters(CHAT, max_choices), parameters(COMPLETIONS, max_choices))
        self._parameters: dict[str, Parameter] = {**tables[0], **tables[1]}

    async def all(self, exchange: Exchange) -> None:
        wanted = {name: value for name in FILTERS if (value := exchange.query(name))}
        enabled = wanted.pop("enabled", _ENABLED[0]).casefold()
        if enabled not in _ENABLED:
            raise InvalidRequest(
                f"enabled: {enabled[:60]!r} is not known; accepted: {', '.join(_ENABLED)}", param="enabled"
            )
        provider = wanted.pop("provider", "").casefold()
        data = []
        for places in self._allowed(exchange, self._rows()).values():
            if enabled != "all" and places[0].is_enabled != (enabled == "1"):
                continue
            if provider:
                places = [place for place in places if place.card.provider.casefold() == provider]
            if enabled == "1":
                places = [place for place in places if place.is_enabled]
            if places and self._matches(entry := self._entry(places), wanted):
                data.append(entry)
        await exchange.answer_json({"object": "list", "data": data})

    async def one(self, exchange: Exchange) -> None:
        rows = self._rows()
        places, only = self._find(exchange, rows)
        shown = [place for place in places if place.card.provider == only] if only else places
        endpoints = [self._endpoint(place, rows) for place in places]
        entry = {**self._entry(shown), **details_of(shown[0].row, rows), "offers": endpoints}
        await exchange.answer_json(entry)

    async def endpoints(self, exchange: Exchange) -> None:
        rows = self._rows()
        places, _ = self._find(exchange, rows)
        entry = self._entry(places)
        shown = {name: entry[name] for name in ("id", "name", "created", "description", "architecture")}
        data = {**shown, "endpoints": [self._endpoint(place, rows) for place in places]}
        await exchange.answer_json({"data": data})

    def named(self, exchange: Exchange) -> str:
        """The id of the model that is asked for. Raises ModelNotFound, also where the key may not ask for it."""
        self._find(exchange, self._rows())
        return self.id_of(exchange.scope["path_params"]["id"])

    def id_of(self, name: str) -> str:
        """The id of the model that somebody serves under this name, or the catalog has. Raises ModelNotFound."""
        return _named(name, self._gateway, self._rows())[0]

    def _find(self, exchange: Exchange, rows: Rows) -> tuple[list[Place], str]:
        """The places of the model that is asked for, and the provider that its name asks for, if it does. Raises
        ModelNotFound."""
        name: str = exchange.scope["path_params"]["id"]
        id, only = _named(name, self._gateway, rows)
        places = self._allowed(exchange, rows).get(id.casefold(), [])
        if not places or (only and all(place.card.provider != only for place in places)):
            raise not_allowed(name)
        return places, only

    def _allowed(self, exchange: Exchange, rows: Rows) -> dict[str, list[Place]]:
        """As `_places`, as far as the key that asks may ask for them."""
        all_places = self._places(rows)
        key = exchange.key
        if key is None or (key.models is None and key.providers is None):
            return all_places
        left = {
            id: [place for place in places if key.allows(place.card.id, place.card.provider)]
            for id, places in all_places.items()
        }
        return {id: places for id, places in left.items() if places}

    def _places(self, rows: Rows) -> dict[str, list[Place]]:
        """Of every model, by its id in lower case: those that are asked, the best of them first, then the others."""
        ready = frozenset((name, health.model) for name, health in self._gateway.health() if health.state == "ready")
        chosen = chosen_offers(rows)
        places: dict[str, list[Place]] = {}
        asked: set[int] = set()
        for provider, card in self._gateway.seats():
            offer = chosen.get((provider.name, card.id))
            asked.add(id(offer))
            place = Place(card, rows.find(card.id), offer, True, (provider.name, card.id) in ready)
            places.setdefault(card.id.casefold(), []).append(place)
        for found in places.values():
            found.sort(key=_rank)
        for offer in rows.offers:
            if id(offer) not in asked and (place_ := _unasked(offer, rows, is_chosen=offer in chosen.values())):
                places.setdefault(offer.model.casefold(), []).append(place_)
        for row in rows.models.values():
            places.setdefault(row.id.casefold(), [Place(_card(row), row, None, False, False, _NOT_INSTALLED)])
        return places

    def _entry(self, places: Sequence[Place]) -> dict[str, Any]:
        first = places[0]
        asked = [place.card.provider for place in places if place.is_enabled]
        names = list(dict.fromkeys(asked or [place.card.provider for place in places]))
        return entry_of(first, names, self._supported(first.card), self._figures(first))

    def _endpoint(self, place: Place, rows: Rows) -> dict[str, Any]:
        return endpoint_of(place, rows, self._supported(place.card), self._figures(place))

    def _figures(self, place: Place) -> Mapping[str, Any]:
        return self._statistics(place.card.provider, place.card.id) if place.is_enabled else _NOTHING

    def _supported(self, card: ModelCard) -> list[str]:
        abilities = (*card.modalities, *card.features)
        return sorted(
            name
            for name, parameter in self._parameters.items()
            if not parameter.gap
            and parameter.needs in abilities
            and name not in _UNREMARKABLE
            and (card.parameters is None or name in card.parameters)
        )

    def _matches(self, entry: dict[str, Any], wanted: dict[str, str]) -> bool:
        for name, value in wanted.items():
            text = value.casefold()
            match name:
                case "supported_parameters":
                    is_match = all(part.strip() in entry["supported_parameters"] for part in text.split(","))
                case "model":
                    is_match = text in (entry["id"].casefold(), *(alias.casefold() for alias in entry["aliases"]))
                case "q":
                    is_match = text in f"{entry['id']} {entry['name']} {entry['description']}".casefold()
                case _:
                    is_match = entry[name].casefold() == text
            if not is_match:
                return False
        return True


def _named(name: str, gateway: Gateway, rows: Rows) -> tuple[str, str]:
    """The id of a model, and the provider that the name asks for, if it does. Raises ModelNotFound."""
    try:
        card = gateway.resolve(name).card
    except ModelNotFound:
        row = rows.find(name)
        if row is None:
            raise
        return row.id, ""
    wanted = name.casefold()
    is_of_one = wanted.startswith(f"{card.provider.casefold()}/") and wanted != card.id.casefold()
    return card.id, card.provider if is_of_one else ""


def _rank(place: Place) -> tuple[bool, bool, int]:
    price = place.card.price
    return (not place.is_ready, not price.is_known, price.prompt + price.completion)


def _unasked(offer: Offer, rows: Rows, *, is_chosen: bool) -> Place | None:
    """An offer that no provider has a seat for."""
    card = card_of(rows, offer)
    if card is None:
        return None
    reason = rows.inactive.get(offer.provider, "")
    if not reason and not offer.is_available:
        reason = "the provider no longer lists it"
    if not reason:
        reason = "it is about to be served" if is_chosen else _OTHER_OFFER
    return Place(_described(card, rows), rows.models.get(offer.model), offer, False, False, reason)


def _described(card: ModelCard, rows: Rows) -> ModelCard:
    row = rows.models.get(card.id)
    return structs.replace(card, name=row.name, author=row.author) if row else card


def _card(row: ModelRow) -> ModelCard:
    """Of a model that nobody offers."""
    return ModelCard(
        id=row.id,
        aliases=row.names[1:],
        author=row.author,
        name=row.name,
        context_length=row.context_length,
        max_output_tokens=row.context_length,
        modalities=row.input_modalities,
        license=row.license,
        architecture=row.architecture,
    )
