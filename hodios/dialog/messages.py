"""Chat messages and tools as clients send them, made into the one form that everything after them expects.

Refuses what a text model cannot read. What a particular template can show of it is `adaptation`'s concern.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hodios.errors import InvalidRequest, UnsupportedParameter
from hodios.types import Tool

_ROLES = MappingProxyType({"developer": "system", "function": "tool"})
"""Roles that only the API knows, and what models were trained on instead."""

NewId = Callable[[str, int], str]
"""Makes the id of call `number` out of a seed, as `Format.new_id` does."""


def normalize(messages: Sequence[Mapping[str, Any]], new_id: NewId | None = None) -> list[dict[str, Any]]:
    """Every message with a string as content and a role that templates know.

    Text parts are joined by newlines. Assistants' calls all have an id, a name and arguments, an object unless the
    client sent text that is none; results have the id and the name of their call. `new_id` makes ids where clients left
    them out. Keys without a value are left out. Raises `InvalidRequest` naming the message and part that cannot be
    read.
    """
    if not messages:
        raise InvalidRequest("messages is empty; a chat needs at least one message", param="messages")
    chat = [_normalize(message, f"messages[{index}]") for index, message in enumerate(messages)]
    _Calls(new_id or _plain_id).connect(chat)
    return chat


def _normalize(message: Mapping[str, Any], param: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"{param} must be an object, not {message!r}", param=param)
    role = message.get("role")
    if not isinstance(role, str):
        raise InvalidRequest(f"{param}.role must be a string, not {role!r}", param=f"{param}.role")
    content = _text_of(message.get("content"), f"{param}.content")
    if not content and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    chat = {key: value for key, value in message.items() if value is not None and key not in _CALL_KEYS}
    chat |= {"role": _ROLES.get(role, role), "content": content}
    calls = _calls_of(message, param) if role == "assistant" else []
    return chat | {"tool_calls": calls} if calls else chat


_CALL_KEYS = ("tool_calls", "function_call", "refusal")


def _text_of(content: object, param: str) -> str:
    match content:
        case None:
            return ""
        case str():
            return content
        case list() | tuple():
            return "\n".join(_part_text(part, f"{param}[{index}]") for index, part in enumerate(content))
        case _:
            raise InvalidRequest(f"{param} must be a string, an array of parts or null, not {content!r}", param=param)


def _part_text(part: object, param: str) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": ("text" | "refusal") as kind}:
            raise InvalidRequest(f"{param}.{kind} must be a string", param=f"{param}.{kind}")
        case {"type": str(kind)}:
            raise UnsupportedParameter(
                f"{param} is of type {kind!r}, but the model reads only text; send parts of type 'text'", param=param
            )
        case _:
            raise InvalidRequest(f"{param} must be an object with a type, such as 'text', not {part!r}", param=param)


def _calls_of(message: Mapping[str, Any], param: str) -> list[dict[str, Any]]:
    """An assistant's calls in today's form; `function_call` is the form of one call before there were several."""
    calls = message.get("tool_calls")
    if calls is None:
        legacy = message.get("function_call")
        calls, path = ([], "") if legacy is None else ([{"function": legacy}], f"{param}.function_call")
    else:
        path = f"{param}.tool_calls"
    if not isinstance(calls, list | tuple):
        raise InvalidRequest(f"{path} must be an array, not {calls!r}", param=path)
    return [_call(call, path) for call in calls]


def _call(call: object, param: str) -> dict[str, Any]:
    match call:
        case {"function": {"name": str(name), **function}, **rest}:
            arguments = _arguments(function.get("arguments"))
            id = rest.get("id") if isinstance(rest.get("id"), str) else ""
            return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        case _:
            raise InvalidRequest(f"{param} must hold calls with a function that has a name, not {call!r}", param=param)


def _arguments(arguments: object) -> Any:
    """An object where that is what was sent or what its text says; other text as it is."""
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, str):
        return arguments if isinstance(arguments, dict) else json.dumps(arguments, ensure_ascii=False)
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _plain_id(seed: str, number: int) -> str:
    return f"call_{seed}_{number}"


class _Calls:
    """Which calls of a conversation wait for their result."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        self._waiting: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}

    def connect(self, chat: list[dict[str, Any]]) -> None:
        """Give each call an id, and each result the id and the name of its call."""
        for index, message in enumerate(chat):
            for number, call in enumerate(message.get("tool_calls", ())):
                call["id"] = call["id"] or self._new_id(f"message {index}", number)
                self._names[call["id"]] = call["function"]["name"]
                self._waiting.append(call)
            if message["role"] == "tool":
                self._connect_result(message, index)

    def _connect_result(self, message: dict[str, Any], index: int) -> None:
        id, name = message.get("tool_call_id"), message.get("name")
        call = next((call for call in self._waiting if _is_answered_by(call, id, name)), None)
        if call is not None:
            self._waiting.remove(call)
            id, name = call["id"], name or call["function"]["name"]
        id = id or self._new_id(f"message {index}", 0)
        message |= {"tool_call_id": id, "name": name or self._names.get(id) or "tool"}


def _is_answered_by(call: dict[str, Any], id: object, name: object) -> bool:
    if id:
        return bool(call["id"] == id)
    return not name or bool(call["function"]["name"] == name)


def tool_definitions(tools: Sequence[Tool | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools as OpenAI defines them and templates expect them: all with a description and with parameters.

    Objects that already have that form keep whatever else they hold.
    """
    return [_definition(tool) for tool in tools]


def _definition(tool: Tool | Mapping[str, Any]) -> dict[str, Any]:
    function: dict[str, Any]
    if isinstance(tool, Tool):
        function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        if tool.returns is not None:
            function["return"] = tool.returns
    else:
        function = dict(tool.get("function") or tool)
    parameters = function.get("parameters") or {}
    if not isinstance(parameters.get("properties"), dict):
        parameters = {"type": "object", **parameters, "properties": {}}
    function |= {"description": function.get("description") or "", "parameters": parameters}
    return {"type": "function", "function": function}
