"""For models that were trained on no calls of their own: JSON between `<tool_call>` tags, asked for in plain words.

The tags are plain text to such a model. They were chosen because nothing else in an answer looks like them: JSON alone
could be the answer itself, and a code fence its illustration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodios.dialog.formats.tagged import CLOSE, OPEN, TaggedParser, write_blocks
from hodios.dialog.formats.writing import call_id, result_object, to_json
from hodios.dialog.pieces import Parser
from hodios.types import Tool

_HOW = f"""To use a tool, answer with a block of exactly this form, and nothing after it:
{OPEN}
{{"name": "the tool's name", "arguments": {{"parameter": "value"}}}}
{CLOSE}
The arguments are one JSON object that fits the tool's parameters; it is {{}} where there are none. The tool's result \
comes in the next message. If no tool helps, answer in plain words."""
_SEVERAL = " To use several tools, write one block for each, one after the other."
_ONE = " Use at most one tool, then wait for its result."


class GenericFormat:
    name = "generic"
    markers = (OPEN, CLOSE)

    def parser(self, tools: Sequence[Tool], *, is_trusted: bool) -> Parser:
        return TaggedParser(is_trusted=is_trusted)

    def instructions(self, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        listed = "\n".join(map(_describe, tools))
        return f"You can use these tools:\n{listed}\n\n{_HOW}{_SEVERAL if is_parallel else _ONE}"

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return write_blocks(calls)

    def write_result(self, message: Mapping[str, Any]) -> str:
        return f"<tool_result>\n{result_object(message)}\n</tool_result>"

    def new_id(self, seed: str, number: int) -> str:
        return call_id(seed, number)


def _describe(tool: Tool) -> str:
    return to_json({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
