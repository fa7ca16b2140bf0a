"""Who may answer: `provider` (a name, or OpenRouter's object), `routing` and `models`, as a client writes them.

Checks shapes; which providers there are is for the router to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, structs

from hodios.api.checks import BOOLEAN, OBJECT, Kind, either, list_of, number, one_of, refusal, string
from hodios.errors import InvalidRequest
from hodios.money import NANO, nanodollars
from hodios.types import Price, Routing, Sort

MAX_NAMES = 64
MAX_MODELS = 16
NO_LIMIT = 2**63 - 1
"""In a `max_price`, for what was not named."""
_MOST_DOLLARS = 1_000_000
_SORTS: Mapping[str, Sort] = {
    "price": "price",
    "latency": "latency",
    "throughput": "throughput",
    "perf": "perf",
    "perf_avg": "perf_avg",
    "perf-avg": "perf_avg",
}
_NAME = string(256, min_length=1)
_NAMES = list_of(_NAME, plural="names", max_items=MAX_NAMES)
_SORT = one_of(*_SORTS)
_COLLECTION = one_of("allow", "deny")
_PERCENTILES = ("p50", "p75", "p90", "p99")
_SECONDS = number(0, 86_400, is_low_open=True)
_SPEED = number(0, 1_000_000, is_low_open=True)
_PRICED = ("prompt", "completion", "request")
_PRICE_ACCEPTS = f"a number of dollars from 0 to {_MOST_DOLLARS}, or a string that is one"
MODELS = list_of(_NAME, plural="model ids", max_items=MAX_MODELS)
ROUTING = one_of("price", "perf", "perf_avg", "perf-avg")


class Preference(Struct, frozen=True):
    """What `provider` says, and what of it cannot be honoured."""

    routing: Routing
    ignored: tuple[tuple[str, str], ...] = ()
    """(path as the client wrote it, why it is ignored)"""


def routing_of(values: Mapping[str, Any]) -> Routing:
    """Of parsed parameters. Raises InvalidRequest where they contradict each other."""
    preference: Preference | None = values.get("provider")
    routing = Routing() if preference is None else preference.routing
    given = values.get("routing")
    if given is None:
        return routing
    sort = _SORTS[given]
    if routing.sort not in (None, sort):
        raise InvalidRequest(
            f'routing: "{given}" contradicts provider.sort "{routing.sort}"; accepted: one of them, or equal values',
            param="routing",
        )
    return structs.replace(routing, sort=sort)


def _parse_price(name: str, value: Any) -> int:
    """Dollars → nano-dollars."""
    if type(value) not in (int, float, str):
        raise refusal(name, value, "is not a price", _PRICE_ACCEPTS)
    try:
        price = nanodollars(value[:40] if isinstance(value, str) else value)
    except ValueError:
        raise refusal(name, value, "is not a price", _PRICE_ACCEPTS) from None
    if price > _MOST_DOLLARS * NANO:
        raise refusal(name, value, "is out of range", _PRICE_ACCEPTS)
    return price


def _names(name: str, value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.casefold() for entry in _NAMES.parse(name, value)))


class _Reader:
    """Reads the object form, key by key, into the fields of a Routing."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.ignored: list[tuple[str, str]] = []

    def read(self, path: str, value: Mapping[str, Any]) -> Preference:
        for key, entry in value.items():
            if entry is None:
                continue
            reader = _KEYS.get(key)
            shown = f"{path}.{key}"
            if reader is None:
                self.ignored.append((shown, "there is no such preference"))
            else:
                reader(self, shown, entry)
        return Preference(Routing(**self.fields), tuple(self.ignored))

    def sort(self, path: str, value: Any) -> None:
        if type(value) is dict:
            for key in value:
                if key != "by" and (key, value[key]) not in (("partition", "model"), ("partition", None)):
                    self.ignored.append((f"{path}.{key}", "candidates are sorted within each model"))
            path, value = f"{path}.by", value.get("by")
        self.fields["sort"] = _SORTS[_SORT.parse(path, value)]

    def max_price(self, path: str, value: Any) -> None:
        most = Price(prompt=NO_LIMIT, completion=NO_LIMIT, request=NO_LIMIT)
        for key, entry in OBJECT.parse(path, value).items():
            if entry is None:
                continue
            if key in _PRICED:
                most = structs.replace(most, **{key: _parse_price(f"{path}.{key}", entry)})
            else:
                self.ignored.append((f"{path}.{key}", f"prices are those of {', '.join(_PRICED)}"))
        self.fields["max_price"] = most

    def percentile(self, path: str, value: Any, kind: Kind, field: str) -> None:
        """A number stands for the median, and so does the strictest of several percentiles."""
        if type(value) is not dict:
            self.fields[field] = kind.parse(path, value)
            return
        found = {}
        for key, entry in value.items():
            if key not in _PERCENTILES:
                raise refusal(f"{path}.{key}"[:100], entry, "is not known", " or ".join(_PERCENTILES))
            if entry is not None:
                found[key] = kind.parse(f"{path}.{key}", entry)
        if "p50" in found:
            self.fields[field] = found["p50"]
        for key in found:
            if key != "p50":
                self.ignored.append((f"{path}.{key}", "only the median is looked at"))


