"""JSON Schema (2020-12, and what older drafts spelled differently) → the part of it that grammars can follow.

What cannot be followed is a fault, with its place; nothing is left out silently but what constrains nothing:
annotations, unknown keywords, unknown formats. What comes out is equivalent to what went in, in fewer words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from hodios.json_schema.arrangements import arrangements, few_values
from hodios.json_schema.disjoint import Judge
from hodios.json_schema.document import Document, Schema, TooDeep, Unresolved, step_to
from hodios.json_schema.keywords import (
    BOUNDS,
    CHECKS,
    COUNTS,
    FORMATS,
    MOST_EXACT,
    has_control_characters,
    names_control_characters,
    pattern_fault,
)

_MOST_DEPENDENCIES = 4
"""Each doubles what there is to choose from."""


class Fault(Struct, frozen=True):
    """Why a schema cannot be followed."""

    path: str
    """The keyword's place as a URI fragment: `#/properties/a/not`."""
    keyword: str
    """The end of `path`; "" where no keyword alone is to blame."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Simplified(Struct, frozen=True):
    """`schema` is to be used only where there are no faults."""

    schema: dict[str, Any]
    """References are all to `#/$defs/…`."""
    faults: tuple[Fault, ...]
    needs_escapes: bool
    """Whether it has strings that JSON can only write with `\\u`."""


def simplify(schema: Schema, start: str = "") -> Simplified:
    """`start`: the JSON pointer of the subschema to take for the whole."""
    try:
        work = _Simplifier(Document(schema))
        simple = work.finish(start)
    except (TooDeep, RecursionError):
        fault = Fault("#", "", "schemas are nested too deeply in it")
        return Simplified({}, (fault,), False)
    return Simplified(simple, tuple(work.faults), work.needs_escapes)


class _Word(Struct, frozen=True):
    value: Any
    pointer: str


class _Simplifier:
    def __init__(self, document: Document) -> None:
        self.faults: list[Fault] = []
        self.needs_escapes = False
        self._document = document
        self._names: dict[str, str] = {}
        self._definitions: dict[str, Schema] = {}
        self._waiting: list[str] = []
        self._unions: list[tuple[list[Schema], dict[str, Any], str]] = []
        self._open_objects: list[str] = []

    def finish(self, start: str) -> dict[str, Any]:
        simple = self._schema(self._document.at(start), start)
        while self._waiting:
            pointer = self._waiting.pop()
            self._definitions[self._names[pointer]] = self._schema(self._document.at(pointer), pointer)
        judge = Judge(self._find)
        for branches, simple_around, pointer in self._unions:
            context = {keyword: value for keyword, value in simple_around.items() if keyword != "anyOf"}
            if not judge.is_one_at_most(branches, context):
                self._fault(pointer, "it is not plain that no value fits two of its schemas; anyOf may do")
        if self.needs_escapes and self._open_objects:
            reason = (
                "named properties and control characters in strings do not go together; set additionalProperties to "
                "false, or leave the control characters out"
            )
            self.faults.append(Fault(f"#{self._open_objects[0]}", "", reason))
        if simple is False:
            self.faults.append(Fault(f"#{start}", "", "nothing matches it"))
        return (simple if isinstance(simple, dict) else {}) | (
            {"$defs": self._definitions} if self._definitions else {}
        )

    def _find(self, reference: str) -> Schema:
        return self._definitions[reference.rpartition("/")[2]]

    def _fault(self, pointer: str, reason: str) -> None:
        keyword = pointer.rpartition("/")[2]
        self.faults.append(Fault(f"#{pointer}", keyword, reason))

    def _schema(self, schema: Schema, pointer: str) -> Schema:
        if isinstance(schema, bool):
            return schema
        words = {keyword: word for keyword, word in _modern(schema, pointer) if self._is_sound(keyword, word)}
        simple: dict[str, Any] = {}
        for keyword, word in words.items():
            match keyword:
                case "allOf" | "anyOf" | "oneOf" | "$ref" | "$dynamicRef" | "not" | "if" | "dependentSchemas":
                    self._apply(simple, keyword, word, schema)
                case "properties" | "patternProperties" | "additionalProperties" | "propertyNames":
                    self._describe_object(simple, keyword, word)
                case "prefixItems" | "items" | "contains":
                    self._describe_array(simple, keyword, word, words)
                case "unevaluatedProperties" | "unevaluatedItems":
                    self._close(simple, keyword, word, words)
                case "dependentRequired":
                    self._depend(simple, word)
                case _:
                    self._limit(simple, keyword, word)
        self._count_properties(simple, words)
        if "uniqueItems" in words:
            simple = self._arrange(simple, words)
        if (simple.get("properties") or simple.get("required")) and simple.get("additionalProperties") is not False:
            self._open_objects.append(pointer)
        return simple

    def _is_sound(self, keyword: str, word: _Word) -> bool:
        """Whether the keyword means something and its value is one that it may have."""
        if keyword in _NOT_YET:
            if word.value not in _NOT_YET[keyword]:
                self._fault(word.pointer, f"{keyword} is not supported")
            return False
        if keyword not in CHECKS:
            return False
        is_valid, accepted = CHECKS[keyword]
        if not is_valid(word.value):
            self._fault(word.pointer, f"{_shown(word.value)} is no value of {keyword}; accepted: {accepted}")
            return False
        return True

    def _children(self, word: _Word) -> list[Schema]:
        return [self._schema(each, word.pointer + step_to(i)) for i, each in enumerate(word.value)]

    def _apply(self, simple: dict[str, Any], keyword: str, word: _Word, schema: Mapping[str, Any]) -> None:
        match keyword:
            case "$ref" | "$dynamicRef":
                self._refer(simple, keyword, word)
            case "allOf":
                simple.setdefault("allOf", []).extend(self._children(word))
            case "anyOf" | "oneOf":
                branches = self._children(word)
                if keyword == "oneOf":
                    self._unions.append((branches, simple, word.pointer))
                if "anyOf" in simple:
                    simple.setdefault("allOf", []).append({"anyOf": branches})
                else:
                    simple["anyOf"] = branches
            case "dependentSchemas":
                options = {name: self._schema(each, word.pointer + step_to(name)) for name, each in word.value.items()}
                self._imply(simple, options, word.pointer)
            case "not" if word.value is False:
                pass
            case "if" if not {"then", "else"} & schema.keys():
                pass
            case _:
                self._fault(word.pointer, f"{keyword} is not supported")

    def _refer(self, simple: dict[str, Any], keyword: str, word: _Word) -> None:
        name = word.value.rpartition("#")[2]
        if keyword == "$dynamicRef" and len(self._document.dynamic_anchors.get(name, ())) > 1:
            self._fault(word.pointer, f"which of the schemas named {name} is meant changes as values are read")
            return
        try:
            target = self._document.resolve(word.value, word.pointer.rpartition("/")[0])
        except Unresolved:
            self._fault(word.pointer, f"{_shown(word.value)} is not in this schema, and nothing is fetched")
            return
        if target not in self._names:
            self._names[target] = f"s{len(self._names)}"
            self._waiting.append(target)
        reference = f"#/$defs/{self._names[target]}"
        if "$ref" in simple:
            simple.setdefault("allOf", []).append({"$ref": reference})
        else:
            simple["$ref"] = reference

    def _describe_object(self, simple: dict[str, Any], keyword: str, word: _Word) -> None:
        match keyword:
            case "properties" | "patternProperties":
                for name in word.value:
                    if keyword == "patternProperties":
                        self._check_pattern(name, word.pointer + step_to(name))
                    self.needs_escapes |= has_control_characters(name)
                simple[keyword] = {
                    name: self._schema(each, word.pointer + step_to(name)) for name, each in word.value.items()
                }
            case "additionalProperties":
                simple[keyword] = self._schema(word.value, word.pointer)
            case _:
                names = self._schema(word.value, word.pointer)
                if names is not True and names != {}:
                    simple.setdefault("allOf", []).append(self._named_only(names, word.pointer))

    def _named_only(self, names: Schema, pointer: str) -> Schema:
        """The schema of objects whose properties' names fit `names`."""
        if isinstance(names, bool):
            return {} if names else {"maxProperties": 0}
        match {keyword: value for keyword, value in names.items() if (keyword, value) != ("type", "string")}:
            case {"enum": list() as values, **rest} if not rest:
                return {"properties": {each: True for each in values if isinstance(each, str)}} | _CLOSED
            case {"const": str() as value, **rest} if not rest:
                return {"properties": {value: True}} | _CLOSED
            case {"pattern": str() as pattern, **rest} if not rest:
                return {"patternProperties": {pattern: True}} | _CLOSED
            case lengths if lengths.keys() <= {"minLength", "maxLength"}:
                pattern = f"^[\\s\\S]{{{lengths.get('minLength', 0)},{lengths.get('maxLength', '')}}}$"
                return {"patternProperties": {pattern: True}} | _CLOSED
            case _:
                self._fault(pointer, "propertyNames is supported with enum, const, pattern or lengths alone")
                return {}

    def _describe_array(self, simple: dict[str, Any], keyword: str, word: _Word, words: Mapping[str, _Word]) -> None:
        if keyword == "contains":
            if "maxContains" in words or words.get("minContains", _Word(1, "")).value != 0:
                self._fault(word.pointer, "contains is not supported")
        elif keyword == "items":
            simple[keyword] = self._schema(word.value, word.pointer)
        else:
            simple[keyword] = self._children(word)

    def _arrange(self, simple: dict[str, Any], words: Mapping[str, _Word]) -> dict[str, Any]:
        """Different items, where there are few: all arrays that are possible."""
        if simple.get("type") == "array" and words.keys() <= _LIST and "items" in words:
            values = few_values(self._behind(words["items"].value, words["items"].pointer))
            found = arrangements(values, simple.get("minItems", 0), simple.get("maxItems")) if values else None
            if found is not None:
                return {"enum": found}
        self._fault(words["uniqueItems"].pointer, "uniqueItems is supported where items have few values (enum) alone")
        return simple

    def _behind(self, schema: Schema, pointer: str) -> Schema:
        """What a schema refers to that says nothing else."""
        seen = {""}
        while isinstance(schema, dict) and schema.keys() & CHECKS.keys() == {"$ref"} and pointer not in seen:
            seen.add(pointer)
            try:
                pointer = self._document.resolve(str(schema["$ref"]), pointer)
            except Unresolved:
                break
            schema = self._document.at(pointer)
        return schema

    def _close(self, simple: dict[str, Any], keyword: str, word: _Word, words: Mapping[str, _Word]) -> None:
        """Without neighbours that could evaluate anything, unevaluated is just additional."""
        plain = "additionalProperties" if keyword == "unevaluatedProperties" else "items"
        if plain in words or word.value is True or word.value == {}:
            return
        if words.keys() & _APPLICATORS:
            self._fault(
                word.pointer, f"{keyword} is not supported beside {', '.join(sorted(words.keys() & _APPLICATORS))}"
            )
            return
        simple[plain] = self._schema(word.value, word.pointer)

    def _depend(self, simple: dict[str, Any], word: _Word) -> None:
        options: dict[str, Schema] = {name: {"required": others} for name, others in word.value.items() if others}
        self._imply(simple, options, word.pointer)

    def _imply(self, simple: dict[str, Any], options: Mapping[str, Schema], pointer: str) -> None:
        """Where a property is there, its option must hold."""
        if len(options) > _MOST_DEPENDENCIES:
            self._fault(pointer, f"it may depend on {_MOST_DEPENDENCIES} properties at most")
        for name, option in options.items():
            either = {"anyOf": [{"properties": {name: False}}, option]}
            simple.setdefault("allOf", []).append(either)

    def _limit(self, simple: dict[str, Any], keyword: str, word: _Word) -> None:
        value = word.value
        match keyword:
            case "then" | "else" | "minContains" | "maxContains" | "uniqueItems":
                return
            case "const" | "enum":
                self.needs_escapes |= has_control_characters(value)
                if not _is_exact(value):
                    self._fault(
                        word.pointer, f"whole numbers beyond ±2^{MOST_EXACT.bit_length() - 1} are not supported"
                    )
            case "pattern":
                self._check_pattern(value, word.pointer)
            case "format" if value not in FORMATS:
                return
            case _ if keyword in COUNTS:
                value = int(value)
            case _ if keyword in BOUNDS and not _is_exact(value):
                self._fault(word.pointer, f"whole numbers beyond ±2^{MOST_EXACT.bit_length() - 1} are not supported")
        simple[keyword] = value

    def _check_pattern(self, pattern: str, pointer: str) -> None:
        self.needs_escapes |= names_control_characters(pattern)
        if found := pattern_fault(pattern):
            self._fault(pointer, f"{found} are not supported in regular expressions")

    def _count_properties(self, simple: dict[str, Any], words: Mapping[str, _Word]) -> None:
        """Grammars cannot count optional properties; what comes to the same without counting is said so."""
        required = set(simple.get("required", ()))
        optional = {name for name, each in simple.get("properties", {}).items() if each is not False} - required
        is_closed = simple.get("additionalProperties") is False and not simple.get("patternProperties")
        least = max(simple.pop("minProperties", 0) - len(required), 0)
        most = simple.pop("maxProperties", None)
        if most is not None and is_closed and most >= len(required | optional):
            most = None
        if most is not None and optional and not (is_closed and least <= 1 and most - len(required) == 1):
            self._fault(words["maxProperties"].pointer, "optional properties cannot be counted")
        elif least and is_closed and len(optional) == least:
            simple["required"] = [*simple.get("required", ()), *sorted(optional)]
            least = 0
        elif least > 1 or (least and optional and not is_closed):
            self._fault(words["minProperties"].pointer, "properties that are not required cannot be counted")
        if least:
            simple["minProperties"] = least + len(required)
        if most is not None:
            simple["maxProperties"] = most


