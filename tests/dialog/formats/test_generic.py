"""The format for models without one of their own."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, Piece
from hodios.types import Tool

GENERIC = FORMATS["generic"]
Read = Callable[..., list[Piece]]
TOOL = Tool("get_weather", 'Says "how" it is', {"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.mark.parametrize(
    "text",
    [
        'Here is one: {"name": "f", "arguments": {}}',
        '{"name": "f", "arguments": {}}',
        '```json\n{"name": "f", "arguments": {}}\n```',
        '{"tool_calls": [{"name": "f", "arguments": {}}]}',
        '[{"name": "f", "arguments": {}}]',
        "f(a=1)",
    ],
)
def test_json_without_tags_is_content(read_any_way: Read, text: str) -> None:
    assert read_any_way("generic", [text]) == [Content(text)]


def test_tags_around_json_are_a_call(read_any_way: Read) -> None:
    text = 'I look.\n<tool_call>\n{"name": "f", "arguments": {"a": "<tool_call>"}}\n</tool_call>\n'
    expected = [Content("I look."), CallName(0, "f"), CallArguments(0, '{"a": "<tool_call>"}')]
    assert read_any_way("generic", [text]) == expected


def test_the_instructions_show_the_tools_and_a_call_that_can_be_read(read_any_way: Read) -> None:
    text = GENERIC.instructions([TOOL, Tool("g")], is_parallel=True)
    listed = [json.loads(line) for line in text.split("\n") if line.startswith('{"name": ') and "description" in line]
    assert [tool["name"] for tool in listed] == ["get_weather", "g"]
    assert listed[0] == {"name": TOOL.name, "description": TOOL.description, "parameters": TOOL.parameters}
    example = text[text.index("<tool_call>") : text.index("</tool_call>")]
    assert isinstance(read_any_way("generic", [example])[0], CallName)
    assert "several tools" in text
    assert "at most one tool" in GENERIC.instructions([TOOL], is_parallel=False)


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("22.0", "22.0"),
        ('{"degrees": 22.0}', '{"degrees": 22.0}'),
        ('It\'s "fine"\n', '"It\'s \\"fine\\"\\n"'),
        ("", '""'),
        (None, "null"),
        ("[" * 100_000, json.dumps("[" * 100_000)),
    ],
)
def test_results_are_json_however_they_come(content: str | None, written: str) -> None:
    text = GENERIC.write_result({"tool_call_id": "call_x", "name": "get_weather", "content": content})
    assert text == f'<tool_result>\n{{"name": "get_weather", "content": {written}}}\n</tool_result>'


def test_results_of_hermes_are_what_it_was_trained_on() -> None:
    text = FORMATS["hermes"].write_result({"name": "f", "content": "22.0"})
    assert text == '<tool_response>\n{"name": "f", "content": 22.0}\n</tool_response>'


@pytest.mark.parametrize("name", ["hermes", "llama3", "generic"])
def test_ids_look_like_those_of_openai_and_are_always_the_same(name: str) -> None:
    ids = [FORMATS[name].new_id("chat-1:0", number) for number in range(50)]
    assert len(set(ids)) == 50
    assert all(len(id) == 29 and id.startswith("call_") and id[5:].isalnum() for id in ids)
    assert ids == [FORMATS[name].new_id("chat-1:0", number) for number in range(50)]
    assert FORMATS[name].new_id("chat-2:0", 0) != ids[0]


def test_every_format_is_found_by_its_name() -> None:
    assert {name: format.name for name, format in FORMATS.items()} == {name: name for name in FORMATS}
    assert set(FORMATS) == {"hermes", "llama3", "mistral", "generic"}
    assert all(format.markers for format in FORMATS.values())
