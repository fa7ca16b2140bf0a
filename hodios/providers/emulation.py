"""What a server does not know, put into words: tools, calls, their results and forms of answers become text.

Sans-IO; a request comes out that any chat server can answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from hodios.dialog import structured
from hodios.dialog.formats.base import Format
from hodios.dialog.messages import normalize
from hodios.providers.call_deltas import Called
from hodios.providers.openai import wire_messages
from hodios.types import Request

Messages = tuple[dict[str, Any], ...]


def with_tools_as_text(request: Request, format: Format) -> Request:
    """Tools, and the calls and results of earlier turns, as `format` writes them."""
    told = []
    if request.tools and request.tool_choice != "none":
        told.append(format.instructions(request.tools, is_parallel=request.parallel_tool_calls))
        told += choice_in_words(request)
    messages = request.messages or ()
    if not told and not any(map(_has_part_in_call, messages)):
        return structs.replace(request, tools=()) if request.tools else request
    return structs.replace(request, messages=with_system_text(_calls_as_text(messages, format), *told), tools=())


def choice_in_words(request: Request) -> list[str]:
    if request.tool_choice != "required":
        return []
    what = f"the tool {request.tool_name} and no other" if request.tool_name else "at least one of the tools"
    return [f"In this turn you must use {what}; do not answer in words."]


def with_answer_in_words(request: Request) -> Request:
    """The form of the answer. Raises UnsupportedParameter for a grammar that cannot be put into words."""
    assert request.grammar is not None, "a form is asked for"
    messages = with_system_text(request.messages or (), structured.instructions(request.grammar))
    return structs.replace(request, messages=messages, grammar=None)


def with_system_text(messages: Sequence[Mapping[str, Any]], *texts: str) -> Messages:
    """`texts` at the end of the system message, or in a new one."""
    told = "\n\n".join(texts)
    if not told:
        return tuple(dict(message) for message in messages)
    first, *rest = (dict(message) for message in messages)
    if first["role"] not in ("system", "developer"):
        return ({"role": "system", "content": told}, first, *rest)
    return (first | {"content": _joined(first.get("content"), told)}, *rest)


def asked_again(request: Request, answer: str, calls: Sequence[Called], problem: str) -> Request:
    """The conversation with an answer that does not fit and what is wrong with it, for another try."""
    answered: dict[str, Any] = {"role": "assistant", "content": answer}
    if not calls:
        complaint = [{"role": "user", "content": f"That is not right: {problem}. Answer again."}]
    else:
        answered["tool_calls"] = [
            {"id": _id(call, number), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for number, call in enumerate(calls)
        ]
        told = f"Error: {problem}. Call again, correctly."
        complaint = [
            {"role": "tool", "tool_call_id": _id(call, number), "content": told} for number, call in enumerate(calls)
        ]
    return structs.replace(request, messages=(*(request.messages or ()), answered, *complaint))


def _id(call: Called, number: int) -> str:
    return call.id or f"call_{number}"


def _has_part_in_call(message: Mapping[str, Any]) -> bool:
    """Whether it calls, or is a result."""
    return bool(message["role"] in ("tool", "function") or message.get("tool_calls") or message.get("function_call"))


def _calls_as_text(messages: Sequence[Mapping[str, Any]], format: Format) -> Messages:
    """Calls at the end of the assistant's text; results as one message of the user."""
    chat: list[dict[str, Any]] = []
    is_result = False
    texts = normalize([{**message, "content": ""} for message in messages])
    for message, wire, normal in zip(messages, wire_messages(messages), texts, strict=True):
        if normal["role"] == "tool":
            written = format.write_result({**normal, "content": _plain(message.get("content"))})
            if is_result:
                chat[-1]["content"] += f"\n{written}"
            else:
                chat.append({"role": "user", "content": written})
        elif calls := normal.get("tool_calls"):
            text = format.write_calls(calls)
            rest = {key: value for key, value in wire.items() if key != "tool_calls"}
            chat.append({**rest, "content": _joined(wire.get("content"), text, "\n")})
        else:
            chat.append(wire)
        is_result = normal["role"] == "tool"
    return tuple(chat)


def _joined(content: object, text: str, between: str = "\n\n") -> object:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": text}]
    return f"{content}{between}{text}" if content else text


def _plain(content: object) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return "\n".join(part.get("text", "") for part in content if isinstance(part, Mapping))
