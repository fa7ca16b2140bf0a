"""`response_format` → `Grammar`. Whether a schema or an expression can be honoured is for whoever generates to say."""

from __future__ import annotations

from typing import Any

import msgspec

from hodios.api.checks import Kind, refusal
from hodios.errors import MissingParameter
from hodios.types import Grammar

ACCEPTS = (
    'an object whose type is "text", "json_object" (or "json"), "json_schema" (with json_schema.schema), '
    '"regex" (with regex or pattern) or "grammar" (with grammar, in Lark)'
)
MAX_SOURCE = 1_000_000


def _source(name: str, value: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        source = value.get(key)
        if source is None:
            continue
        if type(source) is not str or not 0 < len(source) <= MAX_SOURCE:
            raise refusal(f"{name}.{key}", source, "cannot be used", f"a string of 1 to {MAX_SOURCE} characters")
        return source
    raise MissingParameter(f"{name}.{keys[0]}: is missing; accepted: a string", param=f"{name}.{keys[0]}")


def _schema(name: str, value: dict[str, Any]) -> str:
    """The schema stands in `json_schema.schema` (OpenAI) or beside the type (`schema`)."""
    holder, path = value.get("json_schema"), f"{name}.json_schema"
    if holder is None and value.get("schema") is not None:
        holder, path = value, name
    if holder is None:
        raise MissingParameter(f"{path}: is missing; accepted: an object with a schema", param=path)
    if type(holder) is not dict:
        raise refusal(path, holder, "is not an object", "an object with a schema")
    schema = holder.get("schema")
    if schema is None:
        raise MissingParameter(f"{path}.schema: is missing; accepted: a JSON schema", param=f"{path}.schema")
    if type(schema) is not dict and type(schema) is not bool:
        raise refusal(f"{path}.schema", schema, "is not a JSON schema", "an object")
    for key, kind, words in (("name", str, "a string"), ("strict", bool, "true or false")):
        if holder.get(key) is not None and type(holder[key]) is not kind:
            raise refusal(f"{path}.{key}", holder[key], "is of the wrong type", words)
    return msgspec.json.encode(schema).decode()


def _parse(name: str, value: Any) -> Grammar | None:
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", ACCEPTS)
    match value.get("type"):
        case "text":
            return None
        case "json_object" | "json" if value.get("schema") is not None:
            return Grammar("json_schema", _schema(name, value))
        case "json_object" | "json":
            return Grammar("json_object")
        case "json_schema":
            return Grammar("json_schema", _schema(name, value))
        case "regex":
            return Grammar("regex", _source(name, value, ("regex", "pattern")))
        case "grammar":
            return Grammar("lark", _source(name, value, ("grammar",)))
        case None:
            raise MissingParameter(f"{name}.type: is missing; accepted: {ACCEPTS}", param=f"{name}.type")
        case other:
            raise refusal(f"{name}.type", other, "is not known", ACCEPTS)


RESPONSE_FORMAT = Kind(
    ACCEPTS,
    {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "enum": ["text", "json_object", "json", "json_schema", "regex", "grammar"]},
            "json_schema": {
                "type": "object",
                "required": ["schema"],
                "properties": {
                    "name": {"type": "string"},
                    "schema": {"type": "object"},
                    "strict": {"type": "boolean"},
                },
            },
            "regex": {"type": "string"},
            "pattern": {"type": "string"},
            "grammar": {"type": "string"},
        },
    },
    _parse,
)
