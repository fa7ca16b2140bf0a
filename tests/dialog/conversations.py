"""Conversations that an OpenAI client may send, in all their shapes, and tokenizers as far as prompts look at them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from hodios.types import Tool

WORD = st.text(st.sampled_from("abé你😀 \n\"'\\{}[]<>|/&%$#:"), max_size=12)
"""Text with what templates and JSON trip over."""
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "city name", "é"]), JSON_VALUES, max_size=3)
NAMES = st.sampled_from(["f", "get_weather", "a-b.c", "brave_search", "x" * 64])
IDS = st.sampled_from(["call_1", "call_2", "abcdefghi", "chatcmpl-tool-0123456789abcdef0123456789abcdef", ""])
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "number", "object", "array", ["string", "null"], ["integer"]]),
        "description": WORD,
        "enum": st.lists(WORD, min_size=1, max_size=2),
        "items": st.sampled_from([{"type": "string"}, {}, True]),
        "properties": st.sampled_from([{}, {"inner": {"type": "integer"}}, {"inner": {}}]),
        "additionalProperties": st.sampled_from([True, False, {"type": "number"}]),
        "anyOf": st.just([{"type": "string"}, {"type": "null"}]),
        "default": JSON_VALUES,
        "minimum": st.integers(),
        "nullable": st.booleans(),
        "required": st.just(["inner"]),
    },
) | st.sampled_from([{}, True, {"$ref": "#/$defs/x"}, {"const": None}])
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from(["a", "b", "city name", "type", "é"]), SCHEMAS, max_size=3),
        "required": st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "additionalProperties": st.booleans(),
        "$defs": st.just({"x": {"type": "string"}}),
    },
)
TOOLS = st.lists(st.builds(Tool, NAMES, WORD, PARAMETERS), max_size=2)


def _texts(minimum: int = 0) -> st.SearchStrategy[Any]:
    part = st.builds(lambda text: {"type": "text", "text": text}, WORD)
    return WORD | st.lists(part, min_size=max(1, minimum), max_size=2)


def _with(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


FUNCTION = _with(
    {"name": NAMES},
    arguments=ARGUMENTS.map(json.dumps)
    | ARGUMENTS
    | WORD
    | st.none()
    | st.sampled_from(["", "null", "[1]", "7", '"x"']),
)
CALL = _with({"function": FUNCTION}, id=IDS | st.none(), type=st.just("function"), index=st.just(0))
EXTRAS = {"name": st.none() | st.just("ann"), "audio": st.none(), "annotations": st.just([])}
CALLING = {
    "content": st.none() | WORD | _texts(),
    "refusal": st.none() | WORD,
    "reasoning_content": st.none() | WORD,
    **EXTRAS,
}
MESSAGES = st.one_of(
    _with({"role": st.sampled_from(["system", "developer", "user"]), "content": _texts()}, name=EXTRAS["name"]),
    _with(
        {"role": st.just("assistant"), "content": _texts()},
        tool_calls=st.none() | st.just([]),
        function_call=st.none(),
        refusal=st.none(),
        reasoning_content=st.none() | WORD,
        **EXTRAS,
    ),
    _with({"role": st.just("assistant"), "tool_calls": st.lists(CALL, min_size=1, max_size=3)}, **CALLING),
    _with({"role": st.just("assistant"), "function_call": FUNCTION}, **CALLING),
    _with({"role": st.just("assistant"), "content": st.none(), "refusal": WORD.filter(bool)}),
    _with({"role": st.just("tool"), "content": _texts()}, tool_call_id=IDS | st.none(), name=NAMES | st.none()),
    _with({"role": st.just("function"), "content": _texts() | st.none()}, name=NAMES | st.none()),
)
CONVERSATIONS = st.lists(MESSAGES, min_size=1, max_size=6)


MARKUP = re.compile(r"<\|[^<>|\s]+\|?>|</?[a-zA-Z_]+\|?>|<｜[^｜\s]+｜>|\[/?[A-Z_]{3,}\]|<[a-z_]+\|>")
"""What control tokens look like in published templates."""
DAY = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def clock() -> datetime:
    return DAY


class FileTokens:
    """What a model's file with these templates says of its tokens."""

    add_bos = True
    is_sentence_piece = False
    adds_space = False

    def __init__(self, templates: dict[str, str], markup: frozenset[str] = frozenset({"<s>", "</s>"})) -> None:
        """`markup` are its control tokens."""
        self.chat_templates = templates
        self.special_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        self.markup = markup

    def has_token(self, text: str) -> bool:
        return text in self.markup

    def token_id(self, text: str) -> int | None:
        return sorted(self.markup).index(text) if text in self.markup else None

    def is_special(self, id: int) -> bool:
        return True
