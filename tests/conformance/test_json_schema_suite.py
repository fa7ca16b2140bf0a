"""JSON-Schema-Test-Suite (draft 2020-12): what compiles is followed to the letter, and the rest is refused.

https://github.com/json-schema-org/JSON-Schema-Test-Suite, MIT, from the source distribution of `jsonschema` (MIT).
`docs/structured-output.md` has what is found here; where it has not, the test says what it should have.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator
from random_walk import Walker

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import open_model
from hodios.errors import InvalidRequest
from hodios.types import Grammar

SOURCES = "jsonschema==4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
BEGIN, END = "<!-- compared by tests/conformance/test_json_schema_suite.py -->", "<!-- end -->"
SAMPLE = 4
"""Without --full each seed walks through every fourth schema, and another quarter than the seed before."""
MOST_SPELLINGS = 300
EXCEPTIONS = {
    "a whole number written with a fraction, such as 1.0": (
        "float zero is valid",
        "float one is valid",
        "float -2.0 is valid",
        "float is valid",
        "[[]0.0] is valid",
        "[[]1.0] is valid",
        "a float with zero fractional part is an integer",
    ),
    "a string that is not of the `format`, which the standard takes for a remark": (
        "invalid * string is only an annotation by default",
    ),
    "what a meta-schema of the client's own would switch off": (
        "no validation: invalid number, but it still validates",
    ),
}
"""Valid values that are never generated: why, and the suite's names of them."""


UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "not": ({"not": {"type": "string"}}, "#/not"),
    "if": ({"if": {"type": "string"}, "then": {"maxLength": 3}}, "#/if"),
    "contains": ({"type": "array", "contains": {"type": "string"}}, "#/contains"),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
    "oneOf": ({"items": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}, "#/items/oneOf"),
    "unevaluatedProperties": ({"anyOf": [{}], "unevaluatedProperties": False}, "#/unevaluatedProperties"),
    "unevaluatedItems": ({"$ref": "#/$defs/a", "unevaluatedItems": False, "$defs": {"a": {}}}, "#/unevaluatedItems"),
    "minProperties": ({"type": "object", "minProperties": 2}, "#/minProperties"),
    "maxProperties": ({"properties": {"a": {}, "b": {}}, "maxProperties": 1}, "#/maxProperties"),
    "propertyNames": ({"propertyNames": {"format": "date"}}, "#/propertyNames"),
    "dependentSchemas": ({"dependentSchemas": {key: {} for key in "abcde"}}, "#/dependentSchemas"),
    "dependentRequired": ({"dependentRequired": {key: ["z"] for key in "abcde"}}, "#/dependentRequired"),
    "dependencies": ({"dependencies": {"a": ["b"]}}, "#/dependencies"),
    "patternProperties": ({"items": {"patternProperties": {"a": {}, "b": {}}}}, "#/items/patternProperties"),
    "pattern": ({"properties": {"a": {"pattern": "(?=b)"}}}, "#/properties/a/pattern"),
    "multipleOf": ({"items": {"multipleOf": 0.123456789}}, "#/items/multipleOf"),
    "const": ({"const": 2**53 + 1}, "#/const"),
    "minimum": ({"minimum": 2**60}, "#/minimum"),
    "$ref": ({"properties": {"a": {"$ref": "http://localhost/a.json"}}}, "#/properties/a/$ref"),
    "$dynamicRef": (
        {
            "$dynamicRef": "#a",
            "$defs": {"a": {"$dynamicAnchor": "a"}, "b": {"$id": "b", "$dynamicAnchor": "a", "type": "null"}},
        },
        "#/$dynamicRef",
    ),
}
"""A schema that is refused for each keyword, and the place that the refusal names."""


class Case(NamedTuple):
    place: str
    schema: Any
    tests: list[dict[str, Any]]

    @property
    def grammar(self) -> Grammar:
        return Grammar("json_schema", json.dumps(self.schema))


@pytest.fixture(scope="module")
def cases(repository: Path) -> list[Case]:
    """The suite's schemas and their tests."""
    home = repository / ".cache" / SOURCES
    archive = home / "jsonschema-4.26.0.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "jsonschema", "--dest"]
        found = subprocess.run([*command, str(home), SOURCES], capture_output=True, text=True, check=False)
        assert archive.exists(), f"this test needs the sources of {SOURCES}, and pip cannot fetch them:\n{found.stderr}"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    cases = []
    with tarfile.open(archive) as sources:
        for member in sorted(sources.getmembers(), key=lambda member: member.name):
            _, found_name, name = member.name.partition("/json/tests/draft2020-12/")
            file = sources.extractfile(member) if found_name and "/" not in name else None
            for group in json.load(file) if file else ():
                place = f"{name.removesuffix('.json')}: {group['description']}"
                cases.append(Case(place, group["schema"], group["tests"]))
    return cases


