"""Llama 3's many forms of a call, and what only looks like one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Piece
from hodios.types import Tool

Read = Callable[..., list[Piece]]


def calls(*expected: tuple[str, str]) -> list[Piece]:
    pieces: list[Piece] = []
    for number, (name, arguments) in enumerate(expected):
        pieces += [CallName(number, name), CallArguments(number, arguments)]
    return pieces


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', calls(("f", '{"a": 1}'))),
        ('\n\n{"type": "function", "name": "f", "parameters": {}}\n', calls(("f", "{}"))),
        ('{"name": "unknown", "arguments": {}}', calls(("unknown", "{}"))),
        (
            '{"name": "f", "parameters": {"q": "a; b } ]"}}; {"name": "g", "parameters": {}};',
            calls(("f", '{"q": "a; b } ]"}'), ("g", "{}")),
        ),
        ('{"name": "f", "parameters": {}}\n{"name": "g", "parameters": {}}', calls(("f", "{}"), ("g", "{}"))),
        (
            'Both: <|python_tag|>{"name": "f", "parameters": {}};{"name": "g", "parameters": {}} Done.',
            [Content("Both:"), *calls(("f", "{}"), ("g", "{}")), LeftOut(" Done.", "after_calls")],
        ),
        (
            '<|python_tag|>{"name": "f", "parameters": {"a": "<|python_tag|>{x}"}}',
            calls(("f", '{"a": "<|python_tag|>{x}"}')),
        ),
        (
            '<|python_tag|>brave_search.call(query="what\'s up (now)")',
            calls(("brave_search", '{"query": "what\'s up (now)"}')),
        ),
        ("<|python_tag|>get_weather(city='Oslo')", calls(("get_weather", '{"city": "Oslo"}'))),
        ('<function=f>{"a": {"b": "</function>"}}</function>', calls(("f", '{"a": {"b": "</function>"}}'))),
        (
            'Hm. <function=f>{"a": 1}</function>\n<function=g>{}</function> x',
            [Content("Hm."), *calls(("f", '{"a": 1}'), ("g", "{}")), LeftOut(" x", "after_calls")],
        ),
        ('<function=f>\n{"a": 1', [Content('<function=f>\n{"a": 1')]),
        ('<function=f>{"a": [1</function>', calls(("f", '{"a": [1]}'))),
        ("[f(a='x'), g(b=1)]", calls(("f", '{"a": "x"}'), ("g", '{"b": 1}'))),
        (
            "[g(a=[1, {'x': True}], b=None, c='it\\'s \"q\"\\t', d=-1.5e-3,), f()] bye",
            [
                *calls(("g", '{"a": [1, {"x": true}], "b": null, "c": "it\'s \\"q\\"\\t", "d": -1.5e-3}'), ("f", "{}")),
                LeftOut(" bye", "after_calls"),
            ],
        ),
        ("[f(a='x'), g(b=", [*calls(("f", '{"a": "x"}')), LeftOut(" g(b=", "truncated_call")]),
        ('{"name": "f", "parameters": {}}; so', [*calls(("f", "{}")), LeftOut("; so", "after_calls")]),
        (
            '{"name": "f", "parameters": {}}; {"age": 3}',
            [*calls(("f", "{}")), LeftOut('; {"age": 3}', "after_calls")],
        ),
    ],
)
def test_every_form_in_every_cut(read_any_way: Read, text: str, expected: list[Piece], is_trusted: bool) -> None:
    if is_trusted and text == '<function=f>\n{"a": 1':
        expected = [CallName(0, "f"), CallArguments(0, '{"a": 1')]
    assert read_any_way("llama3", [text], is_trusted=is_trusted) == expected


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        'Here is one: {"name": "f", "parameters": {}}',
        '{"name": "Bingo", "age": 30}',
        '{"name": "f"}',
        '{"parameters": {}}',
        '{"name": "f", "parameters": 1}',
        "{",
        "  [1, 2, 3]\n",
        "[f](http://f)",
        "[f(1)] is a call",
        "[f(a=b)]",
        "[f(a=1, a=2)]",
        "[f(a=f(b=1))]",
        "[unknown(a=1)]",
        "[f(a=1",
        "<|python_tag|>print(1)",
        "<|python_tag|>import os",
        "<|python_tag|>",
        "<function=>{}</function>",
        "<function=f g>{}</function>",
        "<function=f>[]</function>",
        "<functio",
        " \n",
    ],
)
def test_what_only_looks_like_a_call_is_content(read_any_way: Read, text: str, is_trusted: bool) -> None:
    assert read_any_way("llama3", [text], is_trusted=is_trusted) == [Content(text)]


@pytest.mark.parametrize("text", ['{"name": "f", "parameters": {}}', "[f(a=1)]"])
def test_without_tools_bare_forms_are_content(read_any_way: Read, text: str) -> None:
    assert read_any_way("llama3", [text], tools=()) == [Content(text)]


def test_an_answer_in_json_is_shown_as_soon_as_it_cannot_be_a_call() -> None:
    parser = FORMATS["llama3"].parser([Tool("f")], is_trusted=False)
    assert list(parser.push('{"name": "Bingo", "a')) == []
    assert list(parser.push('ge"')) == [Content('{"name": "Bingo", "age"')]


def test_a_trusted_bare_call_is_streamed_from_its_arguments_on() -> None:
    parser = FORMATS["llama3"].parser([Tool("f")], is_trusted=True)
    assert list(parser.push('{"name": "f", "parameters": ')) == []
    assert list(parser.push('{"a"')) == [CallName(0, "f"), CallArguments(0, '{"a"')]


def test_what_it_writes() -> None:
    llama3 = FORMATS["llama3"]
    tool = Tool("f", "Does ü", {"type": "object", "properties": {}})
    text = llama3.instructions([tool], is_parallel=True)
    assert '{"name": function name, "parameters": dictionary of argument name and its value}' in text
    assert json.loads(text[text.index("\n\n{\n") :])["function"]["description"] == "Does ü"
    assert "semicolon" in text
    assert "one function at a time" in llama3.instructions([tool], is_parallel=False)
    call = {"id": "x", "function": {"name": "f", "arguments": {"a": "ü"}}}
    assert llama3.write_calls([call, call]) == "; ".join(['{"name": "f", "parameters": {"a": "ü"}}'] * 2)
    assert llama3.write_result({"name": "f", "content": "22.0"}) == '{"name": "f", "content": 22.0}'
