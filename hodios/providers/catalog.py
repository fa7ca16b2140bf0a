"""The catalog: who serves which model, at what price, and what is told of it. Immutable; every change makes a new one.

Made of rows (`catalog_rows`), of what the settings say, and of what providers list at the moment. Reads files, asks
nobody, and holds no keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, structs

from hodios.errors import ConfigError
from hodios.providers.catalog_rows import ModelRow, Offer, ProviderRow, Row, SeriesRow, read_row
from hodios.remotes import ANY_MODEL, ProviderModel, ProviderSettings
from hodios.types import UNKNOWN_PRICE, Price

KeyOf = Callable[[str], str | None]
"""What a variable of the environment holds; None where it is no key."""
_OVERRIDES = (
    *("base_url", "api_key_env", "is_streaming", "parameters", "features", "has_unlisted"),
    *("connect_timeout_s", "first_byte_timeout_s", "silence_timeout_s"),
)
"""Fields that the settings have under the same names."""
_ANY_KIND = "openai_compatible"
"""What a provider is taken for that the settings name and no row describes."""
_TOLD_LIVE = ("context_length", "max_output_tokens", "price", "quantization", "parameters", "features", "as_of")
"""Fields of offers that a provider's own list knows better."""


class Rows(Struct, frozen=True):
    """What the files say, by the names in them."""

    providers: Mapping[str, ProviderRow]
    models: Mapping[str, ModelRow]
    series: Mapping[str, SeriesRow]


class Catalog(Struct, frozen=True, kw_only=True):
    """One version of it."""

    version: int
    """Grows with every change."""
    providers: Mapping[str, ProviderRow]
    """As the settings have them."""
    models: Mapping[str, ModelRow]
    """Without their offers."""
    series: Mapping[str, SeriesRow]
    offers: tuple[Offer, ...]
    """All of them, each with its provider and its model. A model that only its provider knows has no row."""
    inactive: Mapping[str, str]
    """Why providers are not asked, by their names."""
    added: Mapping[str, ProviderModel]
    """Models of the settings by their ids, for what the catalog does not know of them."""
    names: Mapping[str, ModelRow]
    """Models by everything that they may be called, in lower case."""

    def find(self, name: str) -> ModelRow | None:
        """By id, alias, hub id, or an id at a provider; upper and lower case alike."""
        return self.names.get(name.casefold())

    def offers_of(self, model: str) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.model == model)

    def is_active(self, provider: str) -> bool:
        return provider in self.providers and provider not in self.inactive

    def price(self, offer: Offer) -> Price:
        """What it costs to use; servers of one's own cost nothing unless the settings say otherwise."""
        if offer.price is not None:
            return offer.price
        row = self.providers.get(offer.provider)
        return UNKNOWN_PRICE if row is None or row.is_hosted else Price()


def shipped_folder() -> Path:
    return Path(str(resources.files("hodios"))) / "catalog"


def read_rows(folders: Sequence[Path]) -> Rows:
    """The rows of all folders; of the same name the last one counts. Raises ConfigError with all that is wrong."""
    problems: list[str] = []
    providers = _by_name(_read(folders, "providers", ProviderRow, problems))
    series = _by_name(_read(folders, "series", SeriesRow, problems))
    models: dict[str, ModelRow] = {}
    for model in _read(folders, "models", ModelRow, problems):
        same = next((id for id in models if id.casefold() == model.id.casefold()), model.id)
        models.pop(same, None)
        models[model.id] = model
    if not problems:
        problems = _contradictions(providers, models, series)
    if problems:
        raise ConfigError("\n".join(problems))
    return Rows(MappingProxyType(providers), MappingProxyType(models), MappingProxyType(series))


def row_files(folders: Iterable[Path]) -> list[Path]:
    """Every file that is read, in order."""
    return [
        path
        for folder in folders
        for kind in ("providers", "models", "series")
        for path in sorted((folder / kind).glob("*.toml"))
    ]


def _read(folders: Sequence[Path], kind: str, row: type[Row], problems: list[str]) -> list[Row]:
    found = []
    for path in row_files(folders):
        if path.parent.name != kind:
            continue
        try:
            found.append(read_row(path.read_bytes(), row, str(path)))
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}.")
        except ConfigError as error:
            problems.append(str(error))
    return found


