"""What a broken answer is written as, so that whoever goes on reads exactly what the client has."""

from __future__ import annotations

import pytest

from hodios.dialog.beginning import Stretch, write_beginning
from hodios.dialog.formats.mistral import MistralFormat
from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.reasoning import ReasoningParser
from hodios.events import Reasoning, Text, ToolCall
from hodios.providers.reading import ChoiceReader
from hodios.types import Beginning, SentCall, Tool

TOOLS = (Tool("f"), Tool("g-2.x"))
IDS = [MistralFormat().new_id("seed", number) for number in range(3)]
TAGGED = (
    'Sure:\n<tool_call>\n{"name": "f", "arguments": {"a": "}\\"\\u00e9é🙂", "b": [{}, -1.5e3]}}\n</tool_call>\n'
    '<tool_call>\n{"name": "g-2.x", "arguments": {}}\n</tool_call>\n<tool_call>\n{"name": "f", "arguments": {"c": 1}}\n'
    "</tool_call>"
)
ANSWERS = [
    ("hermes", "", "No call at all; <tool_cal or so. 🙂"),
    ("hermes", "", TAGGED),
    ("hermes", "", TAGGED.removeprefix("Sure:\n")),
    ("generic", "", TAGGED),
    ("hermes", "", f"<think>\nHm.\n\nSo < or >?\n</think>\n\n{TAGGED}"),
    ("hermes", "think", f"Hm.\n\nSo < or >?\n</think>\n\n{TAGGED}"),
    ("llama3", "", '{"name": "f", "parameters": {"a": "}é"}}; {"name": "g-2.x", "parameters": {}}'),
    ("llama3", "", 'So.<function=f>{"a": "}é"}</function><function=g-2.x>{}</function>'),
    ("llama3", "", '<think>\nHm.\n</think>\n\n{"name": "f", "parameters": {"a": 1}}'),
    (
        "mistral",
        "",
        f'[TOOL_CALLS] [{{"name": "f", "arguments": {{"a": "]"}}, "id": "{IDS[0]}"}}, '
        f'{{"name": "g-2.x", "arguments": {{}}, "id": "{IDS[1]}"}}]',
    ),
    ("mistral", "", 'So.[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "123456789"}]'),
]


class Client:
    """Reads an answer piece by piece, and keeps what was shown of it."""

    def __init__(self, format: str, opened: str) -> None:
        parser = ReasoningParser(FORMATS[format].parser(TOOLS, is_trusted=True), opened=opened)
        self.reader = ChoiceReader(parser, new_id=lambda number: FORMATS[format].new_id("seed", number))
        self.reasoning = self.text = ""
        self.calls: list[SentCall] = []

    def push(self, text: str) -> Beginning:
        for event in self.reader.push(Text(0, text)):
            match event:
                case Text():
                    self.text += event.text
                case Reasoning():
                    self.reasoning += event.text
                case ToolCall():
                    if event.name:
                        self.calls.append(SentCall(event.id, event.name, ""))
                    last = self.calls[-1]
                    self.calls[-1] = SentCall(last.id, last.name, last.arguments + event.arguments)
        return Beginning(reasoning=self.reasoning, text=self.text, calls=tuple(self.calls))


def written(beginning: Beginning, format: str, opened: str) -> str:
    stretches = write_beginning(beginning, FORMATS[format], is_token=lambda text: False, opened=opened)
    assert len(stretches) <= 1
    return "".join(stretch.text for stretch in stretches)


@pytest.mark.parametrize(("format", "opened", "answer"), ANSWERS)
def test_every_cut_is_written_as_it_was_read(format: str, opened: str, answer: str) -> None:
    client = Client(format, opened)
    for character in answer:
        beginning = client.push(character)
        if beginning == Beginning():
            continue
        text = written(beginning, format, opened)
        assert answer.startswith(text)
        again = Client(format, opened)
        # It may hold back a little of what was shown, because it could become markup as far as it knows.
        read = again.push(text)
        assert beginning.text.startswith(read.text)
        assert beginning.reasoning.startswith(read.reasoning)
        assert read.calls == beginning.calls
        # And from there on both read the same.
        assert again.push(answer[len(text) :]) == Client(format, opened).push(answer)


def test_markers_stand_apart_where_they_are_tokens() -> None:
    beginning = Beginning(reasoning="Hm", text="So <tool_call>", calls=(SentCall("1", "f", '{"a'),))
    tokens = {"<think>", "</think>", "<tool_call>", "So", "\n"}
    stretches = write_beginning(beginning, FORMATS["hermes"], is_token=tokens.__contains__)
    assert stretches == [
        Stretch("<think>", True),
        Stretch("\nHm\n"),
        Stretch("</think>", True),
        Stretch("\n\nSo <tool_call>\n"),
        Stretch("<tool_call>", True),
        Stretch('\n{"name": "f", "arguments": {"a'),
    ]


def test_the_later_form_of_mistral_is_written_where_the_vocabulary_has_it() -> None:
    calls = (SentCall("1", "f", "{}"), SentCall("2", "g-2.x", '{"a'))
    tokens = {"[TOOL_CALLS]", "[ARGS]"}
    stretches = write_beginning(Beginning(calls=calls), FORMATS["mistral"], is_token=tokens.__contains__)
    assert "".join(stretch.text for stretch in stretches) == '[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g-2.x[ARGS]{"a'
    assert [stretch.text for stretch in stretches if stretch.is_markup] == ["[TOOL_CALLS]", "[ARGS]"] * 2
    odd = (SentCall("1", "two words", "{}"),)
    (_, rest) = write_beginning(Beginning(calls=odd), FORMATS["mistral"], is_token=tokens.__contains__)
    assert rest == Stretch(' [{"name": "two words", "arguments": {}')


def test_an_id_of_another_format_becomes_one_that_templates_take() -> None:
    calls = (SentCall("call_0123456789abcdef", "f", "{}"), SentCall("", "f", "{}"))
    text = written(Beginning(calls=calls), "mistral", "")
    assert len(text.split('"id": "')[1].split('"')[0]) == 9


def test_a_thought_that_the_client_does_not_see_is_closed() -> None:
    assert written(Beginning(text="So"), "hermes", "think") == "\n</think>\n\nSo"
