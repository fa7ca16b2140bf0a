"""What operators may set of keys and projects: each field's name, what it accepts, and where the record has it.

The routes, the OpenAPI document and the command line all read these tables. Dollars are exact decimals.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET, Struct, structs

from hodios.api.checks import BOOLEAN, Kind, integer, list_of, number, one_of, refusal
from hodios.api.guard_fields import GUARD_FIELDS
from hodios.errors import InvalidRequest
from hodios.money import nanodollars
from hodios.store.records import Budgets, KeyRecord, ProjectRecord

R = TypeVar("R", KeyRecord, ProjectRecord)
MOST_NAMES = 1000
MOST_LABELS = 64
LONGEST_GRACE_S = 30 * 86400
_MOST_PER_MINUTE = 10**9
_LAST_S = 253402300799.0
"""The end of the year 9999."""


class Field(NamedTuple):
    name: str
    kind: Kind
    meaning: str
    place: str
    """The record's attribute; after a point, the one within it."""


def text(most: int, *, least: int = 0) -> Kind:
    """Strings that every database can hold."""
    accepts = f"a string of {f'{least} to' if least else 'at most'} {most} characters, without NUL"

    def parse(name: str, value: Any) -> str:
        if type(value) is not str:
            raise refusal(name, value, "is not a string", accepts)
        if not least <= len(value) <= most:
            raise refusal(name, value, f"has {len(value)} characters", accepts)
        if "\0" in value or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise InvalidRequest(f"{name}: has characters that are none; accepted: {accepts}", param=name)
        return value

    return Kind(accepts, {"type": "string", "minLength": least, "maxLength": most}, parse)


def _parse_dollars(name: str, value: Any) -> int:
    try:
        if isinstance(value, str) and not re.fullmatch(_AMOUNT, value):
            raise ValueError(value)
        return nanodollars(value)
    except (ValueError, ArithmeticError):
        raise refusal(name, value, "is not such an amount", DOLLARS.accepts) from None


_AMOUNT = r"^[0-9]{1,10}(\.[0-9]{1,9})?$"
DOLLARS = Kind(
    "dollars from 0 to 1000000000 with at most nine decimals, as a number or a string",
    {"anyOf": [{"type": "number", "minimum": 0, "maximum": 10**9}, {"type": "string", "pattern": _AMOUNT}]},
    _parse_dollars,
)
PERIOD_NAMES = Budgets.__struct_fields__
_BUDGET_ACCEPTS = f"an object with some of {', '.join(PERIOD_NAMES)}, each {DOLLARS.accepts}, or null"


def _parse_budget(name: str, value: Any) -> dict[str, int | None]:
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", _BUDGET_ACCEPTS)
    for period in value:
        _check_known(period, PERIOD_NAMES, f"{name}.")
    return {
        period: None if amount is None else DOLLARS.parse(f"{name}.{period}", amount)
        for period, amount in value.items()
    }


def _parse_time(name: str, value: Any) -> float:
    try:
        time = datetime.fromisoformat(value)
        at_s = time.timestamp()
    except (ValueError, TypeError, OverflowError):
        raise refusal(name, value, "is not a time", TIME.accepts) from None
    if time.tzinfo is None:
        raise refusal(name, value, "does not say of which time zone it is", TIME.accepts)
    if not 0 <= at_s <= _LAST_S:
        raise refusal(name, value, "is out of range", TIME.accepts)
    return at_s


TIME = Kind(
    "a time from 1970 to 9999 in ISO 8601 with its offset, as 2027-01-31T00:00:00Z",
    {"type": "string", "format": "date-time"},
    _parse_time,
)
_LABEL, _LABEL_VALUE = text(64, least=1), text(1000)


