"""JSON values held against a client's JSON Schema. Fetches nothing, runs no foreign regular expression in Python's own
engine, and gives up on schemas that would take too long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema
import referencing
from jsonschema.validators import Draft202012Validator, extend, validator_for

from hodios.dialog.patterns import Pattern
from hodios.errors import InvalidRequest

_MOST_STEPS = 20_000
"""Keywords that one check evaluates: references can make a small schema endless."""
_MOST_SHOWN = 300
Keyword = Callable[[Any, Any, Any, Any], Iterator[jsonschema.ValidationError] | None]


class _TooExpensive(Exception):
    pass


class SchemaCheck:
    """One schema. Raises InvalidRequest, which says which keyword is wrong and where, for one that is none."""

    def __init__(self, schema: Mapping[str, Any] | bool, *, param: str) -> None:
        try:
            base = validator_for(schema, default=Draft202012Validator)
            base.check_schema(schema)
            _refuse_mixture(schema, param)
        except jsonschema.SchemaError as error:
            where = "/".join(map(str, error.absolute_path))
            raise InvalidRequest(
                f"{param}: the JSON schema is not valid at {where or 'its top'}: {error.message[:_MOST_SHOWN]}",
                param=param,
            ) from None
        except RecursionError:
            raise InvalidRequest(f"{param}: the JSON schema is nested too deeply.", param=param) from None
        self._patterns: dict[str, Pattern | None] = {}
        self._num_steps = 0
        own: dict[str, Keyword] = {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
        }
        keywords = {name: self._counted(own.get(name, keyword)) for name, keyword in base.VALIDATORS.items()}
        # An empty registry: nothing is fetched.
        self._validator: Any = extend(base, keywords)(schema, registry=referencing.Registry())

    def problem(self, value: object) -> str | None:
        """The first thing that is wrong with `value`, as a sentence for a model; None where nothing is."""
        self._num_steps = 0
        try:
            error = jsonschema.exceptions.best_match(self._validator.iter_errors(value))
        except _TooExpensive:
            return "the value cannot be checked: its schema takes too long"
        except RecursionError:
            return "the value cannot be checked: it or its schema is nested too deeply"
        except referencing.exceptions.Unresolvable as missing:
            return f"the value cannot be checked: its schema refers to {str(missing.ref)[:100]!r}, which is not there"
        if error is None:
            return None
        return f"at {error.json_path[:_MOST_SHOWN]}: {error.message[:_MOST_SHOWN]}"

    def _counted(self, keyword: Keyword) -> Keyword:
        @functools.wraps(keyword)
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
            self._num_steps += 1
            if self._num_steps > _MOST_STEPS:
                raise _TooExpensive
            yield from keyword(validator, value, instance, schema) or ()

        return counted

    def _matches(self, source: str, text: str) -> bool:
        """An expression that cannot be read holds nothing up."""
        if source not in self._patterns:
            try:
                self._patterns[source] = Pattern(source, is_search=True)
            except InvalidRequest:
                self._patterns[source] = None
        pattern = self._patterns[source]
        return pattern is None or pattern.matches(text)

    def _pattern(self, validator: Any, source: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        if validator.is_type(instance, "string") and not self._matches(source, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {source!r}")

    def _pattern_properties(
        self, validator: Any, patterns: Any, instance: Any, schema: Any
    ) -> Iterator[jsonschema.ValidationError]:
        if not validator.is_type(instance, "object"):
            return
        for source, subschema in patterns.items():
            for name, value in instance.items():
                if self._matches(source, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=source)

    def _additional_properties(
        self, validator: Any, allowed: Any, instance: Any, schema: Any
    ) -> Iterator[jsonschema.ValidationError]:
        if not validator.is_type(instance, "object"):
            return
        for name, value in instance.items():
            if name in schema.get("properties", {}):
                continue
            if any(self._matches(source, name) for source in schema.get("patternProperties", {})):
                continue
            if allowed is False:
                yield jsonschema.ValidationError(f"{name!r} is not a property that is allowed here")
            else:
                yield from validator.descend(value, allowed, path=name)


def _refuse_mixture(schema: object, param: str) -> None:
    """Where `unevaluatedProperties` looks at `patternProperties`, Python's own engine would run the expressions."""
    found: set[str] = set()
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            found.update(name for name in ("unevaluatedProperties", "patternProperties") if name in part)
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    if len(found) == 2:
        raise InvalidRequest(
            f"{param}: a JSON schema with both patternProperties and unevaluatedProperties cannot be checked here.",
            param=param,
        )
