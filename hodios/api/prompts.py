"""What a client wants answered: chat messages and raw prompts, checked for shape only."""

from __future__ import annotations

from typing import Any

from hodios.api.checks import Kind, integer, refusal, shown
from hodios.errors import MissingParameter, UnsupportedParameter

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_PROMPTS = 2048
MESSAGES_ACCEPT = f"a list of at least one message, each an object with role ({', '.join(ROLES)}) and content"
CONTENT_ACCEPTS = 'a string or a list of parts like {"type": "text", "text": "…"}'
PROMPT_ACCEPTS = f"a string, a list of token ids, or a list of at most {MAX_PROMPTS} strings or lists of token ids"
MAX_TOKEN_ID = 2**31 - 1
TOKEN_ID = integer(0, MAX_TOKEN_ID)


def _check_part(path: str, part: Any) -> None:
    if type(part) is not dict or type(part.get("type")) is not str:
        raise refusal(path, part, "is not a content part", CONTENT_ACCEPTS)
    kind = part["type"]
    if kind not in ("text", "refusal"):
        raise UnsupportedParameter(
            f"{path}.type: {shown(kind)} parts cannot be read; accepted: text", param=f"{path}.type"
        )
    if type(part.get(kind)) is not str:
        raise refusal(f"{path}.{kind}", part.get(kind), "is not a string", "a string")


def _check_content(path: str, message: dict[str, Any]) -> None:
    content, role = message.get("content"), message["role"]
    if type(content) is str:
        return
    if content is None:
        if role == "assistant" and any(message.get(key) for key in ("tool_calls", "function_call", "refusal")):
            return
        if role == "function" and "content" in message:
            return
        raise MissingParameter(f"{path}.content: is missing; accepted: {CONTENT_ACCEPTS}", param=f"{path}.content")
    if type(content) is not list or not content:
        raise refusal(f"{path}.content", content, "is not content", CONTENT_ACCEPTS)
    for index, part in enumerate(content):
        _check_part(f"{path}.content[{index}]", part)


def _check_tool_calls(path: str, calls: Any) -> None:
    accepts = "a list of objects with id, type and function {name, arguments}"
    if type(calls) is not list:
        raise refusal(path, calls, "is not a list", accepts)
    for index, call in enumerate(calls):
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict or type(function.get("name")) is not str:
            raise refusal(f"{path}[{index}]", call, "is not a tool call", accepts)


def _check_message(path: str, message: Any) -> None:
    if type(message) is not dict:
        raise refusal(path, message, "is not a message", MESSAGES_ACCEPT)
    role = message.get("role")
    if role is None:
        raise MissingParameter(f"{path}.role: is missing; accepted: {', '.join(ROLES)}", param=f"{path}.role")
    if role not in ROLES:
        raise refusal(f"{path}.role", role, "is not a role", ", ".join(ROLES))
    _check_content(path, message)
    for key in ("name", "tool_call_id"):
        if message.get(key) is not None and type(message[key]) is not str:
            raise refusal(f"{path}.{key}", message[key], "is not a string", "a string")
    if message.get("tool_calls") is not None:
        _check_tool_calls(f"{path}.tool_calls", message["tool_calls"])


def _parse_messages(name: str, value: Any) -> tuple[dict[str, Any], ...]:
    if type(value) is not list or not value:
        raise refusal(name, value, "is not a list of messages", MESSAGES_ACCEPT)
    for index, message in enumerate(value):
        _check_message(f"{name}[{index}]", message)
    return tuple(value)


def parse_ids(name: str, value: Any) -> tuple[int, ...]:
    """Token ids as integers proper: a list may hold millions, so a float is refused instead of converted."""
    if type(value) is not list or not value:
        raise refusal(name, value, "is not a list of token ids", "a list of at least one token id")
    if set(map(type, value)) != {int} or min(value) < 0 or max(value) > MAX_TOKEN_ID:
        at = next(i for i, entry in enumerate(value) if type(entry) is not int or not 0 <= entry <= MAX_TOKEN_ID)
        raise refusal(f"{name}[{at}]", value[at], "is not a token id", TOKEN_ID.accepts)
    return tuple(value)


def _parse_prompt(name: str, value: Any) -> tuple[str | tuple[int, ...], ...]:
    if type(value) is str:
        return (value,)
    if type(value) is not list or not value:
        raise refusal(name, value, "is not a prompt", PROMPT_ACCEPTS)
    if type(value[0]) in (int, float, bool):
        return (parse_ids(name, value),)
    if len(value) > MAX_PROMPTS:
        raise refusal(name, value, "has too many prompts", PROMPT_ACCEPTS)
    prompts: list[str | tuple[int, ...]] = []
    for index, entry in enumerate(value):
        if type(entry) is str:
            prompts.append(entry)
        elif type(entry) is list and entry:
            prompts.append(parse_ids(f"{name}[{index}]", entry))
        else:
            raise refusal(f"{name}[{index}]", entry, "is not a prompt", PROMPT_ACCEPTS)
    return tuple(prompts)


def num_characters(messages: tuple[dict[str, Any], ...]) -> int:
    """Characters of all text in the messages' contents."""
    total = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            total += len(content)
        elif content is not None:
            total += sum(len(part[part["type"]]) for part in content)
    return total


MESSAGES = Kind(
    MESSAGES_ACCEPT,
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"type": "string", "enum": list(ROLES)},
                "content": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["type"]}},
                        {"type": "null"},
                    ]
                },
                "name": {"type": "string"},
                "tool_call_id": {"type": "string"},
                "tool_calls": {"type": "array", "items": {"type": "object"}},
            },
        },
    },
    _parse_messages,
)

TOKEN_IDS = Kind(
    "a list of at least one token id", {"type": "array", "minItems": 1, "items": TOKEN_ID.schema}, parse_ids
)
PROMPT = Kind(
    PROMPT_ACCEPTS,
    {
        "anyOf": [
            {"type": "string"},
            TOKEN_IDS.schema,
            {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": {"type": "string"}},
            {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": TOKEN_IDS.schema},
        ]
    },
    _parse_prompt,
)