def _field(field: str, parse: Callable[[str, Any], Any]) -> Callable[[_Reader, str, Any], None]:
    def read(reader: _Reader, path: str, value: Any) -> None:
        reader.fields[field] = parse(path, value)

    return read


_KEYS: Mapping[str, Callable[[_Reader, str, Any], None]] = {
    "order": _field("order", _names),
    "only": _field("only", _names),
    "ignore": _field("ignore", _names),
    "allow_fallbacks": _field("allows_fallbacks", BOOLEAN.parse),
    "require_parameters": _field("requires_parameters", BOOLEAN.parse),
    "quantizations": _field("quantizations", _names),
    "data_collection": _field("allows_collection", lambda path, value: _COLLECTION.parse(path, value) == "allow"),
    "sort": _Reader.sort,
    "max_price": _Reader.max_price,
    "preferred_max_latency": lambda reader, path, value: reader.percentile(
        path, value, _SECONDS, "preferred_max_latency_s"
    ),
    "preferred_min_throughput": lambda reader, path, value: reader.percentile(
        path, value, _SPEED, "preferred_min_throughput"
    ),
}


def _parse_name(name: str, value: str) -> Preference:
    """APIpie's form: this provider first."""
    string(256).parse(name, value)
    return Preference(Routing(order=(value.casefold(),)) if value else Routing())


def _percentiles(kind: Kind) -> dict[str, Any]:
    properties = {key: {"type": ["number", "null"]} for key in _PERCENTILES}
    return {"anyOf": [kind.schema, {"type": "object", "properties": properties, "additionalProperties": False}]}


_PRICES = {"type": ["number", "string", "null"]}
_OBJECT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("order", "only", "ignore", "quantizations"), _NAMES.schema),
        **dict.fromkeys(("allow_fallbacks", "require_parameters"), BOOLEAN.schema),
        "data_collection": _COLLECTION.schema,
        "sort": {"anyOf": [_SORT.schema, {"type": "object", "properties": {"by": _SORT.schema}, "required": ["by"]}]},
        "max_price": {"type": "object", "properties": dict.fromkeys(_PRICED, _PRICES)},
        "preferred_max_latency": _percentiles(_SECONDS),
        "preferred_min_throughput": _percentiles(_SPEED),
    },
}
_OBJECT = Kind(f"an object with {', '.join(_KEYS)}", _OBJECT_SCHEMA, lambda name, value: _Reader().read(name, value))
PROVIDER = either((str, Kind("the name of a provider", string(256).schema, _parse_name)), (dict, _OBJECT))
