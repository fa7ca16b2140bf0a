"""A whole answer that is text and nothing else, as nearly all are, read in one go. Sans-IO.

Says exactly what `openai.ChatReader` and `draft.Draft` would say of it, and nothing of any other answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hodios.dialog.splitter import SPACE
from hodios.events import Stopped, Text, Usage
from hodios.providers.chunks import CHARACTERS_PER_TOKEN, finish_reason_of, usage_of
from hodios.providers.surrogates import joined

_USUAL = {"role", "content"}
_MORE = ("tool_calls", "function_call", "refusal", "reasoning_content", "reasoning")
"""What a message may have beside its text."""
_NOTHING: tuple[object, ...] = (None, "", [])


class PlainAnswer(NamedTuple):
    text: Text
    stopped: Stopped
    usage: Usage


def plain_answer(document: Mapping[str, Any], index: int) -> PlainAnswer | None:
    """Of the only choice of a chat, which the client sees as choice `index`. None where one has to look closer."""
    choices = document.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return None
    get = choices[0].get
    message, reason = get("message"), get("finish_reason")
    if type(message) is not dict or type(reason) is not str or not reason:
        return None
    if get("index") or get("delta") or get("logprobs") or get("stop_reason") is not None:
        return None
    text, usage = message.get("content"), usage_of(document)
    if type(text) is not str or usage is None or not _is_only_text(message):
        return None
    finish_reason = finish_reason_of(reason)
    # What begins with a bracket may be a thought.
    if finish_reason == "error" or text.lstrip(SPACE)[:1] in ("", "<"):
        return None
    text = joined(text)
    num_tokens = -(-len(text) // CHARACTERS_PER_TOKEN)
    return PlainAnswer(Text(index, text, (), num_tokens), Stopped(index, finish_reason), usage)


def _is_only_text(message: Mapping[str, Any]) -> bool:
    return message.keys() == _USUAL or all(message.get(name) in _NOTHING for name in _MORE)
