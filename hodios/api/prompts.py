"""What a client wants answered: chat messages and raw prompts, checked for shape only."""

from __future__ import annotations

from typing import Any

import msgspec

from hodios.api.checks import Kind, check_nesting, integer, refusal, shown
from hodios.api.images import check_image
from hodios.errors import MissingParameter, UnsupportedParameter

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_USUAL = {"role", "content"}
MAX_PROMPTS = 2048
MESSAGES_ACCEPT = f"a list of at least one message, each an object with role ({', '.join(ROLES)}) and content"
CONTENT_ACCEPTS = 'a string or a list of parts like {"type": "text", "text": "…"}'
CALL_ACCEPTS = "an object like {id, type, function: {name, arguments}}"
PROMPT_ACCEPTS = f"a string, a list of token ids, or a list of at most {MAX_PROMPTS} strings or lists of token ids"
MAX_TOKEN_ID = 2**31 - 1
TOKEN_ID = integer(0, MAX_TOKEN_ID)


def _check_part(path: str, part: Any) -> None:
    if type(part) is not dict or type(part.get("type")) is not str:
        raise refusal(path, part, "is not a content part", CONTENT_ACCEPTS)
    kind = part["type"]
    if kind == "image_url":
        check_image(f"{path}.image_url", part.get("image_url"))
        return
    if kind not in ("text", "refusal"):
        raise UnsupportedParameter(
            f"{path}.type: {shown(kind)} parts cannot be read; accepted: text, image_url", param=f"{path}.type"
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
    if type(calls) is not list:
        raise refusal(path, calls, "is not a list", f"a list, each entry {CALL_ACCEPTS}")
    for index, call in enumerate(calls):
        where = f"{path}[{index}]"
        if type(call) is not dict:
            raise refusal(where, call, "is not a tool call", CALL_ACCEPTS)
        if call.get("id") is not None and type(call["id"]) is not str:
            raise refusal(f"{where}.id", call["id"], "is not a string", "a string")
        if call.get("type") not in (None, "function"):
            raise refusal(f"{where}.type", call["type"], "is not known", '"function"')
        _check_called(f"{where}.function", call.get("function"))


def _check_called(path: str, function: Any) -> None:
    """Arguments are the text of an object, or the object itself."""
    if type(function) is not dict:
        raise refusal(path, function, "is not a called function", "an object with name and arguments")
    if type(function.get("name")) is not str:
        raise refusal(f"{path}.name", function.get("name"), "is not a string", "a string")
    arguments = function.get("arguments")
    if arguments is not None and type(arguments) not in (str, dict):
        raise refusal(f"{path}.arguments", arguments, "are not arguments", "a JSON object, best as a string")
    check_nesting(f"{path}.arguments", arguments)


def _check_message(path: str, message: Any) -> None:
    if type(message) is not dict:
        raise refusal(path, message, "is not a message", MESSAGES_ACCEPT)
    role = message.get("role")
    if role is None:
        raise MissingParameter(f"{path}.role: is missing; accepted: {', '.join(ROLES)}", param=f"{path}.role")
    if role not in ROLES:
        raise refusal(f"{path}.role", role, "is not a role", ", ".join(ROLES))
    _check_content(path, message)
    for key in ("name", "tool_call_id", "refusal", "reasoning_content"):
        if message.get(key) is not None and type(message[key]) is not str:
            raise refusal(f"{path}.{key}", message[key], "is not a string", "a string")
    if message.get("tool_calls") is not None:
        _check_tool_calls(f"{path}.tool_calls", message["tool_calls"])
    if message.get("function_call") is not None:
        _check_called(f"{path}.function_call", message["function_call"])


def _parse_messages(name: str, value: Any) -> tuple[dict[str, Any], ...]:
    if type(value) is not list or not value:
        raise refusal(name, value, "is not a list of messages", MESSAGES_ACCEPT)
    for index, message in enumerate(value):
        if not _is_usual(message):
            _check_message(f"{name}[{index}]", message)
    return tuple(value)


def _is_usual(message: Any) -> bool:
    """Whether it is a role and a text, as nearly all are."""
    if type(message) is not dict or message.keys() != _USUAL:
        return False
    return message["role"] in ROLES and type(message["content"]) is str


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
    """Characters of all text in the messages' contents and in the calls that they hold."""
    total = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            total += len(content)
        elif content is not None:
            total += sum(len(part[part["type"]]) for part in content if part["type"] != "image_url")
        if message.keys() == _USUAL:
            continue
        for function in _called(message):
            arguments = function.get("arguments") or ""
            total += len(function["name"])
            total += len(arguments) if isinstance(arguments, str) else num_json_characters(arguments)
    return total


def _called(message: dict[str, Any]) -> list[dict[str, Any]]:
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    older = message.get("function_call")
    return functions if older is None else [*functions, older]


def num_json_characters(value: Any) -> int:
    """Of `value` as JSON without spaces."""
    return len(msgspec.json.encode(value).decode())


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
                "tool_calls": {"type": ["array", "null"], "items": {"type": "object", "required": ["function"]}},
                "function_call": {"type": ["object", "null"]},
                "reasoning_content": {"type": ["string", "null"]},
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
