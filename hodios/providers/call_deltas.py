"""Calls of tools as other servers stream them, put together again.

OpenAI numbers the calls of an answer, sends id and name once, and arguments in slices. Others leave the numbers out or
number all calls 0, send the id with each slice, the name late or with each slice, arguments as an object, or none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from hodios.providers.surrogates import joined


class Called(Struct, frozen=True):
    """One whole call, as the server sent it. `id` is "" where it gave none."""

    name: str
    arguments: str
    id: str = ""


class _Call:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.slices: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.slices)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are a value that nothing can follow."""
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


class CallDeltas:
    """The calls of one choice."""

    def __init__(self, names: Collection[str]) -> None:
        """`names` of the tools: they tell a name that comes in slices from that of the next call."""
        self._names = frozenset(names)
        self._calls: list[_Call] = []
        self._by_number: dict[int, _Call] = {}

    def push(self, deltas: object) -> bool:
        """Whether `deltas`, the value of `tool_calls`, brought anything."""
        if isinstance(deltas, dict):
            deltas = [deltas]
        has_any = False
        for delta in deltas if isinstance(deltas, list) else ():
            if isinstance(delta, dict):
                has_any = True
                self._read(delta)
        return has_any

    def finish(self) -> list[Called]:
        """All calls, in the order in which they began."""
        return [Called(joined(call.name), joined(call.arguments) or "{}", joined(call.id)) for call in self._calls]

    def _read(self, delta: Mapping[str, Any]) -> None:
        function = delta.get("function")
        if not isinstance(function, dict):
            # Some leave out the inner object.
            function = delta
        id, name = _string(delta.get("id")), _string(function.get("name"))
        call = self._find(delta.get("index"), id, name)
        call.id = call.id or id
        if name and name != call.name:
            call.name += name
        arguments = function.get("arguments")
        if arguments is not None:
            call.slices.append(arguments if isinstance(arguments, str) else _written(arguments))

    def _find(self, number: object, id: str, name: str) -> _Call:
        """The call that a delta goes on with, or a new one."""
        call = self._by_number.get(number) if isinstance(number, int) else self._last(id)
        if call is None or self._begins_another(call, id, name):
            call = _Call()
            self._calls.append(call)
            if isinstance(number, int):
                self._by_number[number] = call
        return call

    def _last(self, id: str) -> _Call | None:
        known = [call for call in self._calls if call.id == id] if id else []
        candidates = known or self._calls
        return candidates[-1] if candidates else None

    def _begins_another(self, call: _Call, id: str, name: str) -> bool:
        """Where numbers do not tell calls apart: another id; or, without ids, a name after arguments that are whole."""
        if id and call.id and id != call.id:
            return True
        if not name or not call.name or (id and id == call.id):
            return False
        if call.arguments.strip():
            return call.is_whole
        return name != call.name and call.name + name not in self._names and call.name in self._names


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _written(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False)
