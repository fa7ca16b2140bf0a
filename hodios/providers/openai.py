"""The chat dialect of other servers, `/chat/completions`: requests become bodies, chunks become what was said.

Sans-IO. Knows no emulation: what the server does not know is gone from the request before it comes here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.messages import normalize, tool_definitions
from hodios.events import TokenLogprob
from hodios.providers.chunks import (
    UNKNOWN_TOKEN,
    AnswerReader,
    OpenChoice,
    Said,
    has_more_than_text,
    number,
    string,
    with_chosen,
)
from hodios.providers.served import Served
from hodios.providers.surrogates import joined
from hodios.types import Grammar, Request, Tool

ROUTE = "/chat/completions"
_PLAIN_KEYS = {"role", "content"}
_PLAIN_ROLES = ("system", "user", "assistant")


def chat_body(request: Request, served: Served, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` as `honoured` writes them."""
    body: dict[str, Any] = {
        "model": served.upstream_id,
        "messages": with_images(wire_messages(request.messages or ()), request.images),
        **parameters,
    }
    if request.n > 1:
        body["n"] = request.n
    if request.tools:
        body |= _tool_fields(request, served)
    if request.grammar is not None:
        body["response_format"] = response_format(request.grammar)
    return body | stream_fields(served)


def stream_fields(served: Served) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if served.is_streaming else {"stream": False}


def _tool_fields(request: Request, served: Served) -> dict[str, Any]:
    fields: dict[str, Any] = {"tools": [_definition(tool) for tool in request.tools]}
    if request.tool_name:
        fields["tool_choice"] = {"type": "function", "function": {"name": request.tool_name}}
    elif request.tool_choice != "auto":
        fields["tool_choice"] = request.tool_choice
    if not request.parallel_tool_calls and served.honours("parallel_tool_calls"):
        fields["parallel_tool_calls"] = False
    return fields


def _definition(tool: Tool) -> dict[str, Any]:
    (definition,) = tool_definitions((tool,))
    if tool.strict:
        definition["function"]["strict"] = True
    return definition


def response_format(grammar: Grammar) -> dict[str, Any]:
    match grammar.kind:
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = json.loads(grammar.source)
            # Where it is strict, OpenAI refuses schemas that do not close their objects.
            is_strict = isinstance(schema, dict) and schema.get("additionalProperties") is False
            return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": is_strict}}
        case "regex":
            return {"type": "regex", "regex": grammar.source}
        case "lark":
            return {"type": "grammar", "grammar": grammar.source}


def wire_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as every server takes them: roles that all know, calls with ids, results that name their call.

    Contents and the text of arguments stay as the client sent them, byte for byte.
    """
    if all(map(_is_plain, messages)):
        return [dict(message) for message in messages]
    texts = [{**message, "content": ""} for message in messages]
    return [_wire_message(*pair) for pair in zip(messages, normalize(texts), strict=True)]


def _is_plain(message: Mapping[str, Any]) -> bool:
    """Whether every server takes it as it is."""
    return message.keys() == _PLAIN_KEYS and message["role"] in _PLAIN_ROLES and message["content"] is not None


def _wire_message(message: Mapping[str, Any], chat: dict[str, Any]) -> dict[str, Any]:
    calls = chat.get("tool_calls")
    content = message.get("content")
    chat["content"] = content if content is not None or calls else string(message.get("refusal"))
    if "name" not in message:
        chat.pop("name", None)
    sent = message.get("tool_calls") or ({"function": message.get("function_call")},)
    for call, original in zip(calls or (), sent, strict=False):
        arguments = original["function"].get("arguments")
        written = arguments if isinstance(arguments, str) and arguments else call["function"]["arguments"]
        call["function"]["arguments"] = written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)
    return chat


def with_images(messages: list[dict[str, Any]], images: Sequence[str]) -> list[dict[str, Any]]:
    """The images of the parameter `data` at the end of the last user message, or in one of their own."""
    if not images:
        return messages
    parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user":
            content = messages[place].get("content")
            before = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
            changed = {**messages[place], "content": [*before, *parts]}
            return [*messages[:place], changed, *messages[place + 1 :]]
    return [*messages, {"role": "user", "content": parts}]


class ChatReader(AnswerReader):
    """The answer to one chat."""

    def __init__(self, num_choices: int, tools: Sequence[Tool]) -> None:
        super().__init__(num_choices, [tool.name for tool in tools])

    def _text_alone(self, choice: object) -> str | None:
        if type(choice) is not dict or has_more_than_text(choice):
            return None
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1:
            return None
        text = delta.get("content")
        return text if type(text) is str else None

    def _read(self, state: OpenChoice, choice: Mapping[str, Any]) -> Said | None:
        found = choice.get("delta")
        if not isinstance(found, dict):
            found = choice.get("message")
        message: Mapping[str, Any] = found if isinstance(found, dict) else {}
        state.calls.push(message.get("tool_calls"))
        if isinstance(message.get("function_call"), dict):
            state.calls.push([{"index": 0, "function": message["function_call"]}])
        text, parts = _content(message.get("content"))
        thought = string(message.get("reasoning_content")) or string(message.get("reasoning")) or parts
        return state.say(text or string(message.get("refusal")), thought, _logprobs(choice.get("logprobs")))


def _content(content: object) -> tuple[str, str]:
    """(text, thoughts) of a content, which some servers send in parts."""
    if not isinstance(content, list):
        return string(content), ""
    text = thought = ""
    for part in content:
        if isinstance(part, dict):
            text += string(part.get("text"))
            thought += _content(part.get("thinking"))[0]
    return text, thought


def _logprobs(logprobs: object) -> tuple[TokenLogprob, ...]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    found = [_logprob(entry) for entry in (content if isinstance(content, list) else ())]
    return tuple(entry for entry in found if entry is not None)


def _logprob(entry: object) -> TokenLogprob | None:
    chosen = _token(entry)
    if chosen is None or not isinstance(entry, dict):
        return None
    text, raw, logprob = chosen
    listed = entry.get("top_logprobs")
    tokens = [_token(other) for other in (listed if isinstance(listed, list) else ())]
    top = [(UNKNOWN_TOKEN, *token) for token in tokens if token is not None]
    return TokenLogprob(UNKNOWN_TOKEN, text, raw, logprob, with_chosen(top, text, raw, logprob))


def _token(entry: object) -> tuple[str, bytes, float] | None:
    """(text, exact bytes, log-probability)"""
    if not isinstance(entry, dict):
        return None
    logprob = number(entry.get("logprob"))
    if logprob is None:
        return None
    text = joined(string(entry.get("token")))
    codes = entry.get("bytes")
    is_bytes = isinstance(codes, list) and all(isinstance(code, int) and 0 <= code < 256 for code in codes)
    return text, bytes(codes) if is_bytes and isinstance(codes, list) else text.encode(), logprob
