"""The hard filters: who may not answer a request, and why. Pure."""

from __future__ import annotations

import re

from msgspec import Struct

from hodios.providers.ranges import refusal
from hodios.router.demand import Demand
from hodios.router.seat import Seat
from hodios.types import ModelCard, Price, Routing

_ABILITIES = {
    "tools": "cannot call tools",
    "json_schema": "cannot hold answers to a form",
    "logprobs": "gives no log-probabilities",
    "documents": "takes no documents",
}
_BITS = (
    (re.compile(r"i?q(\d)([_k].*)?"), "int{}"),
    (re.compile(r"(?:f|float)(16|32)"), "fp{}"),
    (re.compile(r"(?:awq|gptq|w4a\d+).*"), "int4"),
)
"""Names of quantizations → the names by which aggregators know them."""


class Exclusion(Struct, frozen=True):
    """Why a seat may not answer."""

    reason: str
    """For people: "costs more than max_price"."""
    param: str
    """The parameter that excludes."""
    is_strict: bool = True
    """False: where nobody is left, the provider is asked all the same and says itself what it cannot do."""


def exclusion(seat: Seat, routing: Routing, demand: Demand) -> Exclusion | None:
    """None where the seat may answer."""
    card = seat.card
    return (
        _by_name(seat.provider.name, routing)
        or _by_terms(card, routing)
        or _by_parameters(card, routing, demand)
        or _by_ability(card, routing, demand)
        or _by_length(card, demand)
    )


def _by_name(name: str, routing: Routing) -> Exclusion | None:
    if routing.only and name not in routing.only:
        return Exclusion("is not among provider.only", "provider.only")
    if name in routing.ignore:
        return Exclusion("is named in provider.ignore", "provider.ignore")
    if routing.order and not routing.allows_fallbacks and name not in routing.order:
        return Exclusion("is not in provider.order, and others may not answer", "provider.order")
    return None


def _by_terms(card: ModelCard, routing: Routing) -> Exclusion | None:
    if routing.quantizations and not names_of(card.quantization) & set(routing.quantizations):
        shown = card.quantization or "unknown"
        return Exclusion(f"has the quantization {shown}", "provider.quantizations")
    if (routing.max_price is not None or routing.is_free) and not card.price.is_known:
        return Exclusion("does not say what it costs", "provider.max_price" if routing.max_price else "model")
    if routing.max_price is not None and not _is_within(card.price, routing.max_price):
        return Exclusion("costs more than max_price", "provider.max_price")
    if routing.is_free and (card.price.prompt or card.price.completion or card.price.request):
        return Exclusion("is not free", "model")
    if card.collects_data and not routing.allows_collection:
        return Exclusion("may keep what it is sent", "provider.data_collection")
    return None


def _by_parameters(card: ModelCard, routing: Routing, demand: Demand) -> Exclusion | None:
    if not routing.requires_parameters or card.parameters is None:
        return None
    missing = sorted(demand.parameters.difference(card.parameters))
    if missing:
        return Exclusion(f"does not honour {', '.join(missing)}", missing[0])
    for name, accepted in card.ranges.items():
        if name in demand.values and (reason := refusal(name, demand.values[name], accepted)):
            return Exclusion(reason, name)
    return None


def _by_ability(card: ModelCard, routing: Routing, demand: Demand) -> Exclusion | None:
    for ability, param in demand.needs.items():
        if ability == "image":
            if "image" not in card.modalities:
                return Exclusion("reads text only", param)
        elif ability not in card.features:
            return Exclusion(_ABILITIES[ability], param, is_strict=routing.requires_parameters)
    return None


def _by_length(card: ModelCard, demand: Demand) -> Exclusion | None:
    num_tokens = demand.num_longest + (demand.max_tokens or 1)
    if num_tokens > card.context_length:
        reason = f"has a context of {card.context_length} tokens; about {num_tokens} are needed"
        return Exclusion(reason, "max_tokens", is_strict=False)
    if demand.max_tokens is not None and demand.max_tokens > card.max_output_tokens:
        return Exclusion(f"writes at most {card.max_output_tokens} tokens", "max_tokens", is_strict=False)
    return None


def _is_within(price: Price, most: Price) -> bool:
    return price.prompt <= most.prompt and price.completion <= most.completion and price.request <= most.request


def names_of(quantization: str) -> set[str]:
    """Under which names a quantization may be asked for: its own, and that of its kind (`Q4_K_M` is `int4` too)."""
    name = quantization.casefold()
    names = {name or "unknown"}
    for pattern, kind in _BITS:
        if match := pattern.fullmatch(name):
            names.add(kind.format(*match.groups()))
    return names
