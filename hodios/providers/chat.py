"""One chat with a model on this machine: the grammar that its answers are held to, and how they are read back.

Sans-IO. Raw completions have none of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from hodios.dialog.profile import Profile
from hodios.dialog.reasoning import PlainParser, ReasoningParser
from hodios.dialog.tool_grammar import tool_grammar
from hodios.events import Event, Noticed, Stopped, Text
from hodios.providers.reading import ChoiceReader
from hodios.providers.resuming import Unseen
from hodios.types import Request

_SCHEMA = re.compile(r"tools\[(\d+)\]\.function\.parameters")


class Chat:
    """For the answers to one request."""

    def __init__(
        self,
        request: Request,
        profile: Profile,
        *,
        control_id: Callable[[str], int | None],
        opened: str,
        begun: str = "",
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`opened` names the thought that the prompt leaves open, "" for none; `begun` is the text of
        `request.beginning`, if there is one; `refused` tells why the engine did not
        take a tool's schema before, by its parameter. Raises InvalidRequest for a tool whose schema cannot be followed
        where it must be."""
        self.stop_strings = profile.stop_strings
        self.shown_ids = profile.shown_ids
        """Control tokens that answers are read by."""
        self._request = request
        self._format = profile.format
        self._opened = opened
        self._may_call = bool(request.tools) and request.tool_choice != "none"
        self._begun = begun
        self._unseen = None if request.beginning is None else Unseen(request.beginning)
        self._may_think = self._may_call or profile.is_thinking or bool(opened) or begun != _text_of(request)
        ruled = tool_grammar(
            profile.format.name,
            request.tools,
            choice=request.tool_choice,
            control_id=control_id,
            tool_name=request.tool_name,
            is_parallel=request.parallel_tool_calls and not request.tool_name,
            content=request.grammar,
            thoughts=profile.thought_tags if profile.is_thinking else (),
            opened=opened,
            refused=refused,
        )
        self.grammar = ruled.grammar
        self.notices = [Noticed(warning) for warning in ruled.warnings]
        self._readers: dict[int, ChoiceReader] = {}

    def can_loosen(self, param: str) -> bool:
        """Whether an answer may do without a schema that is `param`."""
        match = _SCHEMA.fullmatch(param)
        if match is None or self._request.tool_choice == "required":
            return False
        return not self._request.tools[int(match[1])].strict

    @property
    def reasoning_tokens(self) -> int:
        return sum(reader.reasoning_tokens for reader in self._readers.values())

    def read(self, events: Iterable[Text | Stopped]) -> list[Event]:
        """Raw text, of all choices, as what it means."""
        if not self._may_think:
            return list(events)
        read: list[Event] = []
        for event in events:
            reader = self._readers.get(event.index)
            if reader is None:
                reader = self._readers[event.index] = self._reader(event.index)
            read += reader.push(event) if isinstance(event, Text) else reader.stop(event)
        return read if self._unseen is None else self._unseen.of(read)

    def _reader(self, index: int) -> ChoiceReader:
        request, format = self._request, self._format
        answer = format.parser(request.tools, is_trusted=True) if self._may_call else PlainParser()
        reader = ChoiceReader(
            ReasoningParser(answer, opened=self._opened),
            new_id=lambda number: format.new_id(f"{request.id}/{index}", number),
            has_reasoning=request.has_reasoning,
        )
        if self._unseen is not None:
            self._unseen.of(reader.push(Text(index, self._begun)))
        return reader


def _text_of(request: Request) -> str:
    return request.beginning.text if request.beginning else ""
