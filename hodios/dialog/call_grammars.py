"""How each format writes its calls, as rules of a Lark grammar: the counterpart of `dialog.formats`' parsers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from hodios.dialog.formats import llama3, mistral, tagged
from hodios.dialog.formats.call_readers import BARE_KEYS
from hodios.types import Grammar, GrammarPart

_ANYTHING = "/(?s:.*)/"
SPACE = r"[ \t\r\n]*"


class Callee(Struct, frozen=True):
    """A tool as grammars need it."""

    name: str
    schema: dict[str, Any]
    """Simplified: references are to `#/$defs/…`."""
    param: str


class Writer:
    """The lines of one grammar, and its parts."""

    def __init__(self, control_id: Callable[[str], int | None]) -> None:
        self._control_id = control_id
        self._lines: list[str] = []
        self._parts: list[GrammarPart] = []

    def add(self, *lines: str) -> None:
        self._lines += lines

    def add_part(self, name: str, grammar: Grammar, param: str) -> str:
        """What the lines call it by."""
        self._parts.append(GrammarPart(name, grammar, param))
        return f"@{name}"

    def control(self, text: str) -> str:
        """The control token that is spelled so, "" where there is none."""
        id = self._control_id(text)
        return "" if id is None else f"<[{id}]>"

    def marker(self, text: str) -> str:
        return self.control(text) or quoted(text)

    def grammar(self) -> Grammar:
        return Grammar("lark", "\n".join(self._lines) + "\n", tuple(self._parts))


class CallForm(Protocol):
    def add_calls(self, *, may_be_content: bool) -> None:
        """Add the rule `calls`: what an answer is that has nothing but calls. `may_be_content`: or else it is JSON."""
        ...

    def text(self) -> str:
        """The terminal's body of text that the parser takes for text from its beginning to its end."""
        ...

    def add_openings(self) -> list[str]:
        """Add rules for what follows on `TEXT`, and say how to reach them."""
        ...


def find_form(name: str, callees: Sequence[Callee], writer: Writer, *, is_parallel: bool) -> CallForm:
    match name:
        case "llama3":
            return _Llama3(callees, writer, is_parallel)
        case "mistral":
            return _Mistral(callees, writer, is_parallel)
        case _:
            return _Tagged(callees, writer, is_parallel)


def quoted(text: str) -> str:
    """A string of Lark that stands for `text`."""
    return json.dumps(text)


