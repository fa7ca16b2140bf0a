"""What a chat template can show, found out by having it show something. Knows no models: templates are told apart by
what they do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import SecurityError
from msgspec import Struct

from hodios.dialog.template import ChatTemplate
from hodios.errors import InvalidRequest

_SYSTEM, _ORDER, _USER, _QUESTION, _ANSWER, _RESULT = "Qsyst", "Qordr", "Quser", "Qques", "Qansw", "Qresu"
_NAME, _OTHER_NAME, _KEY, _VALUE, _OTHER_VALUE, _OTHER_RESULT = "qname", "qothr", "qkey", "Qvalu", "Qvalo", "Qreso"
_DESCRIPTION, _DOCUMENT = "Qdesc", "Qdocu"
_NEEDLES = (_SYSTEM, _USER, _QUESTION, _ANSWER, _RESULT, _NAME, _KEY, _VALUE, _DESCRIPTION)
_MOST_FORBIDDEN = 3
"""Times that a template may try what the sandbox forbids, each of which may take seconds."""
_NEAR = 8
_CONTEXT = 64
"""Characters before a text in which the beginning of a token could stand."""

_Chat = list[dict[str, Any]]

_DIALECTS = (
    ("hermes", r'<tool_call>\s*\{{"name": "{name}", "arguments": \{{'),
    ("llama3", r'\{{"name": "{name}", "parameters": \{{'),
    ("mistral", r'\[TOOL_CALLS\] ?(?:\[\{{"name": "{name}", "arguments": \{{|{name}(?:\[CALL_ID\]\w+)?\[ARGS\]\{{)'),
)
"""How the formats that can be read write a call."""


class Abilities(Struct, frozen=True, kw_only=True):
    """What to do with a conversation before a template gets it."""

    is_usable: bool = True
    """Renders a simple question at all."""
    takes_no_tools: bool = True
    """Renders it without tools too; else at least an empty list of them must be there."""
    takes_parts: bool = False
    """Content must be a list of parts."""
    needs_text: tuple[str, ...] = ()
    """Roles whose turns must not be empty."""
    has_system: bool = True
    has_late_system: bool = True
    """System messages are shown wherever they stand, and however many they are."""
    has_system_last: bool = False
    """Shows the system message in the last turn of the user, and nowhere where that is not the last turn of all."""
    must_alternate: bool = False
    """After the system message, user and assistant must take turns, and the user begins."""
    needs_user: bool = False
    """There must be a turn of the user."""
    needs_user_before_tools: bool = False
    """With tools, the first turn must be the user's: they are written into it."""
    has_tools: bool = False
    """Shows the tools it is given, and writes calls in the way of `dialect`."""
    has_calls: bool = False
    """Shows calls and their results, in the way of `dialect`."""
    has_parallel_calls: bool = False
    calls_without_content: bool = False
    """Calls are shown only where content is null."""
    drops_call_content: bool = False
    """Of a turn with calls the content is not shown."""
    takes_text_arguments: bool = False
    """Arguments may be text that is no JSON object."""
    takes_any_id: bool = True
    dialect: str = ""
    """The name of the format that its calls are written in; "" for one that nobody reads."""
    has_documents: bool = False
    contexts: tuple[str, ...] = ()
    """What stands right before what clients wrote."""


def learn_abilities(template: ChatTemplate) -> Abilities:
    """Has `template` render some conversations, some tens at most; one that goes over its bounds is not asked again."""
    try:
        return _Probe(template).learn()
    except _OutOfBounds:
        return Abilities()


class _OutOfBounds(Exception):
    pass


