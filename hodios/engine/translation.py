"""A grammar → llguidance's own form of it. Refuses what it cannot honour or afford, and says which keyword is to blame.

JSON schemas are simplified first (`hodios.json_schema`), because llguidance takes some keywords for others than they
are: a schema that passes here is followed to the letter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import llguidance
from msgspec import Struct

from hodios.errors import InvalidRequest
from hodios.json_schema.document import Document, Schema
from hodios.json_schema.simplify import simplify
from hodios.types import Grammar

_WHITESPACE = r"( |\n {0,32})"
"""Between the parts of JSON: one space, or a new line and its indentation. Small models go astray where they may not
write it at all, and may never stop writing it where it has no bound."""
_ESCAPES = 'nrbtf\\"'
"""No `\\u`: a property's name could be written with it in ways that do not count as the same name."""
_MOST_CHARACTERS = {"json_object": 0, "json_schema": 131_072, "regex": 32_768, "lark": 32_768}
_MOST_CHARACTERS_OF_PARTS = 1_000_000
_MOST_REMAINDERS = 20_000
"""The automaton of `multipleOf: n` has n states, and of several in `allOf` their least common multiple."""
_MOST_AT_ONCE = 8
"""Intersections of regular expressions that surely compile in milliseconds; each more doubles the time."""
_NAMES = {"json_object": "JSON mode", "json_schema": "The JSON schema", "regex": "The regular expression"}


class Refusal(Exception):
    """A grammar cannot be honoured, for a reason that follows the words «it» or a place in it."""

    def __init__(self, reason: str, grammar: Grammar, param: str = "response_format") -> None:
        super().__init__(reason)
        self.reason, self.grammar, self.param = reason, grammar, param

    def error(self) -> InvalidRequest:
        name = _NAMES.get(self.grammar.kind, "The grammar")
        if self.param != "response_format":
            name = f"{self.param}: {name[0].lower()}{name[1:]}"
        reason = self.reason.replace("<non-verbose/>", "").strip()
        return InvalidRequest(f"{name} cannot be honoured: {reason[:500]}", param=self.param)


class Translated(Struct, frozen=True):
    """A grammar in llguidance's form."""

    text: str
    parts: tuple[tuple[Grammar, str], ...]
    """Each grammar within, and what became of its source: the grammar itself first."""

    @property
    def num_parts(self) -> int:
        return len(self.parts) - 1


def translate(grammar: Grammar) -> Translated:
    """Raises Refusal."""
    if sum(len(part.grammar.source) for part in grammar.parts) > _MOST_CHARACTERS_OF_PARTS:
        raise Refusal(f"it has more than {_MOST_CHARACTERS_OF_PARTS} characters together", grammar)
    pieces = [("", grammar, "response_format"), *((part.name, part.grammar, part.param) for part in grammar.parts)]
    entries: list[dict[str, Any]] = []
    parts = []
    for name, each, param in pieces:
        try:
            entry = entry_of(each)
        except Refusal as refusal:
            raise Refusal(str(refusal), each, param) from None
        entries.append(({"name": name} if name else {}) | entry)
        parts.append((each, json.dumps(entry)))
    return Translated(json.dumps({"grammars": entries}), tuple(parts))


def alone(grammar: Grammar, entry: dict[str, Any]) -> Translated:
    """One part for itself."""
    return Translated(json.dumps({"grammars": [entry]}), ((grammar, json.dumps(entry)),))


def entry_of(grammar: Grammar) -> dict[str, Any]:
    """What llguidance is given for one grammar, without its parts. Raises Refusal."""
    # What has parts was not written by a client.
    most = _MOST_CHARACTERS_OF_PARTS if grammar.parts else _MOST_CHARACTERS[grammar.kind]
    if len(grammar.source) > most:
        raise Refusal(f"it has {len(grammar.source)} characters, the most are {most}", grammar)
    match grammar.kind:
        case "json_object":
            return {"json_schema": _with_options({"type": "object"}, _ESCAPES)}
        case "json_schema":
            return schema_entry(grammar, parsed(grammar), "")
        case "regex":
            entry: dict[str, Any] = json.loads(llguidance.LLMatcher.grammar_from_regex(grammar.source))["grammars"][0]
            return {"lark_grammar": entry["lark_grammar"]}
        case "lark":
            _check_remainders(grammar, re.sub(r"\\u00([0-7][0-9a-fA-F])", _character, grammar.source), {})
            return {"lark_grammar": grammar.source}


