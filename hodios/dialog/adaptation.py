"""Makes of a conversation what a template can show: everything that was said, in the roles and the order it accepts.

Works on normalised messages. What the template shows by itself is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hodios.dialog.abilities import Abilities, with_parts
from hodios.dialog.formats.base import Format
from hodios.types import Tool

_BETWEEN = "\n\n"
"""Between turns of one role that become one turn."""

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
"""What Mistral's templates accept."""

Chat = list[dict[str, Any]]


class Manner(Struct, frozen=True, kw_only=True):
    """How one template is written to."""

    abilities: Abilities
    format: Format
    tool_role: str = "user"
    """Whose turn a result is that the template does not know as one."""
    merges_turns: bool = False
    """Two turns of one role, where nothing stands between them, become one."""
    reads_results: bool = False
    """Results that are JSON are given as values."""

    def plainest(self) -> Manner:
        """For templates that refuse a conversation: nothing but turns of user and assistant, with text in each."""
        abilities = replace(
            self.abilities,
            has_tools=False,
            has_documents=False,
            has_calls=False,
            has_late_system=False,
            must_alternate=True,
            needs_text=("user", "assistant"),
        )
        return replace(self, abilities=abilities, tool_role="user")


def adapt(
    chat: Sequence[dict[str, Any]], manner: Manner, before: Sequence[str] = (), *, has_tools: bool = False
) -> Chat:
    """The messages for the template. `before` is what the model must be told first, as part of the system message;
    `has_tools`: the template is given tools."""
    abilities = manner.abilities
    adapted = _fit_calls(chat, manner) if abilities.has_calls else _write_calls(chat, manner)
    merges_turns = abilities.must_alternate or manner.merges_turns
    adapted = _place_system(adapted, abilities, before, merges_turns=merges_turns)
    if abilities.must_alternate:
        adapted = _alternate(adapted)
    elif merges_turns:
        adapted = _begun_by_user(_merge(adapted))
    elif (has_tools and abilities.needs_user_before_tools) or (abilities.needs_user and not _has_user(adapted)):
        adapted = _begun_by_user(adapted)
    adapted = [_filled(message) if message["role"] in abilities.needs_text else message for message in adapted]
    adapted = [{key: value for key, value in message.items() if key != "is_result"} for message in adapted]
    return [with_parts(message) for message in adapted] if abilities.takes_parts else adapted


def _fit_calls(chat: Sequence[dict[str, Any]], manner: Manner) -> Chat:
    """Calls and results that the template knows, in the form in which it knows them."""
    abilities = manner.abilities
    fitted = [_fit_result(message, manner) if message["role"] == "tool" else message for message in chat]
    if manner.format.name == "mistral" or not abilities.takes_any_id:
        fitted = [_with_format_ids(message, manner.format) for message in fitted]
    if not abilities.takes_text_arguments:
        fitted = [_with_object_arguments(message) for message in fitted]
    if not abilities.has_parallel_calls:
        fitted = _one_by_one(fitted)
    if abilities.drops_call_content and not abilities.must_alternate:
        fitted = [_as_text(message, manner) if message["content"] else message for message in fitted]
    if abilities.calls_without_content:
        fitted = [part for message in fitted for part in _without_content(message)]
    return fitted


def _fit_result(message: dict[str, Any], manner: Manner) -> dict[str, Any]:
    result = {key: entry for key, entry in message.items() if key != "value"}
    return result | {"content": message["value"]} if manner.reads_results and "value" in message else result


def _with_format_ids(message: dict[str, Any], format: Format) -> dict[str, Any]:
    """Ids that templates accept; the same id stays the same wherever it stands."""
    if "tool_calls" in message:
        calls = [{**call, "id": _short_id(call["id"], format)} for call in message["tool_calls"]]
        return {**message, "tool_calls": calls}
    if message["role"] == "tool":
        return {**message, "tool_call_id": _short_id(message["tool_call_id"], format)}
    return message


def _short_id(id: str, format: Format) -> str:
    return id if _SHORT_ID.fullmatch(id) else format.new_id(id, 0)


def _with_object_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Arguments that are no object, which no well-formed call has, as an object that holds them."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if not isinstance(arguments, dict):
            call = {**call, "function": {**call["function"], "arguments": {"arguments": arguments}}}
        calls.append(call)
    return {**message, "tool_calls": calls}


def _one_by_one(chat: Sequence[dict[str, Any]]) -> Chat:
    """Several calls of one turn as turns of their own, each followed by its result."""
    split: Chat = []
    taken: set[int] = set()
    for index, message in enumerate(chat):
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            if index not in taken:
                split.append(message)
            continue
        results = _results_after(chat, index)
        for number, call in enumerate(calls):
            split.append({**message, "content": "" if number else message["content"], "tool_calls": [call]})
            for at in results:
                if at not in taken and chat[at]["tool_call_id"] == call["id"]:
                    taken.add(at)
                    split.append(chat[at])
                    break
    return split


