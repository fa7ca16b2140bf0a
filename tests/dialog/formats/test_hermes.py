"""The Hermes format: every row of the case file in every cut, and what its rows leave open."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Piece, Thought
from hodios.dialog.reasoning import ReasoningParser
from hodios.types import Tool

CASES = json.loads((Path(__file__).parent / "data" / "hermes_cases.json").read_text(encoding="utf-8"))["cases"]
HERMES = FORMATS["hermes"]
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
READ_CALL = [CallName(0, "f"), CallArguments(0, '{"a": 1}')]

Run = Callable[..., list[Piece]]
Read = Callable[..., list[Piece]]


def groupings(text: str, count: int) -> list[list[str]]:
    """Random chunks, the same in every run."""
    random = Random(text)
    found = []
    for _ in range(count):
        num_cuts = random.randint(0, len(text))
        edges = [0, *sorted(random.choices(range(len(text) + 1), k=num_cuts)), len(text)]
        found.append([text[start:end] for start, end in itertools.pairwise(edges)])
    return found


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['description']}")
def test_every_case_in_every_cut(run_parser: Run, case: dict[str, object], is_trusted: bool) -> None:
    text = str(case["text"])

    def read(chunks: object) -> list[Piece]:
        return run_parser(ReasoningParser(HERMES.parser((), is_trusted=is_trusted)), chunks)

    whole = read([text])
    halves = [[text[:cut], text[cut:]] for cut in range(len(text) + 1)]
    for chunks in [list(text), *halves, *groupings(text, 100)]:
        assert read(chunks) == whole
    if is_trusted:
        return
    names = [piece.name for piece in whole if isinstance(piece, CallName)]
    arguments = [json.loads(piece.text) for piece in whole if isinstance(piece, CallArguments)]
    assert [list(call) for call in zip(names, arguments, strict=True)] == case["calls"]
    assert "".join(piece.text for piece in whole if isinstance(piece, Content)) == case["content"]


def test_the_scratch_pad_is_a_thought(run_parser: Run) -> None:
    case = next(case for case in CASES if case["id"] == "x16")
    pieces = run_parser(ReasoningParser(HERMES.parser((), is_trusted=False)), case["text"])
    assert pieces[0] == Thought(
        'Goal: x\nActions:\n- r = functions.get_weather(location="NYC")\nObservation: None\nReflection: ok'
    )
    assert [type(piece) for piece in pieces] == [Thought, CallName, CallArguments]


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        (CALL + " Done.", LeftOut(" Done.", "after_calls")),
        (CALL + "\n", None),
        (CALL[: -len("</tool_call>")] + "}</tool_call>", LeftOut("}", "after_calls")),
        (CALL + "\n<tool_call>oops</tool_call> ", LeftOut("\n<tool_call>oops</tool_call>", "after_calls")),
        (CALL + '\n<tool_call>\n{"name": "f", "arg', LeftOut('<tool_call>\n{"name": "f", "arg', "truncated_call")),
        (CALL[:-5], None),
        (CALL[: -len("</tool_call>")] + " so <", LeftOut(" so <", "after_calls")),
        (CALL + "<tool_ca", LeftOut("<tool_ca", "truncated_call")),
        (CALL + "\n<t", LeftOut("<t", "truncated_call")),
        (CALL + "\n<", LeftOut("\n<", "after_calls")),
        (CALL + "\n</tool_ca", LeftOut("\n</tool_ca", "after_calls")),
    ],
)
def test_what_follows_a_call_is_left_out_but_not_lost(read_any_way: Read, text: str, left_out: Piece | None) -> None:
    assert read_any_way("hermes", [text]) == READ_CALL + ([left_out] if left_out else [])


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"name": "f", "arguments": {"a": [1, {"b": 2</tool_call>', '{"a": [1, {"b": 2}]}'),
        ('{"name": "f", "arguments": {"a": "}"} </tool_call>', '{"a": "}"}'),
        ('{"arguments": {"a": tru', None),
        ('{"name": "f", "arguments": {"a": tru</tool_call>', None),
        ('{"name": "f", "arguments": {"a": </tool_call>', None),
        ('{"name": "f", "arguments": {"a": 1</tool_cal }', None),
        ('{"name": "f", "arguments": {"a": 007}}</tool_call>', None),
        ('{"name": "f", "arguments": {"a": NaN}}</tool_call>', None),
        ('{"name": "f", "arguments": [1]}</tool_call>', None),
        ('{"name": "f", "arguments": "[1]"}</tool_call>', None),
        ('{"name": "f", "arguments": "{} {}"}</tool_call>', None),
        ('{"name": "", "arguments": {}}</tool_call>', None),
        ('{"name": 7, "arguments": {}}</tool_call>', None),
        ('{"name": "\\ud800", "arguments": {}}</tool_call>', None),
        ('{"name": "f", "name": "g", "arguments": {}}</tool_call>', None),
        ('{"name": "f", "arguments": {}, "parameters": {}}</tool_call>', None),
        ('["name", "f"]</tool_call>', None),
        ('{"name": "f", "arguments": null}</tool_call>', "{}"),
        ('{"name": "f", "arguments": ""}</tool_call>', "{}"),
        ('{"name": "f", "arguments": " {\\"a\\": 1} "}</tool_call>', '{"a": 1}'),
        ('{"name": "f", "arguments": "{\'a\': \'\\ud800\'}"}</tool_call>', '{"a": "\\ud800"}'),
        ('{"name": "f", "arguments": {"a":1e999,"b":-0.0,  "c":12345678901234567890.10}}', None),
        ('{"id": 3, "name": "f", "extra": {"name": "g"}, "arguments": {}}</tool_call>', "{}"),
    ],
)
def test_what_is_mended_and_what_is_given_back(read_any_way: Read, body: str, arguments: str | None) -> None:
    text = f"<tool_call>{body}"
    if body.endswith("10}}"):
        arguments = body[len('{"name": "f", "arguments": ') : -1]
    expected = [Content(text)] if arguments is None else [CallName(0, "f"), CallArguments(0, arguments)]
    assert read_any_way("hermes", [text]) == expected


G = '{"name": "g", "arguments": {}}'
F = '{"name": "f", "arguments": {"a": 1}}'
READ_BOTH = [*READ_CALL, CallName(1, "g"), CallArguments(1, "{}")]


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"\n```json\n{F}\n```\n", READ_CALL),
        (f"```{F}```", READ_CALL),
        (f"```json\n[{F},\n{G}]\n```", READ_BOTH),
        (f"```json\n{F}\n{G}\n```", READ_BOTH),
        (f"```json\n{F}\n", READ_CALL),
        (f"\n{F}\n{G}\n", READ_BOTH),
        (f"{F}, {G}", READ_BOTH),
        (f"[{F}, {G}]", READ_BOTH),
        (f"[{F}, {G}", READ_BOTH),
        (f"[{F}, {G[:-1]}", READ_BOTH),
        (f"[{F}]", READ_CALL),
        (f'{{"type": "function", "function": {F}}}', READ_CALL),
        (f'{{"id": "call_1", "function": {F}, "type": "function"}}', READ_CALL),
        ('{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}', READ_CALL),
        ("{'type': 'function', 'function': {'arguments': {'a': 1}, 'name': 'f'}}", READ_CALL),
        (f'{{"function": {{"x": 1}}, {F[1:]}', READ_CALL),
        (f"{F}\nDone", [*READ_CALL, LeftOut("\nDone", "after_calls")]),
        (f'{F}\n{{"age": 3}}', [*READ_CALL, LeftOut('\n{"age": 3}', "after_calls")]),
        (f"[{F}, Done]", [*READ_CALL, LeftOut(", Done]", "after_calls")]),
        (f"{F}]", [*READ_CALL, LeftOut("]", "after_calls")]),
        (f"{F}```", [*READ_CALL, LeftOut("```", "after_calls")]),
        (f"```{F}``", [*READ_CALL, LeftOut("``", "after_calls")]),
        (f"`{F}`", None),
        ("```json\nnothing\n```", None),
        (f"```json here: {F}```", None),
        ("[]", None),
        (f"[[{F}]]", None),
        ('["f", {"a": 1}]', None),
        ('{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}', None),
        ('{"type": "function", "function": {"name": "f", "description": "Does", "arguments": {}}}', None),
        (f'{{"type": "function", "function": [{F}]}}', None),
        (f'{{"function": {{"function": {F}}}}}', None),
        (f'{{"name": "f", "function": {F}}}', None),
    ],
)
def test_what_models_put_between_the_tags(
    read_any_way: Read, body: str, expected: list[Piece] | None, is_trusted: bool
) -> None:
    text = f"<tool_call>{body}</tool_call>"
    assert read_any_way("hermes", [text], is_trusted=is_trusted) == (expected or [Content(text)])


@pytest.mark.parametrize("end", ["", ",", "\n`", "```", "```\n", "]```", "</tool_c"])
def test_calls_stay_where_what_is_around_them_breaks_off(read_any_way: Read, end: str) -> None:
    start = "[" if end.startswith("]") else ""
    assert read_any_way("hermes", [f"<tool_call>```json\n{start}{F}{end}"]) == READ_CALL
    broken = f'<tool_call>```json\n{start}{F}, {{"name": "g"'
    assert read_any_way("hermes", [broken]) == [*READ_CALL, LeftOut(', {"name": "g"', "truncated_call")]


def test_a_broken_call_costs_only_itself(read_any_way: Read) -> None:
    broken = '<tool_call>{"name": "f, "arguments": {}}</tool_call>'
    assert read_any_way("hermes", [f"{broken}\n{CALL}"]) == [Content(broken), *READ_CALL]


def test_a_call_that_is_not_closed_before_the_next(read_any_way: Read) -> None:
    assert read_any_way("hermes", ['<tool_call>{"name": "g", "argum <tool_call>']) == [
        Content('<tool_call>{"name": "g", "argum <tool_call>')
    ]
    unclosed = CALL[: -len("</tool_call>")]
    second = [CallName(1, "f"), CallArguments(1, '{"a": 1}')]
    assert read_any_way("hermes", [f"{unclosed}\n{CALL}"]) == [*READ_CALL, *second]


def test_a_call_in_a_string_of_a_truncated_call_is_not_made(read_any_way: Read) -> None:
    text = f"""<tool_call>{{"name": "write", "arguments": {{"text": "like {CALL.replace('"', "'")}"""
    assert read_any_way("hermes", [text]) == [Content(text)]


def test_an_untrusted_call_is_shown_whole() -> None:
    parser = HERMES.parser((), is_trusted=False)
    body, last = CALL[: -len("}</tool_call>")], "}</tool_call>"
    assert list(parser.push(body)) == []
    assert list(parser.push(last)) == READ_CALL


def test_a_trusted_call_is_shown_as_it_comes() -> None:
    parser = HERMES.parser((), is_trusted=True)
    assert list(parser.push('Now. <tool_call>\n{"name": "f"')) == [Content("Now.")]
    assert list(parser.push(', "arguments": {')) == [CallName(0, "f"), CallArguments(0, "{")]
    assert list(parser.push('"a"')) == [CallArguments(0, '"a"')]
    assert list(parser.push(": 1")) == [CallArguments(0, ": 1")]
    assert list(parser.push("0}}\n</tool")) == [CallArguments(0, "0}")]
    assert list(parser.push("_call>")) == []
    assert list(parser.finish()) == []


def test_a_trusted_call_that_is_cut_off_just_ends(read_any_way: Read) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "b'
    assert read_any_way("hermes", [text], is_trusted=True) == [CallName(0, "f"), CallArguments(0, '{"a": "b')]


def test_after_calls_a_grammar_allows_nothing_but_calls(read_any_way: Read) -> None:
    truncated = LeftOut("<", "truncated_call")
    assert read_any_way("hermes", [f"{CALL}\n<"], is_trusted=True) == [*READ_CALL, truncated]


@pytest.mark.parametrize("name", FORMATS)
def test_no_call_is_shown_without_arguments(read: Read, name: str) -> None:
    """Wherever the answer is cut off."""
    call = {"id": "abcdefghi", "function": {"name": "f", "arguments": {"a": {"b": [1]}}}}
    text = FORMATS[name].write_calls([call, call])
    for end in range(len(text)):
        pieces = read(name, text[:end], is_trusted=True)
        assert read(name, [text[:end]], is_trusted=True) == pieces
        names = [piece.number for piece in pieces if isinstance(piece, CallName)]
        assert names == [piece.number for piece in pieces if isinstance(piece, CallArguments)]
        assert all(piece.text[0] == "{" for piece in pieces if isinstance(piece, CallArguments))
        if not names:
            assert pieces == ([Content(text[:end])] if end else [])


def test_a_trusted_call_may_name_itself_last(read_any_way: Read) -> None:
    text = '<tool_call>{"arguments": {"name": "Bob"}, "name": "f"}</tool_call>'
    expected = [CallName(0, "f"), CallArguments(0, '{"name": "Bob"}')]
    assert read_any_way("hermes", [text], is_trusted=True) == expected


def test_only_what_may_become_a_tag_is_held_back() -> None:
    parser = HERMES.parser((), is_trusted=False)
    assert list(parser.push("a <b> <tool")) == [Content("a <b>")]
    assert list(parser.push("s> ")) == [Content(" <tools>")]
    assert list(parser.push("x <")) == [Content(" x")]
    assert list(parser.finish()) == [Content(" <")]


def test_the_system_prompt_is_that_of_the_template() -> None:
    tool = Tool("get_weather", 'Says "how" it is', {"type": "object", "properties": {"city": {"type": "string"}}})
    text = HERMES.instructions([tool, tool], is_parallel=True)
    assert text.startswith(
        "You are a function calling AI model. You are provided with function signatures within <tools>"
    )
    assert text.endswith('\n<tool_call>\n{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>')
    tools = text.partition("<tools> ")[2].partition(" </tools>")[0].split("\n")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    assert [json.loads(line) for line in tools] == [{"type": "function", "function": function}] * 2
    schema = text.partition("you will make: ")[2].partition("\n")[0]
    assert json.loads(schema)["required"] == ["name", "arguments"]
    assert "at most one" in HERMES.instructions([tool], is_parallel=False)