def escaped(text: str) -> str:
    """The regular expression of `text` alone."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def without(*texts: str) -> str:
    return f"{_ANYTHING} & ~/(?s:.*)(?:{'|'.join(map(escaped, texts))})(?s:.*)/"


class _Form:
    def __init__(self, callees: Sequence[Callee], writer: Writer, is_parallel: bool) -> None:
        self._callees = callees
        self._writer = writer
        self._is_parallel = is_parallel

    def _several(self, item: str, separator: str) -> str:
        return f"{item} ({separator} {item})*" if self._is_parallel else item

    def _add_choice(self, rule: str, write: Callable[[Callee, str], str]) -> None:
        """The rule: one of the tools, each as `write` puts it with the reference to its arguments."""
        names = []
        for i, callee in enumerate(self._callees):
            names.append(f"{rule}_{i}")
            self._writer.add(f"{rule}_{i}: {write(callee, self._arguments(i, callee))}")
        self._writer.add(f"{rule}: {' | '.join(names)}")

    def _arguments(self, i: int, callee: Callee) -> str:
        return f"@arguments_{i}"

    def _add_arguments(self) -> None:
        for i, callee in enumerate(self._callees):
            source = json.dumps(callee.schema, ensure_ascii=False)
            self._writer.add_part(f"arguments_{i}", Grammar("json_schema", source), callee.param)

    def _opening(self, number: int, marker: str, rest: str) -> str:
        """How text goes on to `marker` and what follows it."""
        if control := self._writer.control(marker):
            return f"TEXT {control} {rest}"
        self._writer.add(f"open_{number}[lazy]: TEXT {quoted(marker)}")
        return f"open_{number} {rest}"


class _Tagged(_Form):
    """`<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>`, one after the other."""

    def add_calls(self, *, may_be_content: bool) -> None:
        self._add_block()
        self._writer.add(f"calls: {self._writer.marker(tagged.OPEN)} rest")

    def text(self) -> str:
        return without(tagged.OPEN)

    def add_openings(self) -> list[str]:
        self._add_block()
        return [self._opening(0, tagged.OPEN, "rest")]

    def _add_block(self) -> None:
        """What follows on the first tag."""
        again = f'"\\n" {self._writer.marker(tagged.OPEN)} block'
        self._writer.add(f"rest: block ({again})*" if self._is_parallel else "rest: block")
        self._add_choice("block", self._block)
        self._add_arguments()

    def _block(self, callee: Callee, arguments: str) -> str:
        head, close = f'\n{{"name": {_json(callee.name)}, "arguments": ', self._writer.control(tagged.CLOSE)
        end = f"{quoted('}' + chr(10))} {close}" if close else quoted(f"}}\n{tagged.CLOSE}")
        return f"{quoted(head)} {arguments} {end}"


class _Mistral(_Form):
    """`[TOOL_CALLS] [{"name": …, "arguments": {…}, "id": …}]`; where the vocabulary has `[ARGS]`, the later form
    `[TOOL_CALLS]name[ARGS]{…}`, once per call."""

    def __init__(self, callees: Sequence[Callee], writer: Writer, is_parallel: bool) -> None:
        super().__init__(callees, writer, is_parallel)
        self._is_late = bool(writer.control(mistral.ARGS)) and all(_is_word(callee.name) for callee in callees)

    def add_calls(self, *, may_be_content: bool) -> None:
        self._add_rest()
        self._writer.add(f"calls: {self._writer.marker(mistral.CALLS)} rest")

    def text(self) -> str:
        return without(mistral.CALLS)

    def add_openings(self) -> list[str]:
        self._add_rest()
        return [self._opening(0, mistral.CALLS, "rest")]

    def _add_rest(self) -> None:
        if self._is_late:
            again = f"({self._writer.marker(mistral.CALLS)} item)*"
            self._writer.add(f"rest: item {again}" if self._is_parallel else "rest: item")
        else:
            self._writer.add(f'rest: / ?\\[/ {self._several("item", quoted(", "))} "]"')
        self._writer.add("ID: /[a-zA-Z0-9]{9}/")
        self._add_choice("item", self._late_item if self._is_late else self._item)
        self._add_arguments()

    def _item(self, callee: Callee, arguments: str) -> str:
        head = f'{{"name": {_json(callee.name)}, "arguments": '
        return f"{quoted(head)} {arguments} {quoted(', ' + _json('id') + ': ' + chr(34))} ID {quoted(chr(34) + '}')}"

    def _late_item(self, callee: Callee, arguments: str) -> str:
        id = self._writer.control(mistral.CALL_ID)
        return f"{quoted(callee.name)} {f'({id} ID)?' if id else ''} {self._writer.control(mistral.ARGS)} {arguments}"


class _Llama3(_Form):
    """`{"name": …, "parameters": {…}}` at the start or after `<|python_tag|>`, several separated by `;`; where calls
    are a choice also `<function=name>{…}</function>`."""

    def add_calls(self, *, may_be_content: bool) -> None:
        python = self._writer.control(llama3.PYTHON)
        self._writer.add(f"calls: {f'({python})?' if python else ''} {self._several('call', '/; ?/')}")
        if may_be_content:
            # JSON beside JSON: told apart only where one reader of JSON reads both.
            self._add_choice("call", lambda callee, arguments: arguments)
            self._add_whole_calls()
        else:
            self._add_choice("call", self._call)
            self._add_arguments()

    def text(self) -> str:
        """No object whose first key is a call's, no list whose first item is a tool's name and a bracket."""
        keys = "|".join(sorted(BARE_KEYS))
        names = "|".join(escaped(callee.name) for callee in self._callees)
        self._writer.add(
            f'OTHER_KEY: /[^"\\\\\\x00-\\x1f]+/ & ~/{keys}/',
            f'OTHER_OBJECT: /{SPACE}\\{{{SPACE}"/ OTHER_KEY /"(?s:.*)/',
            f"NO_OBJECT: {_ANYTHING} & ~/{SPACE}\\{{(?s:.*)/ & ~/{SPACE}\\[{SPACE}(?:{names})\\((?s:.*)/",
            f"OUTSIDE: {without(llama3.PYTHON, llama3.FUNCTION)}",
        )
        return "(NO_OBJECT | OTHER_OBJECT) & OUTSIDE"

    def add_openings(self) -> list[str]:
        self._add_choice("call", self._call)
        self._add_choice("first", self._first)
        self._add_choice("function", self._function)
        self._add_arguments()
        functions = f"function ({quoted(llama3.FUNCTION)} function)*" if self._is_parallel else "function"
        more = "(/; ?/ call)*" if self._is_parallel else ""
        self._writer.add(f"functions: {functions}", f"calls: call {more}", f"bare_calls: first {more}")
        openings = ["bare_calls", self._opening(0, llama3.FUNCTION, "functions")]
        if self._writer.control(llama3.PYTHON):
            openings.append(self._opening(1, llama3.PYTHON, "calls"))
        return openings

    def _head(self, callee: Callee) -> str:
        return quoted(f'{{"name": {_json(callee.name)}, "parameters": ')

    def _call(self, callee: Callee, arguments: str) -> str:
        return f'{self._head(callee)} {arguments} "}}"'

    def _first(self, callee: Callee, arguments: str) -> str:
        """White space before it is one terminal with its beginning: as two, they would lose against text."""
        terminal = f"FIRST_{arguments.removeprefix('@').upper()}"
        self._writer.add(f"{terminal}: /{SPACE}/ {self._head(callee)}")
        return f'{terminal} {arguments} "}}"'

    def _function(self, callee: Callee, arguments: str) -> str:
        return f"{quoted(callee.name + '>')} {arguments} {quoted(llama3.CLOSE)}"

    def _add_whole_calls(self) -> None:
        for i, callee in enumerate(self._callees):
            schema = {
                "type": "object",
                "properties": {
                    "name": {"const": callee.name},
                    "parameters": {key: value for key, value in callee.schema.items() if key != "$defs"},
                },
                "required": ["name", "parameters"],
                "additionalProperties": False,
                "$defs": callee.schema.get("$defs", {}),
            }
            source = json.dumps(schema, ensure_ascii=False)
            self._writer.add_part(f"arguments_{i}", Grammar("json_schema", source), callee.param)


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_word(name: str) -> bool:
    return re.fullmatch(r"[\w.\-]+", name) is not None
