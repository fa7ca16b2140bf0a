"""Chat messages as clients send them, made into what chat templates expect. Refuses what a text model cannot read.

Knows the OpenAI shapes only; tool calls pass through as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hodios.errors import InvalidRequest, UnsupportedParameter

_ROLES = MappingProxyType({"developer": "system", "function": "tool"})
"""Roles that only the API knows, and what models were trained on instead."""


def normalize(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every message with a string as content and a role that templates know; all else is kept.

    Text parts are joined by newlines. Raises `InvalidRequest` naming the message and part that cannot be read.
    """
    if not messages:
        raise InvalidRequest("messages is empty; a chat needs at least one message", param="messages")
    return [_normalize(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _normalize(message: Mapping[str, Any], param: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"{param} must be an object, not {message!r}", param=param)
    role = message.get("role")
    if not isinstance(role, str):
        raise InvalidRequest(f"{param}.role must be a string, not {role!r}", param=f"{param}.role")
    content = _text_of(message.get("content"), f"{param}.content")
    return {**message, "role": _ROLES.get(role, role), "content": content}


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
