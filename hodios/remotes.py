"""Other servers as the settings name them: a section `[remote.NAME]` for each, and in it a row for each model; and what
the settings say of a provider that the catalog knows, in `[providers.NAME]`.

Holds no key, only the name of the variable that has it. Refuses what it does not know, and names the nearest valid key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from hodios.errors import ConfigError
from hodios.money import dollars, nanodollars
from hodios.types import Price, Range

RemoteFeature = Literal["tools", "json_object", "json_schema", "regex", "grammar", "vision", "logprobs", "documents"]
Dialect = Literal["chat", "completions"]
Prefill = Literal["", "assistant", "continue_final_message"]
"""How a chat is told to go on with an assistant's last message: not at all; by that message alone; by vLLM's parameters
`continue_final_message: true` and `add_generation_prompt: false`."""
Quirk = Literal[
    "requires_max_tokens",
    "bills_after_disconnect",
    "answers_completions_as_chat",
    "has_no_top_logprobs",
    "has_chat_shaped_logprobs",
    "takes_one_prompt",
    "says_repeat_penalty",
]
"""Where a server differs from OpenAI's: a chat needs `max_tokens`; an answer that nobody waits for is charged all the
same; `/completions` becomes a chat; `logprobs` without `top_logprobs`; `/completions` has the log-probabilities of
chats; `/completions` takes one prompt, no list; `repetition_penalty` is `repeat_penalty`."""

STANDARD_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "user",
)
"""What a server that speaks OpenAI's protocol is taken to honour where its section does not say."""

_Text = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[float, Meta(gt=0, le=3600)]
_Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]*$")]
_Variable = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
_Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Path = Annotated[str, Meta(pattern="^/[!-~]*$")]
_Gauge = Annotated[str, Meta(pattern="^[A-Za-z_:][A-Za-z0-9_:]*$")]
_Label = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
_LOCAL = "local"
RESERVED_NAMES = (_LOCAL, "echo")
"""Of providers that are part of Hodios."""
ANY_MODEL = "*"
"""Among prices: of every model that has none of its own."""


class LoadGauges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a server tells how busy it is, in Prometheus' text format. Of several names for the same the first that is
    there counts."""

    route: _Path = "/metrics"
    """Beside the version of `base_url`, not below it."""
    running: Annotated[tuple[_Gauge, ...], Meta(min_length=1)]
    """Requests that it works on."""
    waiting: tuple[_Gauge, ...] = ()
    """Requests that it has not begun."""
    cache_usage: tuple[_Gauge, ...] = ()
    """The used share of its KV cache, 0 to 1."""
    model_label: _Label | None = None
    """The label that has the model as the server calls it; None: its gauges are of everything it serves."""
    part_labels: tuple[_Label, ...] = ()
    """Labels whose samples are parts of another one, in which they are empty."""


class RemoteModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model of a remote server."""

    id: _Text
    """As clients ask for it."""
    upstream_id: str = ""
    """As the server calls it; "" where that is the same."""
    aliases: tuple[_Text, ...] = ()
    context_length: _Count
    max_output_tokens: _Count | None = None
    features: tuple[RemoteFeature, ...] = ()
    """What the server honours natively; the rest is emulated where it can be."""
    parameters: tuple[_Text, ...] | None = None
    """Names of request parameters that are honoured; None: the server's."""
    family: str = ""
    """How the model writes calls and, in the completions dialect, what its prompts look like; "": found by its id."""
    dialect: Dialect | None = None
    """None: the server's."""
    price: Price = Price()
    quantization: str = ""
    license: str = ""
    continues: bool = False
    """Whether it can go on with an answer that another server began."""
    is_replica: bool = msgspec.field(name="replica", default=False)
    """Whether it is one of several servers of our own with this model at this price."""


class Remote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One server that others run. `name` is what stands behind `remote.` in the settings."""

    name: _Name
    base_url: _Text
    """With the version and without the route: `https://api.acme.example/v1`."""
    api_key_env: _Variable | None = None
    """The variable that has the key; None: requests go without one."""
    dialect: Dialect = "chat"
    is_streaming: bool = msgspec.field(name="stream", default=True)
    """Whether the server can stream; where not, whole answers are asked for."""
    parameters: tuple[_Text, ...] = STANDARD_PARAMETERS
    ranges: dict[str, Range] = {}
    """What is accepted of single parameters."""
    connect_timeout_s: _Seconds = 10.0
    first_byte_timeout_s: _Seconds = 120.0
    silence_timeout_s: _Seconds = 60.0
    """The longest pause within an answer."""
    has_completions: bool = msgspec.field(name="completions", default=False)
    """Whether a server that is asked in chats has `/completions` too."""
    prefill: Prefill = ""
    quirks: tuple[Quirk, ...] = ()
    collects_data: bool = False
    """Whether it may keep, or train on, what it is sent."""
    load: LoadGauges | None = None
    """None: it does not tell how busy it is."""
    models: tuple[RemoteModel, ...]


class ProviderModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model at a provider, where the catalog does not have it, or has it otherwise. None: as the catalog says."""

    id: _Text
    upstream_id: str = ""
    aliases: tuple[_Text, ...] = ()
    context_length: _Count | None = None
    max_output_tokens: _Count | None = None
    features: tuple[RemoteFeature, ...] | None = None
    parameters: tuple[_Text, ...] | None = None
    family: str = ""
    dialect: Dialect | None = None
    price: Price | None = None
    quantization: str = ""


class ProviderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the settings say of one provider. None: as the catalog says."""

    name: _Name
    kind: str = ""
    """The provider of the catalog that this one is like; "": the one of the same name."""
    enabled: bool | None = None
    """None: where its key is there, or for servers of one's own its address."""
    base_url: _Text | None = None
    api_key_env: _Variable | None = None
    dialect: Dialect | None = None
    is_streaming: bool | None = msgspec.field(name="stream", default=None)
    parameters: tuple[_Text, ...] | None = None
    features: tuple[RemoteFeature, ...] | None = None
    collects_data: bool | None = None
    has_unlisted: bool | None = msgspec.field(name="unlisted", default=None)
    """Whether models are served too that the provider lists and the catalog does not know."""
    connect_timeout_s: _Seconds | None = None
    first_byte_timeout_s: _Seconds | None = None
    silence_timeout_s: _Seconds | None = None
    models: tuple[ProviderModel, ...] = ()
    prices: dict[str, Price] = {}
    """By model id, or `*`. They win over everything that the provider or the catalog says."""


def parse(value: object) -> tuple[Remote, ...]:
    """The table below `[remote]`, or that table as JSON text. Raises ConfigError, which shows no value that may be a
    secret."""
    return tuple(_remote(name, entry) for name, entry in _table(value, "remote").items())


def parse_providers(value: object) -> tuple[ProviderSettings, ...]:
    """The table below `[providers]`, or that table as JSON text. Raises ConfigError, as `parse`."""
    return tuple(_provider(name, entry) for name, entry in _table(value, "providers").items())


def write(remotes: tuple[Remote, ...]) -> str:
    """As JSON that `parse` reads."""
    return _written(remotes)


def write_providers(providers: tuple[ProviderSettings, ...]) -> str:
    """As JSON that `parse_providers` reads."""
    return _written(providers)


def read_price(table: object) -> Price:
    """`{prompt = "0.39", completion = "0.39", cached = …, request = …}`, in dollars per million tokens and dollars per
    request. Raises ValueError."""
    if not isinstance(table, Mapping) or not table or not set(table) <= set(_PRICE_KEYS):
        raise ValueError(f"a price is a table with the keys {', '.join(_PRICE_KEYS)}, in dollars")
    price: Price = msgspec.convert({key: nanodollars(amount) for key, amount in table.items()}, Price)
    return price


def write_price(price: Price) -> dict[str, str]:
    """As `read_price` reads it."""
    amounts = {key: getattr(price, key) for key in _PRICE_KEYS}
    return {key: dollars(amount) for key, amount in amounts.items() if amount is not None}


_PRICE_KEYS = ("prompt", "completion", "cached", "request")
_Section = TypeVar("_Section", Remote, ProviderSettings)
Section = TypeVar("Section", bound=Struct)


def _table(value: object, section: str) -> dict[str, Any]:
    try:
        table = msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError as error:
        raise ConfigError(f"{section} is not JSON: {error}.") from None
    if not isinstance(table, dict):
        raise ConfigError(
            f"{section} must be a section for each server: write [{section}.NAME] and its settings below it."
        )
    return table


def _written(sections: tuple[_Section, ...]) -> str:
    return msgspec.json.encode({section.name: _without_name(section) for section in sections}).decode()


def _without_name(section: _Section) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(section)
    del table["name"]
    if section.models:
        table["models"] = [model_table(model) for model in section.models]
    if isinstance(section, ProviderSettings) and section.prices:
        table["prices"] = {model: write_price(price) for model, price in section.prices.items()}
    return table


def model_table(model: RemoteModel | ProviderModel) -> dict[str, Any]:
    """A model's row as it is read."""
    row: dict[str, Any] = msgspec.to_builtins(model)
    if "price" in row and model.price is not None:
        row["price"] = write_price(model.price)
    return row


def _remote(name: str, entry: Any) -> Remote:
    path = f"remote.{name}"
    remote = read_section(path, entry, Remote, RemoteModel, name=name)
    if remote.name in RESERVED_NAMES:
        raise ConfigError(f"{path}: {remote.name} is the name of a provider of Hodios itself. Choose another one.")
    check_address(path, remote.api_key_env, remote.base_url)
    if not remote.models:
        raise ConfigError(f"{path}.models is empty: name at least one model in [[{path}.models]].")
    check_ranges(f"{path}.ranges", remote.ranges)
    check_models(path, remote.models)
    return remote