class _Probe:
    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._takes_parts = False
        self._tools: _Chat | None = None
        """Given to templates that render nothing without tools."""
        self._contexts: set[str] = set()
        self._num_forbidden = 0

    def learn(self) -> Abilities:
        for self._takes_parts, self._tools in ((False, None), (True, None), (False, []), (False, [_tool(_NAME)])):
            if self._shows([_user(_USER)], _USER):
                break
        self._render([{**_user(_USER), "name": _NAME}])  # for what stands before names
        has_system = self._shows([_system(_SYSTEM), _user(_USER)], _SYSTEM, _USER)
        has_system_last = has_system and self._has_system_last()
        return Abilities(
            is_usable=self._shows([_user(_USER)], _USER),
            takes_no_tools=self._tools is None,
            takes_parts=self._takes_parts,
            needs_text=self._needs_text(),
            has_system=has_system and not has_system_last,
            has_late_system=has_system and self._has_late_system(),
            has_system_last=has_system_last,
            must_alternate=self._must_alternate(),
            needs_user=not (self._shows([_system(_SYSTEM)], _SYSTEM) and self._shows([_said(_ANSWER)], _ANSWER)),
            needs_user_before_tools=self._needs_user_before_tools(),
            has_documents=self._shows([_user(_USER)], _DOCUMENT, documents=[{"title": "x", "text": _DOCUMENT}]),
            contexts=tuple(sorted(self._contexts)),
            **self._learn_tools(),
        )

    def _needs_text(self) -> tuple[str, ...]:
        empty = {"user": [_user(""), _said(_ANSWER)], "assistant": [_user(_USER), _said("")]}
        return tuple(role for role, chat in empty.items() if not self._shows([*chat, _user(_QUESTION)], _QUESTION))

    def _has_late_system(self) -> bool:
        order = [_system(_ORDER)]
        late = [_user(_USER), _said(_ANSWER), *order, _user(_QUESTION)]
        twice = [_system(_SYSTEM), *order, _user(_USER)]
        first = [*order, _said(_ANSWER), _user(_USER)]
        last = [_user(_USER), *order]
        return (
            self._shows(late, _USER, _ANSWER, _ORDER, _QUESTION)
            and self._shows(twice, _SYSTEM, _ORDER, _USER)
            and self._shows(first, _ORDER, _ANSWER, _USER)
            and self._shows(last, _USER, _ORDER)
        )

    def _has_system_last(self) -> bool:
        chat = [_system(_SYSTEM), _user(_USER), _said(_ANSWER), _user(_QUESTION)]
        text = self._render(chat) or ""
        is_late = _has_all(text, _SYSTEM, _USER) and text.index(_SYSTEM) > text.index(_USER)
        return is_late and not self._shows(chat[:3], _SYSTEM)

    def _must_alternate(self) -> bool:
        users = [_user(_USER), _user(_QUESTION)]
        answers = [_user(_USER), _said(_ANSWER), _said(_ORDER), _user(_QUESTION)]
        early = [_said(_ANSWER), _user(_USER)]
        return not (
            self._shows(users, _USER, _QUESTION)
            and self._shows(answers, _USER, _ANSWER, _ORDER, _QUESTION)
            and self._shows(early, _ANSWER, _USER)
        )

    def _needs_user_before_tools(self) -> bool:
        """What the assistant said first must not pass for the user's words because of tools."""
        chat = [_said(_ANSWER), _user(_USER)]
        without, with_tools = self._render(chat), self._render(chat, tools=[_tool(_NAME)])
        if without is None or with_tools is None or _ANSWER not in without:
            return False
        before = without[: without.index(_ANSWER)][-_NEAR:]
        return f"{before}{_ANSWER}" not in with_tools

    def _learn_tools(self) -> dict[str, Any]:
        tools = [_tool(_NAME), _tool(_OTHER_NAME)]
        for content in ("", None):
            chat = _call_chat(content, [(_NAME, _VALUE)])
            text = self._render(chat, tools=tools)
            dialect = "" if text is None else _dialect_of(text)
            if text is None or not dialect or not _has_all(text, _USER, _KEY, _VALUE, _RESULT):
                continue
            several = _call_chat(content, [(_NAME, _VALUE), (_OTHER_NAME, _OTHER_VALUE)])
            return {
                "dialect": dialect,
                "has_calls": True,
                "calls_without_content": content is None,
                "drops_call_content": content is not None
                and not self._shows(_call_chat(_ANSWER, [(_NAME, _VALUE)]), _ANSWER, tools=tools),
                "has_tools": self._shows([_user(_USER)], _USER, _NAME, _DESCRIPTION, _KEY, tools=tools),
                "has_parallel_calls": self._shows(
                    several, _NAME, _OTHER_NAME, _VALUE, _OTHER_VALUE, _RESULT, _OTHER_RESULT, tools=tools
                ),
                "takes_text_arguments": self._shows(
                    _call_chat(content, [(_NAME, _VALUE)], arguments=_VALUE), _NAME, _VALUE, tools=tools
                ),
                "takes_any_id": self._shows(
                    _call_chat(content, [(_NAME, _VALUE)], id="call_aaaaaaaaaaaaaaaa"), _NAME, _RESULT, tools=tools
                ),
            }
        return {}

    def _shows(self, chat: _Chat, *needles: str, **options: Any) -> bool:
        text = self._render(chat, **options)
        return text is not None and _has_all(text, *needles)

    def _render(self, chat: _Chat, **options: Any) -> str | None:
        if self._takes_parts:
            chat = [with_parts(message) for message in chat]
        try:
            text = self._template.render(chat, **{"tools": self._tools, **options})
        except InvalidRequest as error:
            self._num_forbidden += isinstance(error.__cause__, SecurityError)
            if self._num_forbidden >= _MOST_FORBIDDEN:
                raise _OutOfBounds from error
            return None
        for needle in _NEEDLES:
            for found in re.finditer(needle, text):
                self._contexts.add(text[max(0, found.start() - _CONTEXT) : found.start()])
        return text


def with_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its text as a part."""
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


def _has_all(text: str, *needles: str) -> bool:
    return all(needle in text for needle in needles)


def _dialect_of(text: str) -> str:
    name = re.escape(_NAME)
    return next((dialect for dialect, form in _DIALECTS if re.search(form.format(name=name), text)), "")


def _system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {_KEY: {"type": "string", "description": "x"}}, "required": [_KEY]}
    return {"type": "function", "function": {"name": name, "description": _DESCRIPTION, "parameters": schema}}


def _call_chat(
    content: str | None, calls: Sequence[tuple[str, str]], *, arguments: str = "", id: str = "abcdefgh"
) -> _Chat:
    """A question, calls of (name, value), and their results."""
    made = [
        {
            "id": f"{id}{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments or {_KEY: value}},
        }
        for number, (name, value) in enumerate(calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": f"{id}{number}", "name": name, "content": result}
        for number, ((name, _), result) in enumerate(zip(calls, (_RESULT, _OTHER_RESULT), strict=False))
    ]
    return [_user(_USER), {"role": "assistant", "content": content, "tool_calls": made}, *results]