def _by_name(rows: Iterable[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def _contradictions(
    providers: Mapping[str, ProviderRow], models: Mapping[str, ModelRow], series: Mapping[str, SeriesRow]
) -> list[str]:
    """What no row alone can know."""
    problems = []
    owners: dict[str, str] = {}
    for model in models.values():
        if model.series and model.series not in series:
            problems.append(f"The model {model.id} is of the series {model.series!r}, which there is not.")
        for offer in model.offers:
            if offer.provider not in providers:
                problems.append(
                    f"The model {model.id} has an offer of {offer.provider!r}, which there is not. "
                    f"There are {', '.join(sorted(providers))}."
                )
        for name in {name.casefold() for name in model.names}:
            if owners.setdefault(name, model.id) != model.id:
                problems.append(f"Both {owners[name]} and {model.id} are called {name!r}. Rename one of them.")
    for provider in providers.values():
        problems += [
            f"The provider {provider.name} offers the model {offer.model!r}, which there is not."
            for offer in provider.offers
            if offer.model not in models
        ]
    return problems


def make_catalog(
    rows: Rows,
    settings: Sequence[ProviderSettings],
    live: Mapping[str, Sequence[Offer]],
    key_of: KeyOf,
    *,
    version: int,
    taken: frozenset[str] = frozenset(),
) -> Catalog:
    """`live`: all that providers list at the moment, by their names. `taken`: names that other servers already have."""
    sections = {section.name: section for section in settings}
    providers, inactive = _providers(rows, sections)
    for name, row in providers.items():
        reason = _reason(row, key_of, name in taken)
        if reason:
            inactive.setdefault(name, reason)
    models = {model.id: structs.replace(model, offers=()) for model in rows.models.values()}
    added = {model.id: model for section in settings for model in section.models}
    names = _names(models, rows)
    offers = _offers(rows, providers, sections, names)
    offers = _with_live(offers, live, providers, names)
    return Catalog(
        version=version,
        providers=MappingProxyType(providers),
        models=MappingProxyType(models),
        series=rows.series,
        offers=tuple(_with_prices(offers, sections, models)),
        inactive=MappingProxyType(inactive),
        added=MappingProxyType(added),
        names=MappingProxyType(names),
    )


def _providers(rows: Rows, sections: Mapping[str, ProviderSettings]) -> tuple[dict[str, ProviderRow], dict[str, str]]:
    """(rows as the settings have them, why some of the settings' are none)"""
    providers = dict(rows.providers)
    inactive = {}
    for name, section in sections.items():
        if name == "local":
            continue
        kind = section.kind or (name if name in rows.providers else _ANY_KIND)
        row = rows.providers.get(kind)
        if row is None:
            inactive[name] = f"there is no kind of provider {kind!r}; there are {', '.join(sorted(rows.providers))}"
            row = ProviderRow(name=name, title=name, is_hosted=False)
        providers[name] = _overridden(row, section, is_own=name in rows.providers and kind == name)
    return providers, inactive


def _overridden(row: ProviderRow, section: ProviderSettings, *, is_own: bool) -> ProviderRow:
    given = {field: value for field in _OVERRIDES if (value := getattr(section, field)) is not None}
    if section.enabled is not None:
        given["is_enabled"] = section.enabled
    if section.dialect is not None:
        given["dialects"] = (section.dialect, *(dialect for dialect in row.dialects if dialect != section.dialect))
    if section.collects_data is not None:
        given["data_policy"] = structs.replace(row.data_policy, collects=section.collects_data)
    if not is_own:
        given |= {"name": section.name, "title": section.name, "offers": ()}
    return structs.replace(row, **given)


def _reason(row: ProviderRow, key_of: KeyOf, is_taken: bool) -> str:
    """Why a provider is not asked; "" where it is."""
    if is_taken:
        return f"the settings have another server by this name, [remote.{row.name}]"
    if row.is_enabled is False:
        return "the settings do not enable it"
    if not row.base_url:
        return f"its address is not set: [providers.{row.name}] base_url"
    if row.api_key_env is not None and key_of(row.api_key_env) is None:
        return f"{row.api_key_env} holds no key"
    if row.api_key_env is None and row.is_hosted and row.is_enabled is None:
        return f"it has no key: name its variable, or set [providers.{row.name}] enabled = true"
    return ""


def _names(models: Mapping[str, ModelRow], rows: Rows) -> dict[str, ModelRow]:
    names = {name.casefold(): model for model in models.values() for name in model.names}
    for model in rows.models.values():
        for offer in model.offers:
            names.setdefault(offer.id.casefold(), models[model.id])
    for provider in rows.providers.values():
        for offer in provider.offers:
            names.setdefault(offer.id.casefold(), models[offer.model])
    return names


def _offers(
    rows: Rows,
    providers: Mapping[str, ProviderRow],
    sections: Mapping[str, ProviderSettings],
    names: Mapping[str, ModelRow],
) -> list[Offer]:
    """Of files and settings; the settings' come first and stand for those of the same model at the same provider."""
    found = []
    for name, section in sections.items():
        found += [_offer_of(name, model, names) for model in section.models]
    said = {(offer.provider, offer.model) for offer in found}
    found += [
        structs.replace(offer, model=model.id)
        for model in rows.models.values()
        for offer in model.offers
        if (offer.provider, model.id) not in said
    ]
    for row in providers.values():
        found += [
            structs.replace(offer, provider=row.name) for offer in row.offers if (row.name, offer.model) not in said
        ]
    return found


def _offer_of(provider: str, model: ProviderModel, names: Mapping[str, ModelRow]) -> Offer:
    known = names.get(model.id.casefold())
    return Offer(
        provider=provider,
        model=known.id if known else model.id,
        id=model.upstream_id or model.id,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        features=model.features,
        parameters=model.parameters,
        dialect=model.dialect,
        price=model.price,
        price_source="settings" if model.price else "catalog",
        quantization=model.quantization,
        source="settings",
    )


def _with_live(
    offers: Iterable[Offer],
    live: Mapping[str, Sequence[Offer]],
    providers: Mapping[str, ProviderRow],
    names: Mapping[str, ModelRow],
) -> list[Offer]:
    """With what providers list: better numbers, offers that are gone, and new ones."""
    listed = {name: {_key(offer): offer for offer in found} for name, found in live.items()}
    merged = []
    for offer in offers:
        if offer.provider in listed:
            offer = _merged(offer, listed[offer.provider].pop(_key(offer), None))
        merged.append(offer)
    served = {(offer.provider, offer.model) for offer in merged if offer.is_available}
    for name, found in listed.items():
        for offer in found.values():
            known = names.get((offer.model or offer.id).casefold())
            row = providers.get(name)
            model = known.id if known else offer.id
            if row is None or (name, model) in served or not (known or row.has_unlisted):
                continue
            merged.append(structs.replace(offer, provider=name, model=model, price_source="live"))
    return merged


def _key(offer: Offer) -> tuple[str, str]:
    return (offer.id.casefold(), offer.via)


def _merged(offer: Offer, live: Offer | None) -> Offer:
    if live is None:
        return structs.replace(offer, is_available=False)
    told = {field: value for field in _TOLD_LIVE if (value := getattr(live, field)) not in (None, "")}
    if offer.price_source == "settings":
        told.pop("price", None)
    elif "price" in told:
        told["price_source"] = "live"
    return structs.replace(offer, is_available=live.is_available, **told)


def _with_prices(
    offers: Iterable[Offer], sections: Mapping[str, ProviderSettings], models: Mapping[str, ModelRow]
) -> Iterable[Offer]:
    for offer in offers:
        section = sections.get(offer.provider)
        names = models[offer.model].names if offer.model in models else (offer.model,)
        price = manual_price(section, *names, offer.id) if section else None
        yield offer if price is None else structs.replace(offer, price=price, price_source="settings")


def manual_price(section: ProviderSettings, *names: str) -> Price | None:
    """What the settings say that a model of this provider costs, under any of its names."""
    prices = {model.casefold(): price for model, price in section.prices.items()}
    for name in (*names, ANY_MODEL):
        if name.casefold() in prices:
            return prices[name.casefold()]
    return None
