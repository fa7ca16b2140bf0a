"""`tools` and `tool_choice`, and their older names `functions` and `function_call`: which functions may be called.

Checks shapes and names; whether a schema can be honoured is for whoever generates to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from hodios.api.checks import BOOLEAN, OBJECT, Kind, check_nesting, either, list_of, one_of, refusal, shown, string
from hodios.errors import InvalidRequest, MissingParameter
from hodios.types import Tool, ToolChoice

MAX_TOOLS = 512
NAME = r"[A-Za-z0-9_.\-]{1,128}"
_NAME = re.compile(NAME)
_NAME_ACCEPTS = "1 to 128 of A–Z a–z 0–9 _ - ."
_TOOL_ACCEPTS = 'an object like {"type": "function", "function": {"name": "…", "parameters": {…}}}'
_FUNCTION_ACCEPTS = "an object with name, and perhaps description, parameters and strict"
_SCHEMA_ACCEPTS = 'a JSON schema of type "object"'
_CHOICE_ACCEPTS = '{"type": "function", "function": {"name": "…"}}, or {"type": "allowed_tools", "allowed_tools": {…}}'
_DESCRIPTION = string(2**30)


class Choice(Struct, frozen=True):
    """Which functions must or may be called. `allowed`: only these; () for all."""

    mode: ToolChoice
    name: str = ""
    allowed: tuple[str, ...] = ()


class Tooling(NamedTuple):
    """What a request says of tools, whichever names it used."""

    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice("auto")
    is_parallel: bool = True


def _required(path: str, value: Mapping[str, Any], key: str, accepts: str) -> Any:
    if value.get(key) is None:
        raise MissingParameter(f"{path}.{key}: is missing; accepted: {accepts}", param=f"{path}.{key}")
    return value[key]


def _check_name(path: str, value: Any) -> str:
    if type(value) is not str or not _NAME.fullmatch(value):
        raise refusal(path, value, "is not a name of a function", _NAME_ACCEPTS)
    return value


def _check_type(path: str, value: Mapping[str, Any], accepts: str) -> None:
    kind = _required(path, value, "type", accepts)
    if kind != "function":
        raise refusal(f"{path}.type", kind, "is not known", accepts)


def _parse_schema(path: str, value: Any) -> dict[str, Any]:
    """The schema of an object, without root keywords that are null: some clients write empty lists so."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise refusal(path, value, "is not a schema", _SCHEMA_ACCEPTS)
    schema = {key: entry for key, entry in value.items() if entry is not None}
    kind = schema.get("type", "object")
    if kind != "object" and not (type(kind) is list and "object" in kind):
        raise refusal(f"{path}.type", kind, "is not the type of arguments", _SCHEMA_ACCEPTS)
    for key, entry in OBJECT.parse(f"{path}.properties", schema.get("properties", {})).items():
        if type(entry) not in (dict, bool):
            raise refusal(f"{path}.properties.{key[:60]}", entry, "is not a schema", "a JSON schema")
    list_of(_DESCRIPTION, plural="names").parse(f"{path}.required", schema.get("required", []))
    check_nesting(path, schema)
    return schema


def _parse_result(path: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if type(value) is not dict:
        raise refusal(path, value, "is not a schema", "a JSON schema")
    check_nesting(path, value)
    return value


def _parse_function(path: str, value: Any) -> Tool:
    if type(value) is not dict:
        raise refusal(path, value, "is not a function", _FUNCTION_ACCEPTS)
    description, strict = value.get("description"), value.get("strict")
    return Tool(
        name=_check_name(f"{path}.name", _required(path, value, "name", _NAME_ACCEPTS)),
        description="" if description is None else _DESCRIPTION.parse(f"{path}.description", description),
        parameters=_parse_schema(f"{path}.parameters", value.get("parameters")),
        returns=_parse_result(f"{path}.return", value.get("return")),
        strict=False if strict is None else BOOLEAN.parse(f"{path}.strict", strict),
    )


def _parse_tool(path: str, value: Any) -> Tool:
    if type(value) is not dict:
        raise refusal(path, value, "is not a tool", _TOOL_ACCEPTS)
    _check_type(path, value, '"function"')
    return _parse_function(f"{path}.function", _required(path, value, "function", _FUNCTION_ACCEPTS))


_FUNCTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": f"^{NAME}$"},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"]},
        "return": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
}
_TOOL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": {"const": "function"}, "function": _FUNCTION_SCHEMA},
}


