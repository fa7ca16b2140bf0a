"""Which keyword of a JSON schema, or which part of a grammar, llguidance cannot follow: found by trying less of it."""

from __future__ import annotations

from collections.abc import Callable

from hodios.engine.translation import Refusal, Translated, alone, entry_of, may_explode, parsed, schema_entry
from hodios.json_schema.document import Document, Schema, Unresolved, step_to
from hodios.types import Grammar

_MOST_TRIALS = 100
"""A trial takes about a millisecond; schemas that may take much longer are not tried in parts."""
Fault = Callable[[Translated], str]
"""Compiles, and says what is wrong; "" for nothing."""


class _GivenUp(Exception):
    pass


def blame(refusal: Refusal, fault: Fault) -> Refusal:
    """The refusal of a whole grammar, narrowed down."""
    grammar, reason, param = refusal.grammar, refusal.reason, refusal.param
    for part in grammar.parts:
        text = alone(part.grammar, entry_of(part.grammar))
        if not may_explode(text) and (found := fault(text)):
            grammar, reason, param = part.grammar, found, part.param
            break
    if grammar.kind == "json_schema":
        reason = _Search(grammar, fault).explain(reason)
    return Refusal(reason, grammar, param)


class _Search:
    def __init__(self, grammar: Grammar, fault: Fault) -> None:
        self._grammar = grammar
        self._fault = fault
        self._num_trials = 0

    def explain(self, reason: str) -> str:
        """`reason`, or that of the innermost schema that fails by itself, after the place of the keyword."""
        schema = parsed(self._grammar)
        document = Document(schema)
        if "patternProperty" in reason:
            return f"#{_place_of_patterns(document)}: {reason}"
        place = ""
        try:
            for pointer in list(document.pointers())[1:]:
                if pointer.startswith(f"{place}/") and (found := self._try(schema, pointer)):
                    place, reason = pointer, found
            for keyword in _keywords(document, place):
                if not self._try(_without(schema, [*place.split("/")[1:], step_to(keyword)[1:]]), place):
                    place += step_to(keyword)
                    break
        except (_GivenUp, Refusal, Unresolved):
            pass
        return f"#{place}: {reason}"

    def _try(self, schema: Schema, pointer: str) -> str:
        self._num_trials += 1
        text = alone(self._grammar, schema_entry(self._grammar, schema, pointer))
        if self._num_trials > _MOST_TRIALS or may_explode(text):
            raise _GivenUp
        return self._fault(text)


def _place_of_patterns(document: Document) -> str:
    """Of the first patterns that may fit one name: these are not tried in parts."""
    for pointer in document.pointers():
        schema = document.at(pointer)
        if isinstance(schema, dict) and len(schema.get("patternProperties", ())) > 1:
            return f"{pointer}/patternProperties"
    return ""


def _keywords(document: Document, pointer: str) -> list[str]:
    schema = document.at(pointer)
    return list(schema) if isinstance(schema, dict) else []


def _without(value: object, steps: list[str]) -> Schema:
    """A copy that lacks what the steps of a JSON pointer lead to."""
    key = steps[0].replace("~1", "/").replace("~0", "~")
    copy: dict[str, object] | list[object]
    if isinstance(value, list):
        copy = list(value)
        copy[int(key)] = _without(copy[int(key)], steps[1:])
        # Not a schema itself, but within one.
        return copy  # type: ignore[return-value]
    assert isinstance(value, dict)
    copy = dict(value)
    if len(steps) == 1:
        del copy[key]
    else:
        copy[key] = _without(copy[key], steps[1:])
    return copy