_LIST = frozenset(("type", "items", "minItems", "maxItems", "uniqueItems"))
_CLOSED = {"additionalProperties": False}
_APPLICATORS = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "contains"))
_NOT_YET: Mapping[str, tuple[object, ...]] = {
    "dependencies": ({},),
    "$recursiveRef": (),
}
"""Keywords that cannot be followed but with these values."""


def _modern(schema: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, _Word]]:
    """Keywords as the current draft has them."""
    has_old_items = isinstance(schema.get("items"), list)
    for keyword, value in schema.items():
        word = _Word(value, pointer + step_to(keyword))
        match keyword:
            case "items" if has_old_items:
                if value:
                    yield "prefixItems", word
            case "additionalItems":
                if has_old_items:
                    yield "items", word
            case "exclusiveMinimum" | "exclusiveMaximum" if isinstance(value, bool):
                bound = "minimum" if keyword == "exclusiveMinimum" else "maximum"
                if value and bound in schema:
                    yield keyword, _Word(schema[bound], word.pointer)
            case "uniqueItems" if value is False or schema.get("maxItems") in (0, 1):
                pass
            case _:
                yield keyword, word


def _is_exact(value: Any) -> bool:
    match value:
        case bool():
            return True
        case int():
            return abs(value) <= MOST_EXACT
        case list():
            return all(map(_is_exact, value))
        case dict():
            return all(map(_is_exact, value.values()))
        case _:
            return True


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