def schema_entry(grammar: Grammar, schema: Schema, start: str) -> dict[str, Any]:
    """What to compile for `schema`, that of `grammar` or a part of it, from its JSON pointer `start` on. Raises
    Refusal."""
    simple = simplify(schema, start)
    if simple.faults:
        raise Refusal("; ".join(map(str, simple.faults[:3])), grammar)
    text = json.dumps(simple.schema)
    if '"multipleOf"' in text:
        _check_remainders(grammar, text, _places_of_remainders(schema))
    return {"json_schema": _with_options(simple.schema, _ESCAPES + "u" if simple.needs_escapes else _ESCAPES)}


def _with_options(schema: dict[str, Any], escapes: str) -> dict[str, Any]:
    return schema | {"x-guidance": {"whitespace_pattern": _WHITESPACE, "json_allowed_escapes": escapes}}


def parsed(grammar: Grammar) -> Schema:
    """Raises Refusal."""
    try:
        schema = json.loads(grammar.source, parse_constant=_refuse_constant)
    except RecursionError:
        raise Refusal("it is too deeply nested", grammar) from None
    except ValueError as error:
        raise Refusal(f"it is not JSON: {error}", grammar) from error
    if not isinstance(schema, dict) and schema is not True:
        raise Refusal("a schema is an object or true", grammar)
    return schema


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def may_explode(translated: Translated) -> bool:
    """Whether so many regular expressions may have to hold at once that compiling could take exponential time."""
    return any(_may_explode(grammar, text) for grammar, text in translated.parts)


def _may_explode(grammar: Grammar, text: str) -> bool:
    match grammar.kind:
        case "lark" if not grammar.parts:
            return "%json" in text or text.count("&") + text.count("~") > _MOST_AT_ONCE
        case "json_schema":
            num_patterns = len(re.findall(r'"(?:pattern|format)":', text))
            return '"patternProperties":' in text or (num_patterns > _MOST_AT_ONCE and _intersects(json.loads(text)))
        case _:
            return False


def _intersects(value: object) -> bool:
    """Whether a simplified schema has one in it that holds together with others."""
    if isinstance(value, list):
        return any(map(_intersects, value))
    if not isinstance(value, dict):
        return False
    applied = len(value.keys() & {"$ref", "allOf", "anyOf"})
    others = value.keys() - {"$ref", "$defs", "anyOf", "type"}
    return (applied > 0 and (applied > 1 or bool(others))) or any(map(_intersects, value.values()))


def _check_remainders(grammar: Grammar, text: str, places: Mapping[Fraction, str]) -> None:
    """`places`: where each number stands, as far as it is known."""
    least_common = 1
    for number in re.findall(r'"multipleOf"\s*:\s*(\d{1,20}(?:\.\d{1,20})?(?:[eE][-+]?\d{1,3})?)', text):
        value = Fraction(number)
        place = places.get(value, "")
        while value and value.denominator > 1:
            value *= 10
        while value and value % 10 == 0:
            value /= 10
        least_common = math.lcm(least_common, int(value) or 1)
        if least_common > _MOST_REMAINDERS:
            reason = f"multipleOf {number} needs an automaton of more than {_MOST_REMAINDERS} states"
            raise Refusal(f"{place}: {reason}" if place else reason, grammar)


def _places_of_remainders(schema: Schema) -> dict[Fraction, str]:
    document = Document(schema)
    places: dict[Fraction, str] = {}
    for pointer in document.pointers():
        found = document.at(pointer)
        if isinstance(found, dict) and isinstance(found.get("multipleOf"), int | float):
            places.setdefault(Fraction(str(found["multipleOf"])), f"#{pointer}/multipleOf")
    return places


def _character(code: re.Match[str]) -> str:
    return chr(int(code[1], 16))
