"""Mistral's models: `[TOOL_CALLS] [{"name": …, "arguments": {…}, "id": …}]`, and since Mistral Small 3.1
`[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}`, once per call, of which some servers leave no more than `[TOOL_CALLS]name{…}`.

Source: mistral-common's tokenizers v3 to v13. Ids are nine letters or digits; the templates refuse any others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.formats.call_parser import CallParser
from hodios.dialog.formats.call_readers import ArgumentsReader, ObjectReader
from hodios.dialog.formats.writing import alphanumeric_id, result_content, to_json, tool_object
from hodios.dialog.json_scanner import end_of
from hodios.dialog.pieces import Parser
from hodios.dialog.splitter import SPACE, Tags
from hodios.types import Tool

CALLS, CLOSE, ARGS, CALL_ID = "[TOOL_CALLS]", "[/TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ID_LENGTH = 9
_ID = re.compile(r"[a-zA-Z0-9]{9}")
_WORD = re.compile(r"[\w.\-]*")
_OPENING = Tags([CALLS])
_CLOSING = Tags([CALLS, CLOSE])


class MistralFormat:
    name = "mistral"
    markers = (CALLS, CLOSE, ARGS, CALL_ID)

    def parser(self, tools: Sequence[Tool], *, is_trusted: bool) -> Parser:
        return MistralParser(is_trusted=is_trusted)

    def instructions(self, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        listed = to_json([tool_object(tool) for tool in tools])
        calls = '{"name": <name>, "arguments": <object>}'
        several = f"{calls}, …" if is_parallel else calls
        return (
            f"[AVAILABLE_TOOLS] {listed}[/AVAILABLE_TOOLS]\n"
            f"To call {'tools' if is_parallel else 'one tool'}, answer with nothing but {CALLS} [{several}]"
        )

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return f"{CALLS} [{', '.join(map(_write_call, calls))}]"

    def write_result(self, message: Mapping[str, Any]) -> str:
        id = to_json(message.get("tool_call_id") or "")
        return f'[TOOL_RESULTS] {{"content": {result_content(message)}, "call_id": {id}}}[/TOOL_RESULTS]'

    def new_id(self, seed: str, number: int) -> str:
        return alphanumeric_id(seed, number, _ID_LENGTH)


def _write_call(call: Mapping[str, Any]) -> str:
    function = call["function"]
    return to_json({"name": function["name"], "arguments": function["arguments"], "id": call["id"]})


class MistralParser(CallParser):
    """A streamed call of the older form has its model's id only where that stands before the arguments."""

    def __init__(self, *, is_trusted: bool) -> None:
        super().__init__(_OPENING, _CLOSING, is_trusted=is_trusted)
        self._word: list[str] = []
        self._name = ""
        self._is_array = False

    def _reach(self, tag: str) -> None:
        self._step = self._read_space
        self._is_array = False
        self._name = ""
        self._word.clear()

    def _read_space(self, text: str, position: int) -> int:
        character = text[position]
        if character in SPACE:
            self._hold(character)
        elif character == "[":
            self._hold(character)
            self._is_array = True
            self._step = self._read_element
        else:
            self._step = self._read_element if character == "{" else self._read_word
            return position
        return position + 1

    def _read_element(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            self._hold(text[position])
            return position + 1
        if text[position] == "{":
            self._begin(ObjectReader(self._num_calls, is_streamed=self._is_trusted, ids=_ID))
        else:
            self._give_back()
        return position

    def _read_separator(self, text: str, position: int) -> int:
        character = text[position]
        if character == ",":
            self._step = self._read_element
        elif character == "]":
            self._expect_close(CLOSE)
        elif character not in SPACE:
            self._give_back()
            return position
        return position + 1

    def _end_call(self) -> None:
        if self._is_array:
            self._step = self._read_separator
        else:
            self._expect_close(CLOSE)

    def _read_word(self, text: str, position: int) -> int:
        """Of the newer form: the name, or the id after it."""
        start, position = position, end_of(_WORD, text, position)
        self._word.append(text[start:position])
        self._hold(text[start:position])
        if position == len(text):
            return position
        word = "".join(self._word)
        if not word:
            self._give_back()
        elif text[position] == "{":
            self._step = self._read_arguments
        else:
            self._expect((ARGS,) if self._name else (ARGS, CALL_ID), self._reach_in_head)
        return position

    def _reach_in_head(self, tag: str) -> None:
        if tag == CALL_ID:
            self._name = "".join(self._word)
            self._word.clear()
            self._step = self._read_word
        else:
            self._step = self._read_arguments

    def _read_arguments(self, text: str, position: int) -> int:
        if text[position] in SPACE:
            self._hold(text[position])
            return position + 1
        if text[position] != "{":
            self._give_back()
            return position
        word = "".join(self._word)
        name, id = (self._name, word) if self._name else (word, "")
        id = id if _ID.fullmatch(id) else ""
        self._begin(ArgumentsReader(self._num_calls, name, id, is_streamed=self._is_trusted))
        return position
