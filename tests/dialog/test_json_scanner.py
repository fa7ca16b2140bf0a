"""The scanner beside Python's own readers of JSON and of literals, in every cut."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.dialog.careless_json import mend, read_arguments, read_string
from hodios.dialog.json_scanner import DEEPEST, JsonScanner, Mark

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)
CONTAINERS = st.one_of(st.lists(JSON, max_size=4), st.dictionaries(st.text(max_size=5), JSON, max_size=4))
FRAGMENTS = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    '"',
    '"a"',
    '"b":',
    "1",
    "-0.5e+3",
    "01",
    "true",
    "nul",
    "\\",
    "'",
]


def scan(chunks: Iterable[str]) -> tuple[Mark | None, int, bool, list[tuple[Mark, int]]]:
    """How it ended, after how many characters, whether all was strict, and every other mark with its place."""
    scanner, offset, marks = JsonScanner(), 0, []
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            position = scanner.advance(chunk, position)
            if scanner.mark in (Mark.WHOLE, Mark.BROKEN):
                return scanner.mark, offset + position, scanner.is_strict, marks
            if scanner.mark is not None:
                marks.append((scanner.mark, offset + position))
        offset += len(chunk)
    return None, offset, scanner.is_strict, marks


def is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(CONTAINERS, st.sampled_from([None, 1]), st.booleans(), st.text(max_size=3), st.integers(0, 30))
def test_it_ends_where_the_value_ends(
    value: object, indent: int | None, ensure_ascii: bool, rest: str, cut: int
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    whole = scan([text + rest])
    assert whole[:3] == (Mark.WHOLE, len(text), True)
    assert scan(text + rest) == scan([(text + rest)[:cut], (text + rest)[cut:]]) == whole


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from([None, 2]))
def test_it_marks_the_members_of_the_outermost_object(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    marks = scan([text])[3]
    places = [position for _, position in marks]
    assert [mark for mark, _ in marks] == [Mark.KEY, Mark.KEY_END, Mark.VALUE, Mark.VALUE_END] * len(value)
    keys = [text[places[at] : places[at + 1]] for at in range(0, len(places), 4)]
    values = [text[places[at + 2] : places[at + 3]] for at in range(0, len(places), 4)]
    assert [json.loads(key) for key in keys] == list(value)
    assert [json.loads(member) for member in values] == list(value.values())


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.sampled_from("{["))
@settings(max_examples=500)
def test_it_takes_for_strict_just_what_is_json(text: str, opener: str) -> None:
    text = opener + text
    mark, position, is_strict, _ = scan(text)
    assert (mark is Mark.WHOLE and is_strict and not text[position:].strip(" \t\r\n")) == is_json(text)
    if mark is Mark.BROKEN:
        assert not any(is_json(text[:end]) for end in range(len(text) + 1))


@given(CONTAINERS)
def test_python_literals_become_json(value: object) -> None:
    text = repr(value)
    mark, position, _, _ = scan(text)
    assert (mark, position) == (Mark.WHOLE, len(text))
    assert json.loads(mend(text)) == ast.literal_eval(text) == value


@pytest.mark.parametrize(
    ("careless", "right"),
    [
        ("{'a': 'it\\'s \"it\"'}", '{"a": "it\'s \\"it\\""}'),
        ('{"a": [1, 2,], "b": {"c": None,},}', '{"a": [1, 2], "b": {"c": null}}'),
        ('{"re": "\\d+\\.", "path": "C:\\q"}', '{"re": "\\\\d+\\\\.", "path": "C:\\\\q"}'),
        ('{"a": "two\nlines\tand \x01"}', '{"a": "two\\nlines\\tand \\u0001"}'),
        ("{'a': '\\x41\\U0001F600\\0\\a\\\n\\u00e9'}", '{"a": "A\\ud83d\\ude00\\u0000\\\\a\\u00e9"}'),
        ("['\\xZ', '\\u12', '\\U00110000']", '["\\\\xZ", "\\\\u12", "\\\\U00110000"]'),
        ("[True, False, None, 'True', 12345678901234567890.5]", '[true, false, null, "True", 12345678901234567890.5]'),
    ],
)
def test_what_is_careless_is_mended(careless: str, right: str) -> None:
    assert scan([careless])[:3] == (Mark.WHOLE, len(careless), False)
    mended = mend(careless)
    assert mended == right
    assert scan([mended])[:3] == (Mark.WHOLE, len(mended), True)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("{]", 1),
        ("[}", 1),
        ("[1 2", 3),
        ("{a: 1}", 1),
        ('{"a" 1}', 5),
        ("[tru]", 4),
        ("[NaN]", 4),
        ("[+1]", 3),
        ("[.5]", 3),
        ("[1.]", 3),
        ("[01]", 3),
        ("[(1, 2)]", 1),
        ("[,]", 1),
        ("{,}", 1),
        ("['a' 'b']", 5),
        ("[f'a']", 2),
        ("]", 0),
        ("[\u00a01]", 1),
    ],
)
def test_all_else_is_broken_where_it_is_wrong(text: str, position: int) -> None:
    assert scan([text])[:2] == scan(text)[:2] == (Mark.BROKEN, position)


def test_deep_nesting_is_refused_not_recursed_into() -> None:
    assert scan(["[" * DEEPEST + "]" * DEEPEST])[:2] == (Mark.WHOLE, 2 * DEEPEST)
    assert scan(["[" * 100_000])[:2] == (Mark.BROKEN, DEEPEST)


@pytest.mark.parametrize(
    ("text", "closers"),
    [
        ('{"a": {"b": [1', ""),
        ('{"a": {"b": [1 ', "]}}"),
        ('{"a": "b"', "}"),
        ('{"a": "b', ""),
        ('{"a":', ""),
        ('{"a": 1,', ""),
        ("{}", ""),
        ("", ""),
    ],
)
def test_what_is_missing(text: str, closers: str) -> None:
    scanner, position = JsonScanner(), 0
    while position < len(text):
        position = scanner.advance(text, position)
    assert scanner.closers == closers


def test_numbers_too_long_for_the_interpreter() -> None:
    text = '{"a": ' + "9" * 10_000 + "}"
    assert scan([text])[:3] == (Mark.WHOLE, len(text), True)
    assert read_arguments(text, is_strict=True) == text
    wrapped = json.dumps(text)
    assert read_arguments(wrapped, is_strict=True) == text


def test_half_a_surrogate_pair_never_becomes_text() -> None:
    assert read_string('"\\ud83d\\ude00"') == "😀"
    assert read_string('"\\ud83d"') is None
    assert read_arguments('"{\\"a\\": \\"\\ud83d\\"}"', is_strict=True) == '{"a": "\\ud83d"}'