def _distinct(item: Kind, plural: str, path_of_name: str) -> Kind:
    """A list of functions, no two of one name."""
    many = list_of(item, plural=plural, max_items=MAX_TOOLS)

    def parse(name: str, value: Any) -> tuple[Tool, ...]:
        tools: tuple[Tool, ...] = many.parse(name, value)
        seen: set[str] = set()
        for index, tool in enumerate(tools):
            if tool.name in seen:
                raise refusal(
                    f"{name}[{index}]{path_of_name}", tool.name, "is there twice", "functions of different names"
                )
            seen.add(tool.name)
        return tools

    return Kind(many.accepts, many.schema, parse)


TOOLS = _distinct(Kind(_TOOL_ACCEPTS, _TOOL_SCHEMA, _parse_tool), "tools", ".function.name")
FUNCTIONS = _distinct(Kind(_FUNCTION_ACCEPTS, _FUNCTION_SCHEMA, _parse_function), "functions", ".name")


def _named(path: str, value: dict[str, Any]) -> str:
    """The name in `{"type": "function", "function": {"name"}}`, or in the same without the inner object."""
    _check_type(path, value, '"function" or "allowed_tools"')
    if value.get("function") is None and "name" in value:
        return _check_name(f"{path}.name", value["name"])
    function = OBJECT.parse(f"{path}.function", _required(path, value, "function", _CHOICE_ACCEPTS))
    return _check_name(f"{path}.function.name", _required(f"{path}.function", function, "name", _NAME_ACCEPTS))


def _parse_allowed(path: str, value: Any) -> Choice:
    """`{"mode": "auto" or "required", "tools": [{"type": "function", "function": {"name"}}, …]}`"""
    allowed = OBJECT.parse(path, value)
    mode = one_of("auto", "required").parse(f"{path}.mode", _required(path, allowed, "mode", '"auto" or "required"'))
    tools = list_of(OBJECT, plural="tools").parse(f"{path}.tools", _required(path, allowed, "tools", "a list of tools"))
    if not tools:
        raise refusal(f"{path}.tools", [], "allows nothing", "at least one tool")
    return Choice(mode, "", tuple([_named(f"{path}.tools[{index}]", tool) for index, tool in enumerate(tools)]))


def _parse_choice_object(name: str, value: dict[str, Any]) -> Choice:
    if value.get("type") != "allowed_tools":
        return Choice("required", _named(name, value))
    holder = value if value.get("allowed_tools") is None else value["allowed_tools"]
    return _parse_allowed(name if holder is value else f"{name}.allowed_tools", holder)


def _modes(*modes: ToolChoice) -> Kind:
    words = one_of(*modes)
    return Kind(words.accepts, words.schema, lambda name, value: Choice(words.parse(name, value)))


TOOL_CHOICE = either(
    (str, _modes("none", "auto", "required")),
    (dict, Kind(_CHOICE_ACCEPTS, {"type": "object", "required": ["type"]}, _parse_choice_object)),
)
FUNCTION_CALL = either(
    (str, _modes("none", "auto")),
    (
        dict,
        Kind(
            '{"name": "…"}',
            {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            lambda name, value: Choice(
                "required", _check_name(f"{name}.name", _required(name, value, "name", _NAME_ACCEPTS))
            ),
        ),
    ),
)


NO_TOOLING = Tooling()


def tooling(values: Mapping[str, Any]) -> Tooling:
    """The parsed parameters together. Raises InvalidRequest where they contradict each other."""
    tools, functions = values.get("tools", ()), values.get("functions", ())
    if tools and functions:
        raise InvalidRequest("functions: cannot be used beside tools; accepted: one of the two", param="functions")
    _check_choice("tool_choice", values, tools, "tools", bool(functions))
    _check_choice("function_call", values, functions, "functions", bool(tools))
    if functions:
        # A message of the older form holds one call.
        return Tooling(functions, values.get("function_call", Choice("auto")), is_parallel=False)
    if not tools:
        return NO_TOOLING
    choice: Choice = values.get("tool_choice", Choice("auto"))
    if choice.allowed:
        tools = tuple([tool for tool in tools if tool.name in choice.allowed])
    return Tooling(tools, choice, values.get("parallel_tool_calls", True))


def _check_choice(name: str, values: Mapping[str, Any], tools: tuple[Tool, ...], of: str, has_others: bool) -> None:
    choice: Choice | None = values.get(name)
    if choice is None:
        return
    if not tools and (choice.mode == "required" or choice.allowed or has_others):
        raise InvalidRequest(f"{name}: is only allowed with {of}", param=name)
    known = [tool.name for tool in tools]
    for wanted in (choice.name, *choice.allowed):
        if wanted and wanted not in known:
            some = ", ".join(map(shown, known[:3])) + (", …" if len(known) > 3 else "")
            raise refusal(name, wanted, f"is not among the {of}", f"the name of one of them: {some}")
