"""The JSON schema of a type hint. Refuses hints that JSON cannot express.

pydantic is imported only for hints that come from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from hodios.errors import SetupError
from hodios.hints.fields import Field, docstring_of, fields_of
from hodios.hints.kinds import (
    ARRAYS,
    OBJECTS,
    SCALARS,
    TEXTS,
    UNIONS,
    bare,
    is_alias,
    is_enum,
    is_pydantic,
    is_record,
    json_value,
    name_of,
)

Schema = dict[str, Any]
_NULL = type(None)


class Describer:
    """Makes the schemas of one document, whose `$defs` are then `definitions`.

    `is_loose`: as `transformers` writes them and chat templates know them, with `nullable` for what may be null and
    nothing said of a tuple's length; otherwise as JSON Schema has it.
    """

    def __init__(self, *, is_loose: bool) -> None:
        self._is_loose = is_loose
        self.definitions: dict[str, Schema] = {}
        self._sources: dict[str, object] = {}
        self._open: list[object] = []
        self._recursive: list[object] = []

    def fields(self, fields: Sequence[Field], where: str) -> Schema:
        """The schema of an object that has them."""
        schema: Schema = {"type": "object", "properties": {field.name: self._field(field, where) for field in fields}}
        if required := [field.name for field in fields if field.is_required]:
            schema["required"] = required
        return schema

    def schema(self, hint: Any, where: str) -> Schema:
        """Raises SetupError, which begins with `where`."""
        if is_pydantic(hint):
            return self._pydantic(hint, where)
        hint = bare(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in UNIONS:
            return self._union(arguments, where)
        if origin is Literal:
            return _enumeration([json_value(each) for each in arguments], where)
        if origin in ARRAYS:
            return self._array(origin, arguments, where)
        if origin in OBJECTS:
            return self._object(arguments, where)
        if is_alias(hint) or is_record(hint):
            return self._named(hint, where)
        return _plain(hint, where)

    def _field(self, field: Field, where: str) -> Schema:
        schema = self.schema(field.hint, f"{where}, parameter {field.name!r}")
        if field.choices and schema.get("type") == "array":
            schema = {**schema, "items": {**schema.get("items", {}), "enum": field.choices}}
        elif field.choices:
            schema = {**schema, "enum": field.choices}
        return {**schema, "description": field.description} if field.description else schema

    def _array(self, origin: Any, arguments: tuple[Any, ...], where: str) -> Schema:
        if origin is not tuple or arguments[1:] == (...,):
            return {"type": "array", "items": self.schema(arguments[0], where)}
        schema: Schema = {"type": "array", "prefixItems": [self.schema(each, where) for each in arguments]}
        length = len(arguments)
        return schema if self._is_loose else {**schema, "minItems": length, "maxItems": length}

    def _object(self, arguments: tuple[Any, ...], where: str) -> Schema:
        if len(arguments) != 2:
            return {"type": "object"}
        key, value = arguments
        if self.schema(key, where).get("type", "string") not in ("string", "integer", "number"):
            raise SetupError(f"{where}: the keys of a JSON object are strings, which {name_of(key)} is not made from")
        return {"type": "object", "additionalProperties": self.schema(value, where)}

    def _union(self, arguments: tuple[Any, ...], where: str) -> Schema:
        schemas = [self.schema(each, where) for each in arguments if each is not _NULL]
        if len(schemas) == 1:
            schema = schemas[0]
        elif all(each.keys() == {"type"} and isinstance(each["type"], str) for each in schemas):
            names = sorted({each["type"] for each in schemas})
            schema = {"type": names[0] if len(names) == 1 else names}
        else:
            schema = {"anyOf": schemas}
        if _NULL not in arguments:
            return schema
        return {**schema, "nullable": True} if self._is_loose else _with_null(schema)

    def _named(self, kind: Any, where: str) -> Schema:
        """A type that may hold itself: described in place where it does not, else once and referred to."""
        if kind in self._open:
            self._recursive.append(kind)
        elif kind not in self._recursive:
            self._open.append(kind)
            schema = self._record(kind, where) if is_record(kind) else self.schema(kind.__value__, where)
            self._open.remove(kind)
            if kind not in self._recursive:
                return schema
            self._define(kind.__name__, schema, kind, where)
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def _record(self, kind: Any, where: str) -> Schema:
        try:
            fields = fields_of(kind)
        except SetupError as error:
            raise SetupError(f"{where}: {error}") from error
        schema = self.fields(fields, f"{where}: {kind.__name__}") | {"additionalProperties": False}
        description = docstring_of(kind).description
        return {"description": description, **schema} if description else schema

    def _pydantic(self, hint: Any, where: str) -> Schema:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

        try:
            schema = TypeAdapter(hint).json_schema(ref_template="#/$defs/{model}")
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            raise SetupError(f"{where}: pydantic cannot describe {name_of(hint)}: {error.message}") from error
        for name, definition in schema.pop("$defs", {}).items():
            self._define(name, definition, definition, where)
        return schema

    def _define(self, name: str, schema: Schema, source: object, where: str) -> None:
        if self._sources.setdefault(name, source) != source:
            raise SetupError(f"{where}: two different types are called {name}; rename one of them")
        self.definitions[name] = schema


def _with_null(schema: Schema) -> Schema:
    if schema.keys() == {"anyOf"}:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}


def _plain(hint: Any, where: str) -> Schema:
    if hint is Any or hint is object:
        return {}
    if is_enum(hint):
        return _enumeration([member.value for member in hint], where)
    if isinstance(hint, type):
        if hint in SCALARS:
            return {"type": SCALARS[hint]}
        if hint in ARRAYS or hint in OBJECTS:
            return {"type": "array" if hint in ARRAYS else "object"}
        if hint in TEXTS:
            form = TEXTS[hint][0]
            return {"type": "string", "format": form} if form else {"type": "string"}
    raise SetupError(
        f"{where}: the type {name_of(hint)} cannot be described in JSON; use str, int, float, bool, list, dict, tuple, "
        "set, Literal, Enum, a union of them, a dataclass, a TypedDict or a pydantic model"
    )


def _enumeration(values: list[Any], where: str) -> Schema:
    if not values:
        raise SetupError(f"{where}: an enumeration without members accepts nothing")
    for value in values:
        if type(value) not in SCALARS:
            raise SetupError(f"{where}: {value!r} is a choice that JSON has no value for")
    names = list(dict.fromkeys(SCALARS[type(value)] for value in values))
    return {"type": names[0] if len(names) == 1 else names, "enum": values}
