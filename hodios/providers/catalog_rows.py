"""The rows of the catalog as their files have them, one TOML file each: providers, models, and series of models.

Refuses files that say anything else, with the file, the field, the value and what is accepted. Knows nothing of keys,
settings and what a provider offers at this moment.
"""

from __future__ import annotations

import datetime
import difflib
import re
import tomllib
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from hodios.config import KEY_ENDINGS
from hodios.dialog.families import FAMILIES
from hodios.errors import ConfigError
from hodios.remotes import (
    STANDARD_PARAMETERS,
    Dialect,
    LoadGauges,
    Prefill,
    Quirk,
    RemoteFeature,
    check_ranges,
    check_url,
    read_price,
)
from hodios.types import Modality, Price, Range

Listing = (
    Literal["", "openrouter", "together", "deepinfra", "novita", "302ai", "apipie", "openai"]
    | Literal["vllm", "llama_server", "ollama", "lm_studio", "hodios"]
)
"""Whose units and names of fields the provider's models route has; "": there is none."""
ModelType = Literal["llm", "vision", "embedding", "image", "voice", "moderation", "coding", "free"]
"""As APIpie tells models apart."""
PriceSource = Literal["catalog", "live", "settings"]

_MOST_BYTES = 1 << 20
_Text = Annotated[str, Meta(min_length=1)]
_Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]*$")]
_Variable = Annotated[str, Meta(pattern=f"^[A-Za-z_][A-Za-z0-9_]*({'|'.join(KEY_ENDINGS)})$")]
_Repository = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)?$")]
_Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class _Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Offer(_Row, frozen=True, kw_only=True):
    """A model at a provider. In a model's file it names the provider, in a provider's file the model."""

    id: _Text
    """As the provider calls the model."""
    provider: str = ""
    model: str = ""
    via: str = ""
    """Whom the provider asks in turn, where it says so."""
    context_length: _Count | None = None
    """As the provider says; None: as the model's architecture has it."""
    max_output_tokens: _Count | None = None
    price: Price | None = None
    price_source: PriceSource = "catalog"
    quantization: str = ""
    features: tuple[RemoteFeature, ...] | None = None
    """What is native for this model here; None: the provider's, as far as the model can."""
    parameters: tuple[_Text, ...] | None = None
    dialect: Dialect | None = None
    configuration: tuple[_Text, ...] = ()
    """What can be set on the provider's own page of the model."""
    is_available: bool = msgspec.field(name="available", default=True)
    """Whether the provider's models route still has it, as far as it was asked."""
    as_of: datetime.date | None = None
    """The newest date on the page that printed it."""
    source: str = ""
    note: str = ""


class DataPolicy(_Row, frozen=True, kw_only=True):
    """What becomes of what a provider is sent."""

    collects: bool | None = None
    """Whether it may be kept or trained on; None: not known, which counts as true."""
    note: str = ""
    source: str = ""


class ProviderRow(_Row, frozen=True, kw_only=True):
    """Whoever serves models over OpenAI's protocol. `catalog/providers/NAME.toml`."""

    name: _Name
    title: _Text
    is_hosted: bool = msgspec.field(name="hosted")
    """Whether others run it, for money; else it is a kind of server that one runs oneself."""
    description: str = ""
    website: str = ""
    base_url: str = ""
    """"" for servers of one's own, which the settings place."""
    usual_url: str = ""
    """Where a server of this kind listens if nobody says otherwise."""
    api_key_env: _Variable | None = None
    is_enabled: bool | None = msgspec.field(name="enabled", default=None)
    dialects: tuple[Dialect, ...] = ("chat",)
    """The first is what it is asked in."""
    is_streaming: bool = msgspec.field(name="stream", default=True)
    prefill: Prefill = ""
    listing: Listing = "openai"
    has_unlisted: bool = msgspec.field(name="unlisted", default=False)
    """Whether models are served too that it lists and the catalog does not know."""
    features: tuple[RemoteFeature, ...] = ()
    parameters: tuple[_Text, ...] = STANDARD_PARAMETERS
    ranges: dict[str, Range] = {}
    quirks: tuple[Quirk, ...] = ()
    data_policy: DataPolicy = DataPolicy()
    load: LoadGauges | None = None
    """None: it does not tell how busy it is."""
    connect_timeout_s: _Seconds = 10.0
    first_byte_timeout_s: _Seconds = 120.0
    silence_timeout_s: _Seconds = 60.0
    offers: tuple[Offer, ...] = ()
    sources: dict[str, str] = {}
    """Where fields come from, by their names."""

    @property
    def collects_data(self) -> bool:
        return self.data_policy.collects is not False


