"""Tools, calls, results and ids, written as the formats need them."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping
from typing import Any

from hodios.types import Tool

_ALPHANUMERIC = string.ascii_letters + string.digits


def to_json(value: object) -> str:
    """As chat templates write it: nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False)


def tool_object(tool: Tool) -> dict[str, Any]:
    """The object that a client would send for it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def call_object(call: Mapping[str, Any], *, arguments: str) -> str:
    """`{"name": …, arguments: …}`, the key of the arguments as the format has it."""
    function = call["function"]
    return to_json({"name": function["name"], arguments: function["arguments"]})


def result_content(message: Mapping[str, Any]) -> str:
    """A result as JSON: as it is where it is JSON already, else as a string."""
    content = message.get("content")
    if not isinstance(content, str):
        return to_json(content)
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return to_json(content)
    return content


def result_object(message: Mapping[str, Any]) -> str:
    """`{"name": …, "content": …}`, as Hermes' own programs send it."""
    return f'{{"name": {to_json(message.get("name") or "")}, "content": {result_content(message)}}}'


def alphanumeric_id(seed: str, number: int, length: int) -> str:
    """`length` letters and digits, at most 32: the same for the same call."""
    digest = hashlib.sha256(f"{number}:{seed}".encode()).digest()
    return "".join(_ALPHANUMERIC[byte % len(_ALPHANUMERIC)] for byte in digest[:length])


def call_id(seed: str, number: int) -> str:
    """In the form that OpenAI's own ids have."""
    return "call_" + alphanumeric_id(seed, number, 24)
