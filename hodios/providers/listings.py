"""What providers list on their models routes, as offers: which route each kind of list has, and who reads it. Sans-IO.

What is wrong with one model is told of that model alone. Asks nobody; knows neither the catalog nor what was listed
before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from hodios.providers import listing_hosts as hosts
from hodios.providers import listing_servers as servers
from hodios.providers.catalog_rows import Listing, Offer
from hodios.providers.listing_entries import Around, Ask, Entry
from hodios.providers.listing_values import name, shown, table
from hodios.remotes import RemoteFeature

MOST_MODELS = 20_000


class Refused(Struct, frozen=True):
    """A model whose entry makes no sense."""

    id: str
    reason: str


class Latency(Struct, frozen=True):
    """How long a model's answers take, as its provider measured."""

    id: str
    via: str
    by_size_ms: tuple[int | None, ...]
    """By the characters of the prompt: 2000, 4000, 8000, 16000, 32000 and more; then of all."""


class Reading(Struct, frozen=True, kw_only=True):
    """What a list says."""

    offers: tuple[Offer, ...] = ()
    refused: tuple[Refused, ...] = ()
    num_others: int = 0
    """Models that do not write text."""
    latencies: tuple[Latency, ...] = ()


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of list. `read` gives None for models that do not write text, and raises ValueError."""

    ask: Ask
    read: Callable[[Entry, Around], Offer | None]
    key: str = "data"
    further: Callable[[Sequence[object]], tuple[Ask, ...]] = lambda entries: ()
    """What else is asked; an answer that does not come is done without."""
    latency: Callable[[Entry], tuple[int | None, ...] | None] = lambda entry: None


_MODELS = Ask("/models")
KINDS: Mapping[Listing, Kind] = {
    "openrouter": Kind(ask=_MODELS, read=hosts.openrouter),
    "together": Kind(ask=_MODELS, read=hosts.together),
    "deepinfra": Kind(ask=_MODELS, read=hosts.deepinfra),
    "novita": Kind(ask=_MODELS, read=hosts.novita),
    "302ai": Kind(ask=Ask("/models?llm=1"), read=hosts.ids_only),
    "apipie": Kind(ask=_MODELS, read=hosts.apipie, latency=hosts.apipie_latency),
    "openai": Kind(ask=_MODELS, read=hosts.ids_only),
    "vllm": Kind(ask=_MODELS, read=servers.vllm),
    "llama_server": Kind(ask=_MODELS, read=servers.llama_server, further=lambda entries: (servers.PROPS,)),
    "ollama": Kind(
        ask=Ask("/api/tags", is_at_root=True), read=servers.ollama, key="models", further=servers.ollama_shows
    ),
    "lm_studio": Kind(ask=Ask("/api/v0/models", is_at_root=True), read=servers.lm_studio),
    "hodios": Kind(ask=_MODELS, read=servers.hodios),
}
"""All but "", which has none."""


def entries_of(kind: Listing, document: object) -> list[object]:
    """Raises ValueError for what is no list of models at all."""
    found = document.get(KINDS[kind].key) if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise ValueError(f"its list of models is {shown(document if found is None else found)}")
    if len(found) > MOST_MODELS:
        raise ValueError(f"it lists {len(found)} models; accepted: at most {MOST_MODELS}")
    return found


def read_listing(
    kind: Listing,
    document: object,
    *,
    native: tuple[RemoteFeature, ...] = (),
    answers: Mapping[Ask, Any] | None = None,
) -> Reading:
    """Raises ValueError for what is no list of models at all. Of an id that is there twice the first counts."""
    entries = entries_of(kind, document)
    by_id = {entry["id"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)}
    around = Around(native=native, entries=entries, by_id=by_id, answers=answers or {})
    offers: dict[tuple[str, str], Offer] = {}
    latencies: dict[tuple[str, str], Latency] = {}
    refused: list[Refused] = []
    num_others = 0
    for place, entry in enumerate(entries):
        try:
            offer = KINDS[kind].read(table(entry), around)
            if offer is None:
                num_others += 1
                continue
            key = (offer.id.casefold(), offer.via)
            if offers.setdefault(key, offer) != offer:
                raise ValueError("it is listed twice, and not alike")
        except ValueError as error:
            refused.append(Refused(_id_of(entry, place), str(error)))
            continue
        if (times := KINDS[kind].latency(table(entry))) is not None:
            latencies[key] = Latency(offer.id, offer.via, times)
    return Reading(
        offers=tuple(offers.values()),
        refused=tuple(refused),
        num_others=num_others,
        latencies=tuple(latencies.values()),
    )


def _id_of(entry: object, place: int) -> str:
    fields = entry if isinstance(entry, dict) else {}
    for key in ("id", "model", "name"):
        try:
            return name(fields.get(key))
        except ValueError:
            continue
    return f"entry {place + 1}"
