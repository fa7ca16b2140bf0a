"""Structured answers of models that nothing constrains: what to tell them, and whether their answer fits."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hodios.dialog.leading_json import leading_value
from hodios.dialog.patterns import Pattern
from hodios.dialog.profile import HERMES_JSON
from hodios.errors import InvalidRequest, UnsupportedParameter
from hodios.types import Grammar

if TYPE_CHECKING:
    from hodios.dialog.schema import SchemaCheck

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_NOT_WHOLE = "it is not one JSON value and nothing else"


def instructions(grammar: Grammar) -> str:
    """What to put into the system message. Raises UnsupportedParameter for grammars that cannot be put into words."""
    match grammar.kind:
        case "json_object":
            return "You are a helpful assistant that answers in JSON. Answer with one JSON object and nothing else."
        case "json_schema":
            return HERMES_JSON.format(schema=grammar.source)
        case "regex":
            return (
                "You are a helpful assistant whose answer, from its first to its last character, matches this regular "
                f"expression:\n<regex>\n{grammar.source}\n</regex>"
            )
        case "lark":
            raise UnsupportedParameter(
                "response_format: this model cannot follow a grammar; accepted: json_object, json_schema and regex",
                param="response_format",
            )


class AnswerCheck:
    """Whether answers match one grammar. Raises InvalidRequest for a schema or an expression that means nothing."""

    def __init__(self, grammar: Grammar) -> None:
        self._kind = grammar.kind
        self._schema: SchemaCheck | None = None
        self._pattern: Pattern | None = None
        match grammar.kind:
            case "json_object":
                self._schema = _check({"type": "object"})
            case "json_schema":
                self._schema = _check(_schema(grammar.source))
            case "regex":
                self._pattern = Pattern(grammar.source)

    def read(self, text: str) -> tuple[str, str]:
        """(the part of `text` that fits, "") or (`text`, what is wrong with it). What fits whole stays as it is."""
        if self._pattern is not None:
            return self._match(self._pattern, text)
        if self._schema is None:
            return text, ""
        problem = ""
        for candidate in _candidates(text):
            found = self._problem(candidate, self._schema)
            if not found:
                return candidate, ""
            problem = problem if problem and found == _NOT_WHOLE else found
        return text, problem or _NOT_WHOLE

    @staticmethod
    def _match(pattern: Pattern, text: str) -> tuple[str, str]:
        for candidate in (text, text.strip()):
            if pattern.matches(candidate):
                return candidate, ""
        return text, "it does not match the regular expression"

    @staticmethod
    def _problem(text: str, schema: SchemaCheck) -> str:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return _NOT_WHOLE
        return schema.problem(value) or ""


def _check(schema: Any) -> SchemaCheck:
    # Imported here because few requests ask for JSON, and the library for schemas is large.
    from hodios.dialog.schema import SchemaCheck

    return SchemaCheck(schema, param="response_format")


def _schema(source: str) -> Any:
    try:
        schema = json.loads(source, parse_constant=_refuse)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict | bool):
        raise InvalidRequest("response_format: a JSON schema is an object, true or false", param="response_format")
    return schema


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _candidates(text: str) -> list[str]:
    """What may be meant by an answer, in order: all of it, what stands in its only fence, its first object or array."""
    found = [text]
    fenced = _FENCE.findall(text)
    if len(fenced) == 1:
        found += [fenced[0].strip(), *_mended(fenced[0].strip())]
    found += _mended(text.strip())
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start > 0:
        found += _mended(text[start:])
    return found


def _mended(text: str) -> list[str]:
    """The object or array that `text` begins with, as JSON; nothing where there is none."""
    value = leading_value(text, is_whole=True) if text[:1] in ("{", "[") else None
    return [] if value is None else [value.mended]
