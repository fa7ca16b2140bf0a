"""The beginning of an answer as the model itself would have written it: the counterpart of the parsers that took it
apart, down to a call that is half-written.

Calls stand in the very form that `dialog.call_grammars` holds them to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from hodios.dialog.formats import llama3, mistral, tagged
from hodios.dialog.formats.base import Format
from hodios.dialog.reasoning import MARKERS, THINK
from hodios.types import Beginning, SentCall

_WORD = re.compile(r"[\w.\-]+")
_MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
_MARKERS = frozenset((tagged.OPEN, tagged.CLOSE, mistral.CALLS, mistral.ARGS, *MARKERS))


class Stretch(Struct, frozen=True):
    """Some of the text."""

    text: str
    is_markup: bool = False
    """Whether it is one token of the vocabulary, and no text."""


def write_beginning(
    beginning: Beginning,
    format: Format,
    *,
    is_token: Callable[[str], bool],
    opened: str = "",
    thought: str = THINK,
) -> list[Stretch]:
    """Adjacent stretches of text are one. It ends with text, if there is any.

    `is_token`: whether the vocabulary has a marker as a token of its own. `opened` names the thought that the prompt
    has begun, "" for none; `thought` the tag that the model thinks in otherwise.
    """
    has_answer = bool(beginning.text or beginning.calls)
    parts = [*_thoughts(beginning.reasoning, opened, thought, is_over=has_answer), beginning.text]
    if beginning.calls:
        parts += _calls(beginning, format.name, is_token)
    stretches = [Stretch(part, part in _MARKERS and is_token(part)) for part in parts if part]
    joined: list[Stretch] = []
    for stretch in stretches:
        if joined and not (stretch.is_markup or joined[-1].is_markup):
            joined[-1] = Stretch(joined[-1].text + stretch.text)
        else:
            joined.append(stretch)
    return joined


def _thoughts(reasoning: str, opened: str, thought: str, *, is_over: bool) -> list[str]:
    """What was thought in several tags comes back in one: where one ended, nobody knows any more."""
    if not reasoning and not opened:
        return []
    name = opened or thought
    beginning = [reasoning] if opened else [f"<{name}>", "\n", reasoning]
    return [*beginning, "\n", f"</{name}>", "\n\n"] if is_over else beginning


def _calls(beginning: Beginning, format_name: str, is_token: Callable[[str], bool]) -> list[str]:
    match format_name:
        case "llama3" if beginning.text:
            return _llama3_functions(beginning.calls)
        case "llama3":
            return _llama3(beginning.calls)
        case "mistral" if is_token(mistral.ARGS) and all(_WORD.fullmatch(call.name) for call in beginning.calls):
            return _late_mistral(beginning.calls)
        case "mistral":
            return _mistral(beginning.calls)
        case _:
            return _tagged(beginning)


def _tagged(beginning: Beginning) -> list[str]:
    parts: list[str] = ["\n"] if beginning.text else []
    for number, call in enumerate(beginning.calls):
        if number:
            parts += ["}\n", tagged.CLOSE, "\n"]
        parts += [tagged.OPEN, f'\n{{"name": {_json(call.name)}, "arguments": {call.arguments}']
    return parts


def _llama3(calls: Sequence[SentCall]) -> list[str]:
    return ["}; ".join(f'{{"name": {_json(call.name)}, "parameters": {call.arguments}' for call in calls)]


def _llama3_functions(calls: Sequence[SentCall]) -> list[str]:
    """No bare object is a call after text."""
    return [llama3.CLOSE.join(f"{llama3.FUNCTION}{call.name}>{call.arguments}" for call in calls)]


def _mistral(calls: Sequence[SentCall]) -> list[str]:
    parts = [mistral.CALLS, " ["]
    for number, call in enumerate(calls):
        if number:
            parts.append(f', "id": {_json(_mistral_id(calls[number - 1], number - 1))}}}, ')
        parts.append(f'{{"name": {_json(call.name)}, "arguments": {call.arguments}')
    return parts


def _mistral_id(call: SentCall, number: int) -> str:
    """Another format's ids are refused by the templates."""
    return call.id if _MISTRAL_ID.fullmatch(call.id) else mistral.MistralFormat().new_id(call.id, number)


def _late_mistral(calls: Sequence[SentCall]) -> list[str]:
    return [part for call in calls for part in (mistral.CALLS, call.name, mistral.ARGS, call.arguments)]


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