@pytest.fixture(scope="module")
def walker(starter_model_path: Path) -> Walker:
    return Walker(Tokenizer.from_gguf(open_model(starter_model_path).metadata))


@pytest.fixture(scope="module")
def refused(cases: list[Case], walker: Walker) -> list[tuple[Case, str]]:
    """With what a client is told."""
    return [(case, message) for case in cases if (message := refusal(walker, case)) is not None]


@pytest.fixture(scope="module")
def compiled(cases: list[Case], refused: list[tuple[Case, str]]) -> list[Case]:
    places = [case.place for case, _ in refused]
    return [case for case in cases if case.place not in places]


def refusal(walker: Walker, case: Case) -> str | None:
    """What a client is told, None where the schema is followed."""
    try:
        walker.compiler.compile(case.grammar)
    except InvalidRequest as refused:
        return refused.message
    return None


def spellings(value: Any) -> Iterator[Any]:
    """The same value with its properties in every order: grammars want the order of the schema."""
    match value:
        case dict():
            for names in itertools.permutations(value):
                for each in itertools.product(*(list(itertools.islice(spellings(value[name]), 24)) for name in names)):
                    yield dict(zip(names, each, strict=True))
        case list():
            for each in itertools.product(*(list(itertools.islice(spellings(item), 12)) for item in value)):
                yield list(each)
        case _:
            yield value


def accepts(walker: Walker, grammar: Grammar, value: Any) -> bool:
    tried = itertools.islice(spellings(value), MOST_SPELLINGS)
    return any(walker.accepts(grammar, json.dumps(each, ensure_ascii=False), parse_special=False) for each in tried)


def is_excepted(description: str) -> bool:
    return any(fnmatch(description, pattern) for patterns in EXCEPTIONS.values() for pattern in patterns)


def test_valid_values_may_be_said_and_invalid_ones_not(compiled: list[Case], walker: Walker) -> None:
    wrong = [
        f"{case.place}: {test['description']}"
        for case in compiled
        for test in case.tests
        if accepts(walker, case.grammar, test["data"]) is not test["valid"]
        and not (test["valid"] and is_excepted(test["description"]))
    ]
    assert wrong == []


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_what_is_said_at_random_is_valid(compiled: list[Case], walker: Walker, seed: int) -> None:
    walk(compiled[seed::SAMPLE], walker, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(40))
def test_what_is_said_at_random_is_valid_for_every_schema(compiled: list[Case], walker: Walker, seed: int) -> None:
    walk(compiled, walker, seed)


def walk(cases: list[Case], walker: Walker, seed: int) -> None:
    num_ended = 0
    for case in cases:
        answer = walker.answer(case.grammar, seed)
        if answer is not None:
            num_ended += 1
            errors = [error.message for error in Draft202012Validator(case.schema).iter_errors(json.loads(answer))]
            assert errors == [], f"{case.place}: {answer}"
    assert num_ended > 0.9 * len(cases)


def test_refusals_say_which_keyword_and_where(refused: list[tuple[Case, str]]) -> None:
    for case, message in refused:
        places = re.findall(r"(#/.*?): ", message)
        assert places or case.schema is False, f"{case.place}: {message}"
        for place in places:
            assert leads_somewhere(case.schema, place), f"{case.place}: {place}"


def leads_somewhere(schema: Any, place: str) -> bool:
    for step in place.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        schema = schema[int(key)] if isinstance(schema, list) else schema.get(key)
    return schema is not None


@pytest.mark.parametrize("keyword", UNSUPPORTED)
def test_what_is_not_supported_is_refused(keyword: str, walker: Walker) -> None:
    schema, place = UNSUPPORTED[keyword]
    assert place in (refusal(walker, Case("", schema, [])) or "")


def test_the_documentation_has_the_figures(
    cases: list[Case], refused: list[tuple[Case, str]], repository: Path
) -> None:
    documented = (repository / "docs" / "structured-output.md").read_text(encoding="utf-8")
    assert figures(cases, refused) in documented
    listed = re.findall(r"^\| `([^`]+)`", documented.partition("## What is refused")[2].partition("\n## ")[0], re.M)
    assert sorted(listed) == sorted(UNSUPPORTED)


def figures(cases: list[Case], refused: list[tuple[Case, str]]) -> str:
    num_compiled = len(cases) - len(refused)
    share = 100 * num_compiled / len(cases)
    counts = Counter[str]()
    for _, message in refused:
        found = re.search(r"#(?:/[^/]*?)*/([^/]*?): ", message)
        counts[found[1] if found else "false"] += 1
    listed = ", ".join(f"`{keyword}` {count}" for keyword, count in sorted(counts.items(), key=lambda x: (-x[1], x[0])))
    return (
        f"{BEGIN}\n{num_compiled} of the suite's {len(cases)} schemas are followed: {share:.0f} %. The others are "
        f"refused, and for so many of them this keyword is named first: {listed}.\n{END}"
    )
