"""Hermes 2 Pro and its successors (and Qwen 2.5 and 3, which took over the format).

Source: the model cards' `tool_use` chat template and the programs in NousResearch/Hermes-Function-Calling. Both orders
of the keys are in the wild. The scratch pad that the same prompts ask for is not read here but in `dialog.reasoning`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.formats.tagged import CLOSE, OPEN, TaggedParser, write_blocks
from hodios.dialog.formats.writing import call_id, result_object, to_json, tool_object
from hodios.dialog.pieces import Parser
from hodios.types import Tool

_BEFORE_TOOLS = (
    "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    "plug into functions. Here are the available tools: <tools> "
)
_SCHEMA = (
    '{"properties": {"name": {"title": "Name", "type": "string"}, '
    '"arguments": {"title": "Arguments", "type": "object"}}, '
    '"required": ["name", "arguments"], "title": "FunctionCall", "type": "object"}'
)
_AFTER_TOOLS = (
    f" </tools> Use the following pydantic model json schema for each tool call you will make: {_SCHEMA}\n"
    "For each function call return a json object with function name and arguments within <tool_call></tool_call> XML "
    'tags as follows:\n<tool_call>\n{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>'
)
_ONE_AT_A_TIME = "\nMake at most one function call, then wait for its result."


class HermesFormat:
    name = "hermes"
    markers = (OPEN, CLOSE)

    def parser(self, tools: Sequence[Tool], *, is_trusted: bool) -> Parser:
        return TaggedParser(is_trusted=is_trusted)

    def instructions(self, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        """The prompt of the `tool_use` template, with its tools as well-formed JSON."""
        written = "\n".join(to_json(tool_object(tool)) for tool in tools)
        return _BEFORE_TOOLS + written + _AFTER_TOOLS + ("" if is_parallel else _ONE_AT_A_TIME)

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return write_blocks(calls)

    def write_result(self, message: Mapping[str, Any]) -> str:
        return f"<tool_response>\n{result_object(message)}\n</tool_response>"

    def new_id(self, seed: str, number: int) -> str:
        return call_id(seed, number)
