"""What a format of tool calls looks like from outside: how a model is told of tools, and how its calls are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hodios.dialog.pieces import Parser
from hodios.types import Tool


class Format(Protocol):
    """One way in which models call tools. Immutable, without state: a parser per answer holds that."""

    @property
    def name(self) -> str:
        """As catalogs and settings spell it: `hermes`, `llama3`, `mistral`, `generic`."""
        ...

    @property
    def markers(self) -> Sequence[str]:
        """Every text that the parser looks for and that a vocabulary may hold as one control token, such as
        `<tool_call>` or `[TOOL_CALLS]`: the detokenizer must show these."""
        ...

    def parser(self, tools: Sequence[Tool], *, is_trusted: bool) -> Parser:
        """For one answer. `is_trusted`: a grammar made the model write its calls well, so arguments are passed on as
        they come; otherwise a call is passed on once it is whole."""
        ...

    def instructions(self, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        """What to put into the system message where neither template nor provider knows tools."""
        ...

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """The text of an assistant's turn that made these calls (`{id, function: {name, arguments}}`, arguments an
        object), for templates and providers that know no calls."""
        ...

    def write_result(self, message: Mapping[str, Any]) -> str:
        """The text of a tool's result (`{tool_call_id, name, content}`) for those that know no tool role."""
        ...

    def new_id(self, seed: str, number: int) -> str:
        """The id of call `number` in the answer `seed` names: the same again for the same, in the form that the
        format's own templates accept."""
        ...