def _provider(name: str, entry: Any) -> ProviderSettings:
    path = f"providers.{name}"
    section = read_section(path, entry, ProviderSettings, ProviderModel, name=name)
    if section.name == _LOCAL and section != ProviderSettings(name=_LOCAL, prices=section.prices):
        raise ConfigError(f"{path} can only have prices: {_LOCAL} stands for the models on this machine.")
    if section.name in RESERVED_NAMES and section.name != _LOCAL:
        raise ConfigError(f"{path}: {section.name} is the name of a provider of Hodios itself. Choose another one.")
    check_address(path, section.api_key_env, section.base_url)
    check_models(path, section.models)
    return section


def read_section(
    path: str,
    entry: Any,
    kind: type[Section],
    model_kind: type[RemoteModel] | type[ProviderModel],
    **outer: str,
) -> Section:
    """One table of the settings with its models. `outer`: fields that stand outside of it. Raises ConfigError for what
    the types forbid."""
    _check_keys(path, entry, _keys(kind) - set(outer))
    entry = dict(entry)
    if isinstance(entry.get("models"), list):
        entry["models"] = [
            _model(f"{path}.models[{place}]", row, model_kind) for place, row in enumerate(entry["models"])
        ]
    if isinstance(entry.get("prices"), dict):
        entry["prices"] = {model: _price(f"{path}.prices.{model}", price) for model, price in entry["prices"].items()}
    try:
        return msgspec.convert({**entry, **outer}, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_complaint(path, str(error))) from None


def _model(path: str, row: Any, kind: type[RemoteModel] | type[ProviderModel]) -> dict[str, Any]:
    _check_keys(path, row, _keys(kind))
    return {**row, "price": _price(f"{path}.price", row["price"])} if "price" in row else row


def _price(path: str, table: object) -> dict[str, Any]:
    try:
        price: dict[str, Any] = msgspec.to_builtins(read_price(table))
    except ValueError as error:
        raise ConfigError(f"{path} is not accepted: {error}.") from None
    return price


def _keys(kind: type[Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def _check_keys(path: str, entry: object, known: set[str]) -> None:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path} must be a section with the keys {', '.join(sorted(known))}.")
    for key in entry:
        if key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
            raise ConfigError(f"Unknown setting {path}.{key}. Did you mean {path}.{nearest}?")


def _complaint(path: str, told: str) -> str:
    """What msgspec says (`Expected …, got … - at `$.models[0].id``) as a sentence that names the setting."""
    what, _, where = told.partition(" - at `")
    key = where.removesuffix("`").removeprefix("$")
    return f"{path}{key} is not accepted: {what[:1].lower()}{what[1:]}."


def check_address(path: str, api_key_env: str | None, base_url: str | None) -> None:
    """Raises ConfigError for a variable that cannot hold a key, and as `check_url`."""
    if api_key_env is not None and api_key_env.startswith("HODIOS_"):
        raise ConfigError(
            f"{path}.api_key_env = {api_key_env!r} is not accepted: variables that begin with HODIOS_ are "
            "settings of Hodios. Name another variable."
        )
    if base_url is not None:
        check_url(f"{path}.base_url", base_url)


def check_models(path: str, models: tuple[RemoteModel, ...] | tuple[ProviderModel, ...]) -> None:
    """Raises ConfigError for two models by one name."""
    seen: set[str] = set()
    for number, (id, aliases) in enumerate((model.id, model.aliases) for model in models):
        for name in (id, *aliases):
            if name.casefold() in seen:
                raise ConfigError(f"{path}.models[{number}]: the id {name!r} is there twice. Remove one of them.")
            seen.add(name.casefold())


def check_ranges(path: str, ranges: Mapping[str, Range]) -> None:
    """Raises ConfigError for a range that nothing is within."""
    for name, accepted in ranges.items():
        low, high = accepted.min, accepted.max
        if not all(bound is None or bound.is_finite() for bound in (low, high)):
            raise ConfigError(f"{path}.{name} is not accepted: min and max must be finite numbers.")
        if low is not None and high is not None and (low > high or (low == high and accepted.is_above_min)):
            raise ConfigError(f"{path}.{name} is not accepted: no number lies between min = {low} and max = {high}.")
        if accepted.max_items is not None and accepted.max_items < 1:
            raise ConfigError(f"{path}.{name}.max_items = {accepted.max_items} is not accepted: expected at least 1.")


def check_url(what: str, url: str) -> None:
    """Raises ConfigError for what is no address of a server, and shows none that may have a secret in it."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    else:
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ConfigError(
                f"{what} (not shown) is not accepted: it must be an address alone, without user, password, "
                "query and fragment. A key belongs into the variable that api_key_env names."
            )
    if not is_usable:
        raise ConfigError(f"{what} = {url!r} is not accepted: it must be like https://api.example.org/v1.")