class Result(_Row, frozen=True, kw_only=True):
    """One number of a benchmark."""

    task: _Text
    metric: str = ""
    value: Decimal
    standard_error: Decimal | None = None
    version: int | None = None
    category: str = ""
    num_shots: int | None = None
    others: dict[str, Decimal] = {}
    """What the same table says of other models."""


class Benchmark(_Row, frozen=True, kw_only=True):
    """One table."""

    name: _Text
    results: tuple[Result, ...]
    average: Decimal | None = None
    note: str = ""
    source: str = ""


class Section(_Row, frozen=True, kw_only=True):
    """A part of the provider's page of a model."""

    title: _Text
    text: _Text


class Card(_Row, frozen=True, kw_only=True):
    """What is told of a model."""

    description: str = ""
    developer: str = ""
    credits: str = ""
    released: str = ""
    languages: tuple[_Text, ...] = ()
    training_data: str = ""
    num_training_tokens: str = ""
    knowledge_cutoff: str = ""
    intended_use: str = ""
    excluded_use: str = ""
    links: dict[str, str] = {}
    sections: tuple[Section, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()
    source: str = ""


class Hub(_Row, frozen=True, kw_only=True):
    """Repositories on the model hub."""

    safetensors: _Repository = ""
    gguf: tuple[_Repository, ...] = ()
    """The best one first."""


class ModelRow(_Row, frozen=True, kw_only=True):
    """A model, whoever serves it. `catalog/models/….toml`."""

    id: _Text
    """`author/name`, as on the hub."""
    name: _Text
    author: _Text
    aliases: tuple[_Text, ...] = ()
    type: ModelType = "llm"
    subtype: str = "chat"
    series: str = ""
    family: _Text
    context_length: _Count
    """Of the architecture; what a provider offers may be less, or more."""
    architecture: str = ""
    num_parameters: str = ""
    input_modalities: tuple[Modality, ...] = ("text",)
    output_modalities: tuple[Modality, ...] = ("text",)
    license: str = ""
    license_url: str = ""
    has_open_weights: bool = msgspec.field(name="open_weights", default=False)
    has_tools: bool = msgspec.field(name="tools", default=False)
    """Whether it was trained to call tools."""
    hub: Hub = Hub()
    card: Card = Card()
    offers: tuple[Offer, ...] = ()
    sources: dict[str, str] = {}
    """Where fields come from, by their names."""

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that may be asked for and means this model alone."""
        return (self.id, *self.aliases, *((self.hub.safetensors,) if self.hub.safetensors else ()), *self.hub.gguf)


class SeriesRow(_Row, frozen=True, kw_only=True):
    """What is told of several models together. `catalog/series/NAME.toml`."""

    name: _Name
    title: _Text
    card: Card


Row = TypeVar("Row", ProviderRow, ModelRow, SeriesRow)


def read_row(data: bytes, kind: type[Row], origin: str) -> Row:
    """Raises ConfigError, which begins with `origin` and shows no value that may be a secret."""
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{origin} has {len(data)} bytes; accepted: at most {_MOST_BYTES}.")
    try:
        document = tomllib.loads(data.decode(), parse_float=Decimal)
    except RecursionError:
        raise ConfigError(f"{origin} cannot be read as TOML: it is nested too deeply.") from None
    except ValueError as error:
        raise ConfigError(f"{origin} cannot be read as TOML: {error}.") from None
    _read_prices(document, origin)
    try:
        row = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_complaint(str(error), document, kind)}") from None
    _check_numbers(document, origin, "")
    if isinstance(row, ProviderRow):
        _check_provider(row, origin)
    elif isinstance(row, ModelRow):
        _check_model(row, origin)
    return row


def _read_prices(document: dict[str, Any], origin: str) -> None:
    """Turns dollars into what `Price` holds."""
    offers = document.get("offers")
    for place, offer in enumerate(offers if isinstance(offers, list) else ()):
        if not isinstance(offer, dict) or "price" not in offer:
            continue
        try:
            offer["price"] = msgspec.to_builtins(read_price(offer["price"]))
        except ValueError as error:
            raise ConfigError(f"{origin}: offers[{place}].price is not accepted: {error}.") from None


def _check_numbers(value: object, origin: str, path: str) -> None:
    if isinstance(value, Decimal) and not value.is_finite():
        raise ConfigError(f"{origin}: {path} = {value} is not accepted: expected a finite number.")
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        _check_numbers(entry, origin, f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".removeprefix("."))


def _check_provider(row: ProviderRow, origin: str) -> None:
    if row.name in ("local", "echo"):
        raise ConfigError(f"{origin}: name = {row.name!r} is that of a provider of Hodios itself. Choose another one.")
    for field in ("base_url", "usual_url"):
        if url := getattr(row, field):
            check_url(f"{origin}: {field}", url)
    check_ranges(f"{origin}: ranges", row.ranges)
    if not row.dialects:
        raise ConfigError(f"{origin}: dialects is empty; accepted: {', '.join(get_args(Dialect))}.")
    for place, offer in enumerate(row.offers):
        if not offer.model or offer.provider not in ("", row.name):
            raise ConfigError(f"{origin}: offers[{place}] must name its model, and no provider but {row.name}.")


def _check_model(row: ModelRow, origin: str) -> None:
    if row.family not in FAMILIES:
        nearest = difflib.get_close_matches(row.family, FAMILIES, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"{origin}: family = {row.family!r} is not accepted. Did you mean {nearest}? "
            f"There are {', '.join(FAMILIES)}."
        )
    for place, offer in enumerate(row.offers):
        if not offer.provider or offer.model not in ("", row.id):
            raise ConfigError(f"{origin}: offers[{place}] must name its provider, and no model but {row.id}.")


def _complaint(told: str, document: dict[str, Any], kind: type[Struct]) -> str:
    """What msgspec says (`Expected …, got … - at `$.offers[0].id``), with the value and what is accepted."""
    what, _, where = told.partition(" - at `")
    path = where.removesuffix("`").removeprefix("$").removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        known = sorted(_fields(kind, path))
        nearest = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.0)[0]
        full = f"{path}.{unknown[1]}".removeprefix(".")
        return f"{full} is not known. Did you mean {nearest}? There are {', '.join(known)}."
    value = _value(path, document)
    written = str(value) if isinstance(value, Decimal) else repr(value)
    shown = f" = {written:.80}" if value is not None and "key" not in path and "url" not in path else ""
    return f"{path or 'it'}{shown} is not accepted: {what[:1].lower()}{what[1:]}."


def _steps(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+|\[[^\]]*\]", path)


def _value(path: str, document: Any) -> object:
    """None for tables, and where the path names no single value."""
    for step in _steps(path):
        key: Any = int(step[1:-1]) if re.fullmatch(r"\[\d+\]", step) else step
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return None if isinstance(document, dict) else document


def _fields(kind: Any, path: str) -> set[str]:
    """Names of the fields of what `path` leads to."""
    for step in _steps(path):
        if not step.startswith("["):
            field = next(field for field in msgspec.structs.fields(kind) if field.encode_name == step)
            kind = next(inner for inner in _parts(field.type) if isinstance(inner, type) and issubclass(inner, Struct))
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def _parts(hint: Any) -> list[Any]:
    """A type hint and all that it is made of."""
    return [hint, *(inner for argument in get_args(hint) for inner in _parts(argument))]
