"""Entries of the lists of those who serve models for money, as offers. Sans-IO; raises ValueError for what makes no
sense.

The fields and their units are those of the providers' own documentation; tests/contracts has each with its source.
"""

from __future__ import annotations

from msgspec import structs

from hodios.providers.catalog_rows import Offer
from hodios.providers.listing_entries import Around, Entry, offer_of, price_of, with_features
from hodios.providers.listing_values import (
    NOVITA_UNIT,
    PER_MILLION,
    PER_TOKEN,
    decimal,
    flag,
    label,
    name,
    shown,
    table,
    tokens,
    words,
)
from hodios.remotes import STANDARD_PARAMETERS, RemoteFeature
from hodios.types import Price

_CHAT_TYPES = ("chat", "language", "code")
_APIPIE_TYPES = ("llm", "vision", "coding", "free")
_MOST_LATENCY = 100
_APIPIE_SIZES = 6
"""Prompts of 2000, 4000, 8000, 16000, 32000 and more characters; then all of them together."""
_OPENROUTER_PARAMETERS = frozenset((*STANDARD_PARAMETERS, "top_k", "min_p", "repetition_penalty"))
_OPENROUTER_FEATURES: tuple[tuple[str, RemoteFeature], ...] = (
    ("tools", "tools"),
    ("response_format", "json_object"),
    ("structured_outputs", "json_schema"),
)


def openrouter(entry: Entry, around: Around) -> Offer | None:
    """Dollars per token, in strings."""
    architecture, top = table(entry.get("architecture")), table(entry.get("top_provider"))
    outputs, inputs = words(architecture.get("output_modalities")), words(architecture.get("input_modalities"))
    if outputs is not None and "text" not in outputs:
        return None
    pricing = table(entry.get("pricing"))
    offer = offer_of(
        name(entry.get("id")),
        (tokens(entry.get("context_length")), tokens(top.get("context_length"))),
        tokens(top.get("max_completion_tokens")),
        price_of(pricing, ("prompt", "completion", "input_cache_read"), PER_TOKEN, request=pricing.get("request")),
    )
    supported = words(entry.get("supported_parameters"))
    if supported is None:
        return offer
    features: list[RemoteFeature] = [feature for told, feature in _OPENROUTER_FEATURES if told in supported]
    if "image" in (inputs or ()):
        features.append("vision")
    parameters = (*(told for told in supported if told in _OPENROUTER_PARAMETERS), "user")
    return structs.replace(
        offer,
        features=tuple(feature for feature in features if feature in around.native),
        parameters=tuple(dict.fromkeys(parameters)),
    )


def together(entry: Entry, around: Around) -> Offer | None:
    """Dollars per million tokens. 0 stands for models that are only rented by the hour, too."""
    id = name(entry.get("id"))
    if entry.get("type") not in (None, *_CHAT_TYPES):
        return None
    amount = price_of(table(entry.get("pricing")), ("input", "output", "cached_input"), PER_MILLION)
    if not (amount.prompt or amount.completion) and not id.casefold().endswith("-free"):
        raise ValueError("it has no price per token")
    return offer_of(id, (tokens(entry.get("context_length")),), None, amount)


def deepinfra(entry: Entry, around: Around) -> Offer | None:
    """Dollars per million tokens. What is priced otherwise writes no text."""
    id = name(entry.get("id"))
    metadata = table(entry.get("metadata"))
    pricing = table(metadata.get("pricing"))
    if pricing and not {"input_tokens", "output_tokens"} & set(pricing):
        return None
    return offer_of(
        id,
        (tokens(metadata.get("context_length")),),
        tokens(metadata.get("max_tokens")),
        price_of(pricing, ("input_tokens", "output_tokens", "cache_read_tokens"), PER_MILLION),
    )


def novita(entry: Entry, around: Around) -> Offer | None:
    """Ten-thousandths of a dollar per million tokens."""
    if entry.get("model_type") not in (None, "", "chat"):
        return None
    cached = table(table(entry.get("pricing")).get("input_cache_read")).get("price_per_m")
    prices = {**entry, "cached": cached}
    told, inputs = words(entry.get("features")), words(entry.get("input_modalities"))
    lacking: set[RemoteFeature] = set()
    if "function-calling" not in (told or ()):
        lacking.add("tools")
    if "structured-outputs" not in (told or ()):
        lacking |= {"json_object", "json_schema"}
    if inputs is not None and "image" not in inputs:
        lacking.add("vision")
    offer = offer_of(
        name(entry.get("id")),
        (tokens(entry.get("context_size")),),
        tokens(entry.get("max_output_tokens")),
        price_of(prices, ("input_token_price_per_m", "output_token_price_per_m", "cached"), NOVITA_UNIT),
    )
    return offer if told is None else with_features(offer, around, lacking)


def apipie(entry: Entry, around: Around) -> Offer | None:
    """Dollars per `price_unit` tokens, in strings. One entry for each host that it asks."""
    if entry.get("type") not in (None, *_APIPIE_TYPES):
        return None
    offer = offer_of(
        name(entry.get("model")),
        (tokens(entry.get("max_tokens")),),
        tokens(entry.get("max_response_tokens")),
        _apipie_price(entry),
    )
    is_available = flag(entry.get("enabled")) and flag(entry.get("available"))
    return structs.replace(offer, via=label(entry.get("provider")), is_available=is_available)


def _apipie_price(entry: Entry) -> Price | None:
    kind = entry.get("price_type")
    if kind == "provider":
        # Whoever answers says afterwards what it cost.
        return None
    if kind not in (None, "token", "tokens"):
        raise ValueError(f"its price is per {shown(kind)}, not per token")
    unit = entry.get("price_unit")
    num_tokens = decimal(1 if unit in (None, "") else unit)
    if not 1 <= num_tokens <= 10**6:
        raise ValueError(f"its price is per {shown(unit)} tokens")
    per_token = {key: decimal(entry.get(key)) / num_tokens for key in ("req_price", "res_price")}
    return price_of(per_token, ("req_price", "res_price", ""), PER_TOKEN)


def apipie_latency(entry: Entry) -> tuple[int | None, ...] | None:
    """Milliseconds by the size of the prompt, as in "1162/2145/6245/8234/18456/8162"."""
    parts = str(entry.get("latency") or "")[:_MOST_LATENCY].split("/")
    times = tuple(int(part) if part.isascii() and part.isdecimal() else None for part in parts)
    return times if len(times) == _APIPIE_SIZES and any(time is not None for time in times) else None


def ids_only(entry: Entry, around: Around) -> Offer | None:
    return Offer(id=name(entry.get("id")))
