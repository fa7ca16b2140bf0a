"""Llama 3.1 to 3.3, in every form that they were trained to call tools in, or do so regardless:

- `{"name": …, "parameters": {…}}` at the very start of the answer, several separated by `;`;
- the same after `<|python_tag|>`, and there `brave_search.call(query="…")`, the form of tools that are built in;
- `<function=name>{…}</function>`;
- `[f(a="x"), g(b=1)]` at the very start, or after `<|python_tag|>`.

Source: meta-llama/llama-models, `prompt_format.md` of 3.1, 3.2 and 3.3 and `tool_utils.py`. Bare forms count only where
tools were given. A bare object must have no keys but those of a call, and a bare list must name tools that exist, for
either could be the answer itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.formats.call_parser import CallParser
from hodios.dialog.formats.call_readers import BARE_KEYS, ArgumentsReader, ObjectReader
from hodios.dialog.formats.keyword_calls import KeywordReader
from hodios.dialog.formats.writing import call_id, call_object, result_object, tool_object
from hodios.dialog.json_scanner import end_of
from hodios.dialog.pieces import Parser, Piece
from hodios.dialog.splitter import SPACE, Tags
from hodios.types import Tool

PYTHON, FUNCTION, CLOSE = "<|python_tag|>", "<function=", "</function>"
_OPENING = Tags([PYTHON, FUNCTION])
_CLOSING = Tags([PYTHON, FUNCTION, CLOSE])
_NAME = re.compile(r"[\w.\-]*")
_BUILT_IN = ".call"
_HOW = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument '
    "name and its value}. Do not use variables."
)
_SEVERAL = " Separate several function calls by a semicolon."
_ONE = " Call one function at a time."


class Llama3Format:
    name = "llama3"
    markers = (PYTHON,)

    def parser(self, tools: Sequence[Tool], *, is_trusted: bool) -> Parser:
        return Llama3Parser(tools, is_trusted=is_trusted)

    def instructions(self, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        """What the chat template puts into the first user's message, and how several calls are separated."""
        listed = "\n\n".join(json.dumps(tool_object(tool), ensure_ascii=False, indent=4) for tool in tools)
        return f"{_HOW}{_SEVERAL if is_parallel else _ONE}\n\n{listed}\n\n"

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return "; ".join(call_object(call, arguments="parameters") for call in calls)

    def write_result(self, message: Mapping[str, Any]) -> str:
        return result_object(message)

    def new_id(self, seed: str, number: int) -> str:
        return call_id(seed, number)


class Llama3Parser(CallParser):
    def __init__(self, tools: Sequence[Tool], *, is_trusted: bool) -> None:
        super().__init__(_OPENING, _CLOSING, is_trusted=is_trusted)
        self._names = frozenset(tool.name for tool in tools)
        self._step = self._read_start
        self._after_call = self._read_text
        self._name: list[str] = []

    def _read_start(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            self._hold(character)
            return position + 1
        if self._names and character == "{":
            self._begin_object(BARE_KEYS)
        elif self._names and character == "[":
            self._hold(character)
            self._step = self._read_item
            return position + 1
        else:
            self._give_back()
        return position

    def _reach(self, tag: str) -> None:
        self._name.clear()
        self._step = self._read_after_python if tag == PYTHON else self._read_function_name

    def _read_after_python(self, text: str, position: int) -> int:
        character = text[position]
        if character == "{":
            self._begin_object(None)
            return position
        if character in SPACE or character == "[":
            self._hold(character)
            self._step = self._read_item if character == "[" else self._step
            return position + 1
        self._after_call = self._read_text
        self._begin(KeywordReader(self._num_calls, self._find_tool))
        return position

    def _find_tool(self, written: str) -> str:
        return self._known(written) or (written[: -len(_BUILT_IN)] if written.endswith(_BUILT_IN) else "")

    def _known(self, written: str) -> str:
        return written if written in self._names else ""

    def _begin_object(self, allowed: frozenset[str] | None) -> None:
        self._after_call = self._read_separator
        self._begin(ObjectReader(self._num_calls, is_streamed=self._is_trusted, allowed=allowed))

    def _read_separator(self, text: str, position: int) -> int:
        """Between two objects. What separates them is given back where no object follows."""
        character = text[position]
        if character in SPACE or character in ";,":
            self._hold(character)
            return position + 1
        if character == "{":
            self._begin_object(BARE_KEYS)
        else:
            self._give_back()
        return position

    def _read_item(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            self._hold(text[position])
            return position + 1
        self._after_call = self._read_comma
        self._begin(KeywordReader(self._num_calls, self._known))
        return position

    def _read_comma(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            return position + 1
        if character == ",":
            self._step = self._read_item
        elif character == "]":
            self._step = self._read_text
        else:
            self._give_back()
            return position
        return position + 1

    def _read_function_name(self, text: str, position: int) -> int:
        start, position = position, end_of(_NAME, text, position)
        self._name.append(text[start:position])
        self._hold(text[start:position])
        if position == len(text):
            return position
        if text[position] != ">":
            self._give_back()
            return position
        self._hold(">")
        self._step = self._read_arguments
        return position + 1

    def _read_arguments(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            self._hold(text[position])
            return position + 1
        name = "".join(self._name)
        if text[position] != "{" or not name:
            self._give_back()
            return position
        self._after_call = self._read_text
        self._begin(ArgumentsReader(self._num_calls, name, is_streamed=self._is_trusted), CLOSE)
        return position

    def finish(self) -> Sequence[Piece]:
        if self._step == self._read_separator:
            self._held.clear()
        return super().finish()

    def _end_call(self) -> None:
        if self._close:
            self._expect_close(CLOSE)
        else:
            self._step = self._after_call