def _parse_labels(name: str, value: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", LABELS.accepts)
    if len(value) > MOST_LABELS:
        raise refusal(name, value, f"has {len(value)} entries", LABELS.accepts)
    return {
        _LABEL.parse(name, label): _LABEL_VALUE.parse(f"{name}.{label[:64]}", entry) for label, entry in value.items()
    }


LABELS = Kind(
    f"an object of at most {MOST_LABELS} entries, string → string",
    {"type": "object", "maxProperties": MOST_LABELS, "additionalProperties": {"type": "string", "maxLength": 1000}},
    _parse_labels,
)
BUDGET = Kind(
    _BUDGET_ACCEPTS,
    {
        "type": "object",
        "properties": {period: {"anyOf": [DOLLARS.schema, {"type": "null"}]} for period in PERIOD_NAMES},
        "additionalProperties": False,
    },
    _parse_budget,
)
_NAMES = text(256, least=1)
_TOOL_NAMES = text(64, least=1)
_PROJECT_FIELDS = (
    Field("name", text(256), "What people call it.", "name"),
    Field("budget", BUDGET, "What may be spent at most: ever, and in each day, week and month of UTC.", "budgets"),
    Field("requests_per_minute", integer(1, _MOST_PER_MINUTE), "Requests in a minute.", "limits.requests_per_minute"),
    Field("tokens_per_minute", integer(1, _MOST_PER_MINUTE), "Tokens in a minute.", "limits.tokens_per_minute"),
    Field("parallel_requests", integer(1, 10**6), "Requests at the same time.", "limits.parallel_requests"),
    Field("disabled", BOOLEAN, "Refuse all that is asked with it.", "is_disabled"),
    Field("metadata", LABELS, "Labels; new ones replace all.", "metadata"),
    *(Field(*each) for each in GUARD_FIELDS),
)
_KEY_FIELDS = (
    Field("owner", text(256), "Whose it is.", "owner"),
    Field("project", text(256, least=1), "The id of its project, whose budgets and limits hold besides.", "project_id"),
    Field(
        "models", list_of(_NAMES, plural="ids", max_items=MOST_NAMES), "Ids of models it may ask for alone.", "models"
    ),
    Field(
        "providers",
        list_of(_NAMES, plural="names", max_items=MOST_NAMES),
        "Names of providers it may ask alone.",
        "providers",
    ),
    Field(
        "tools",
        list_of(_TOOL_NAMES, plural="names", max_items=MOST_NAMES),
        "Names of tools it may offer to models alone; `*` stands for any letters.",
        "tools",
    ),
    Field("priority", integer(-1_000_000, 1_000_000), "Among keys that wait; higher goes first.", "priority"),
    Field("queue", BOOLEAN, "Wait where a limit is reached, instead of being refused.", "is_queueing"),
    Field("default_max_tokens", integer(1, 1_000_000), "max_tokens of requests that name none.", "default_max_tokens"),
    Field("expires_at", TIME, "When it ends to be good.", "expires_at_s"),
    Field(
        "content_filter", one_of("details"), "`details` adds content_filter_details to every choice.", "content_filter"
    ),
    Field("store_content", BOOLEAN, "Store what is asked and answered, for GET /generation.", "stores_content"),
    Field(
        "on_store_error",
        one_of("open", "closed"),
        "Whether it may spend beyond what is leased while the store is away.",
        "on_store_error",
    ),
)
PROJECT_FIELDS: Mapping[str, Field] = {field.name: field for field in _PROJECT_FIELDS}
KEY_FIELDS: Mapping[str, Field] = {field.name: field for field in (*_PROJECT_FIELDS, *_KEY_FIELDS)}
_VERSION = integer(1)
GRACE = number(0, LONGEST_GRACE_S)


def version_in(values: dict[str, Any]) -> int | None:
    """Takes it out of them: the version that whoever changes a record has seen. Raises InvalidRequest."""
    version = values.pop("version", None)
    return None if version is None else _VERSION.parse("version", version)


def grace_in(values: Mapping[str, Any]) -> float:
    """Seconds for which the text before a rotation is still good. Raises InvalidRequest."""
    for name in values:
        _check_known(name, ("grace_s",))
    grace_s = values.get("grace_s")
    return 0.0 if grace_s is None else GRACE.parse("grace_s", grace_s)


def parse(fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """By place. null stands for the default, which is UNSET here. Raises InvalidRequest."""
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        _check_known(name, fields)
        field = fields[name]
        parsed[field.place] = UNSET if value is None else field.kind.parse(name, value)
    return parsed


def changed(record: R, parsed: Mapping[str, Any]) -> R:
    """The record with what `parse` has returned. Of budgets only those change that are named."""
    changes: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for place, value in parsed.items():
        whole, _, part = place.partition(".")
        if part:
            inner = type(getattr(record, whole))
            parts.setdefault(whole, {})[part] = _default(inner, part) if value is UNSET else value
        elif whole == "budgets":
            changes[whole] = Budgets() if value is UNSET else structs.replace(record.budgets, **value)
        else:
            changes[whole] = _default(type(record), whole) if value is UNSET else value
    for whole, values in parts.items():
        changes[whole] = structs.replace(getattr(record, whole), **values)
    return structs.replace(record, **changes)


def schema(fields: Mapping[str, Field], **others: Kind) -> dict[str, Any]:
    """The JSON schema of a request body with some of the fields."""
    properties = {
        field.name: {
            "anyOf": [dict(field.kind.schema), {"type": "null"}],
            "description": f"{field.meaning} Accepted: {field.kind.accepts}.",
        }
        for field in fields.values()
    }
    for name, kind in others.items():
        properties[name] = {"anyOf": [dict(kind.schema), {"type": "null"}], "description": f"Accepted: {kind.accepts}."}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def request_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    return {
        "KeyRequest": schema(KEY_FIELDS, force=BOOLEAN),
        "KeyChange": schema(KEY_FIELDS, version=_VERSION, force=BOOLEAN),
        "KeyRotation": schema({}, grace_s=GRACE),
        "ProjectRequest": schema(PROJECT_FIELDS),
        "ProjectChange": schema(PROJECT_FIELDS, version=_VERSION),
    }


def _default(kind: type[Struct], place: str) -> Any:
    found = {field.name: field for field in structs.fields(kind)}[place]
    return found.default_factory() if callable(found.default_factory) else found.default


def _check_known(name: str, known: Mapping[str, Any] | tuple[str, ...], within: str = "") -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.0)[0]
        raise InvalidRequest(
            f"{within}{name[:100]}: is not known; did you mean {within}{nearest}? accepted: {', '.join(known)}",
            param=f"{within}{name[:100]}",
        )