def _results_after(chat: Sequence[dict[str, Any]], index: int) -> range:
    end = index + 1
    while end < len(chat) and chat[end]["role"] == "tool":
        end += 1
    return range(index + 1, end)


def _without_content(message: dict[str, Any]) -> Chat:
    if "tool_calls" not in message:
        return [message]
    calls = {**message, "content": None}
    return [{"role": "assistant", "content": message["content"]}, calls] if message["content"] else [calls]


def _write_calls(chat: Sequence[dict[str, Any]], manner: Manner) -> Chat:
    """Calls and results as text, in turns that every template has."""
    written: Chat = []
    for message in chat:
        if message["role"] == "tool":
            text = manner.format.write_result({**message, "content": message.get("value", message["content"])})
            if written and written[-1].get("is_result"):
                written[-1]["content"] += "\n" + text
            else:
                written.append({"role": manner.tool_role, "content": text, "is_result": True})
        else:
            written.append(_as_text(message, manner))
    return written


def _as_text(message: dict[str, Any], manner: Manner) -> dict[str, Any]:
    """An assistant's turn with its calls as part of the text."""
    if "tool_calls" not in message:
        return message
    calls = manner.format.write_calls(_with_object_arguments(message)["tool_calls"])
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return rest | {"content": "\n".join(filter(None, (message["content"], calls)))}


def _place_system(chat: Chat, abilities: Abilities, before: Sequence[str], *, merges_turns: bool) -> Chat:
    """System messages where the template shows them."""
    if abilities.has_system and abilities.has_late_system:
        if before and chat[0]["role"] == "system":
            return [{**chat[0], "content": _join((chat[0]["content"], *before))}, *chat[1:]]
        return [{"role": "system", "content": _join(before)}, *chat] if before else chat
    texts = [message["content"] for message in chat if message["role"] == "system"]
    others = [message for message in chat if message["role"] != "system"]
    if merges_turns:
        others = _merge(others)
    if not texts and not before:
        return others
    has_system = abilities.has_system or (abilities.has_system_last and chat[-1]["role"] == "user")
    if has_system and not before and len(texts) == 1 and chat[0]["role"] == "system":
        return chat
    text = _join((*texts, *before))
    if has_system:
        return [{"role": "system", "content": text}, *others]
    users = [index for index, message in enumerate(others) if message["role"] == "user"]
    at = users[-1] if users and abilities.has_system_last else 0
    if not users or others[at]["role"] != "user":
        return [{"role": "user", "content": text}, *others]
    return [*others[:at], {**others[at], "content": _join((text, others[at]["content"]))}, *others[at + 1 :]]


def _begun_by_user(chat: Chat) -> Chat:
    """The user's turn is the first after the system messages, an empty one if need be."""
    at = next((index for index, message in enumerate(chat) if message["role"] != "system"), len(chat))
    is_begun = at < len(chat) and chat[at]["role"] == "user" and not chat[at].get("is_result")
    return chat if is_begun else [*chat[:at], {"role": "user", "content": ""}, *chat[at:]]


def _join(texts: Iterable[str]) -> str:
    return _BETWEEN.join(filter(None, texts))


def _alternate(chat: Chat) -> Chat:
    """Turns of one role become one; where a turn is missing, an empty one stands."""
    alternating: Chat = []
    next_role = "user"
    for message in _begun_by_user(_merge(chat)):
        if _takes_turn(message):
            if message["role"] != next_role:
                alternating.append({"role": next_role, "content": ""})
            next_role = "user" if message["role"] == "assistant" else "assistant"
        alternating.append(message)
    return alternating


def _merge(chat: Chat) -> Chat:
    turns: Chat = []
    for message in chat:
        if turns and _can_merge(turns[-1], message):
            turns[-1] = _merged(turns[-1], message)
        else:
            turns.append(message)
    return turns


def _can_merge(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first["role"] == second["role"] and first["role"] in ("user", "assistant")


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    merged = {**first, **second, "content": _join((first["content"], second["content"]))}
    return merged | {"tool_calls": calls} if calls else merged


def _takes_turn(message: dict[str, Any]) -> bool:
    return message["role"] == "user" or (message["role"] == "assistant" and "tool_calls" not in message)


def _has_user(chat: Chat) -> bool:
    return any(message["role"] == "user" and not message.get("is_result") for message in chat)


def _filled(message: dict[str, Any]) -> dict[str, Any]:
    return message if message["content"] or "tool_calls" in message else {**message, "content": " "}


def as_tools(definitions: Sequence[dict[str, Any]]) -> tuple[Tool, ...]:
    """Definitions in OpenAI's form, as formats take them."""
    functions = [definition["function"] for definition in definitions]
    return tuple(Tool(entry["name"], entry["description"], entry["parameters"]) for entry in functions)
