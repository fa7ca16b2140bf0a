"""Answers that nobody has thought of: random calls in every format, soup, and hostile texts, in random chunks."""

from __future__ import annotations

import ast
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Piece
from hodios.types import Tool

Read = Callable[..., list[Piece]]

NAMES = tuple(FORMATS)
SPACE = " \t\r\n"
TAGS = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "<function=f>",
    "</function>",
)
OPENING = {
    "hermes": ("<tool_call>",),
    "generic": ("<tool_call>",),
    "mistral": ("[TOOL_CALLS]",),
    "llama3": ("<|python_tag|>", "<function="),
}
SNIPPETS = st.sampled_from(
    [*TAGS, *"{}[]()<>\"'\\:;,=/ \n\t", "<tool_", "[TOOL", '{"name": "f"', '"arguments": {', "\\u00e9", "True", "é🙂"]
)
STRINGS = st.lists(st.one_of(st.text(max_size=8), SNIPPETS), max_size=4).map("".join)
NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(STRINGS, inner, max_size=4)),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(STRINGS, VALUES, max_size=4)
TOOL_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,12}", fullmatch=True)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, None, 1]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n")]),
    }
)
GAPS = st.text(SPACE, max_size=2)


@st.composite
def texts_outside(draw: st.DrawFn, name: str) -> str:
    """Text without a call: it begins with a letter, so that it is no bare form, holds no tag that begins a call, and
    does not end within one."""
    text = draw(st.sampled_from(["", "Now ", "é"]))
    text = text and text + draw(STRINGS)
    for tag in OPENING[name]:
        text = text.replace(tag, "")
    while any(text.endswith(tag[:length]) for tag in OPENING[name] for length in range(1, len(tag))):
        text = text[:-1]
    return "" if any(tag in text for tag in OPENING[name]) else text


def written(name: str, tool: str, arguments: str, gap: str, is_name_first: bool) -> str:
    """One call, without what stands before and between calls."""
    key = '"parameters"' if name == "llama3" else '"arguments"'
    members = [f'"name":{gap}{json.dumps(tool)}', f"{key}:{gap}{arguments}"]
    return f"{{{gap}{f',{gap}'.join(members if is_name_first else reversed(members))}{gap}}}"


def nested(call: str) -> str:
    """As OpenAI's API has it."""
    return f'{{"type": "function", "function": {call}}}'


LAYOUTS: dict[str, Callable[[list[str]], str]] = {
    "lines": "\n".join,
    "list": lambda calls: f"[{', '.join(calls)}]",
    "fence": lambda calls: f"```json\n{' '.join(calls)}\n```",
}
"""What tagged formats may have between one pair of tags, besides one call."""


def framed(name: str, calls: list[str], gap: str, layout: str = "") -> list[str]:
    """The same as texts: one for each call, with its markup, or one for all where text cannot stand between."""
    match name:
        case "hermes" | "generic" if layout:
            return [f"<tool_call>{gap}{LAYOUTS[layout](calls)}{gap}</tool_call>"]
        case "mistral":
            return [f"[TOOL_CALLS]{gap}[{gap}{f'{gap},{gap}'.join(calls)}{gap}]"]
        case "llama3":
            return [f"<|python_tag|>{gap}{f'{gap};{gap}'.join(calls)}"]
        case _:
            return [f"<tool_call>{gap}{call}{gap}</tool_call>" for call in calls]


@st.composite
def chunked(draw: st.DrawFn, text: str) -> list[str]:
    if draw(st.booleans()):
        return list(text)
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(text)), max_size=12))), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def outside(text: str, has_calls: bool, is_last: bool) -> list[Piece]:
    """What is to be read of text between calls."""
    shown = text if is_last and not has_calls else text.rstrip(SPACE)
    if not shown:
        return []
    return [LeftOut(shown, "after_calls") if has_calls else Content(shown)]


def check_calls(read: Read, data: st.DataObject, name: str) -> None:
    tools = data.draw(st.lists(TOOL_NAMES, max_size=3))
    style, gap, is_name_first = data.draw(STYLES), data.draw(GAPS), data.draw(st.booleans())
    arguments = [json.dumps(data.draw(ARGUMENTS), **style) for _ in tools]
    calls = [written(name, *call, gap, is_name_first) for call in zip(tools, arguments, strict=True)]
    layout = data.draw(st.sampled_from(["", "", *LAYOUTS]))
    if name != "llama3" and not layout and data.draw(st.booleans()):
        calls = list(map(nested, calls))
    blocks = framed(name, calls, gap, layout) if calls else []
    texts = [data.draw(texts_outside(name)) for _ in range(len(blocks) + 1)]
    text = texts[0] + "".join(itertools.chain.from_iterable(zip(blocks, texts[1:], strict=True)))
    expected = outside(texts[0], has_calls=False, is_last=not blocks)
    numbers = iter(enumerate(zip(tools, arguments, strict=True)))
    for following in texts[1:]:
        for number, (tool, slice_) in itertools.islice(numbers, len(tools) // len(blocks)):
            expected += [CallName(number, tool), CallArguments(number, slice_)]
        expected += outside(following, has_calls=True, is_last=False)
    known = [Tool(tool) for tool in tools]
    is_trusted = data.draw(st.booleans())
    assert read(name, data.draw(chunked(text)), is_trusted=is_trusted, tools=known) == expected


def check_literals(read: Read, data: st.DataObject, name: str) -> None:
    """What Python would print of the same call says the same."""
    tool, arguments = data.draw(TOOL_NAMES), data.draw(ARGUMENTS)
    call = repr({"name": tool, "parameters" if name == "llama3" else "arguments": arguments})
    text = "".join(framed(name, [call], data.draw(GAPS)))
    pieces = read(name, data.draw(chunked(text)))
    assert pieces[0] == CallName(0, tool)
    assert json.loads("".join(piece.text for piece in pieces if isinstance(piece, CallArguments))) == arguments
    assert len(pieces) == 2
    assert ast.literal_eval(call)["name"] == tool


def check_soup(read: Read, data: st.DataObject, name: str) -> None:
    """However little sense it makes: nothing is invented, and without a call nothing is lost."""
    fragments = st.one_of(
        SNIPPETS, st.sampled_from(['{"name": "f", "arguments": {}}', "[f(a=1)]", "f[ARGS]{}", '{"a": '])
    )
    text = "".join(data.draw(st.lists(fragments, max_size=25)))
    for is_trusted in (False, True):
        whole = read(name, [text], is_trusted=is_trusted)
        assert read(name, data.draw(chunked(text)), is_trusted=is_trusted) == whole
        rest = iter(text)
        shown = "".join(piece.text for piece in whole if isinstance(piece, Content | LeftOut))
        assert all(character in rest for character in shown), "it says what the text says, in its order"
        names = [piece for piece in whole if isinstance(piece, CallName)]
        assert [piece.number for piece in names] == list(range(len(names)))
        if not names:
            assert "".join(piece.text for piece in whole if isinstance(piece, Content)) == text
        if not is_trusted:
            arguments = [piece.text for piece in whole if isinstance(piece, CallArguments)]
            assert len(arguments) == len(names)
            assert all(isinstance(json.loads(slice_), dict) for slice_ in arguments)


CHECKS = {"calls": check_calls, "literals": check_literals, "soup": check_soup}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS)
@given(data=st.data())
@settings(max_examples=50)
def test_any_answer_in_any_chunks(read: Read, check: str, name: str, data: st.DataObject) -> None:
    CHECKS[check](read, data, name)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS)
@given(data=st.data())
@settings(max_examples=2_500)
def test_any_answer_in_any_chunks_at_length(read: Read, check: str, name: str, data: st.DataObject) -> None:
    """10,000 examples of each check."""
    CHECKS[check](read, data, name)


def repeated(unit: str) -> Callable[[int], str]:
    return lambda length: unit * (length // len(unit))


def after(beginning: str, unit: str) -> Callable[[int], str]:
    return lambda length: beginning + unit * (length // len(unit))


def mended(length: int) -> str:
    """One valid call, as Python writes it, whose every character must be mended."""
    return "<tool_call>{'name': 'f', 'arguments': {'a': '" + "\\'" * (length // 2) + "'}}</tool_call>"


HOSTILE: dict[str, Callable[[int], str]] = {
    "angles": repeated("<"),
    "square": repeated("["),
    "spaces": after("x", " "),
    "semicolons": after('{"name": "f", "parameters": {}}', "; "),
    "tags": repeated("<tool_call>"),
    "mistral_tags": repeated("[TOOL_CALLS]"),
    "mistral_heads": repeated("[TOOL_CALLS]f["),
    "mistral_name": after("[TOOL_CALLS]", "a"),
    "function_tags": repeated("<function=f>"),
    "closing": after('<tool_call>{"name": "f", "arguments": {}}', "</tool_call>"),
    "half_tags": repeated("<tool_cal"),
    "half_closing": repeated('<tool_call>{"a": 1</tool_cal'),
    "broken_calls": repeated('<tool_call>{"name" 1'),
    "open_quotes": repeated('<tool_call>{"'),
    "two_quotes": repeated('<tool_call>{"a": \''),
    "whole_calls": repeated('<tool_call>{"name": "f", "arguments": {}}</tool_call>'),
    "deep": after('<tool_call>{"name": "f", "arguments": {"a": ', "["),
    "deep_bare": repeated('{"a":'),
    "pythonic": after("[", "f(a=1), "),
    "pythonic_open": repeated("[f(a="),
    "number": after('<tool_call>{"name": "f", "arguments": {"a": ', "1"),
    "string": after('<tool_call>{"name": "f", "arguments": {"a": "', "b"),
    "backslashes": after('[TOOL_CALLS] [{"name": "f", "arguments": {"a": "', "\\"),
    "elements": after("[TOOL_CALLS] [", '{"name": "f", "arguments": {}}, '),
    "mended": mended,
}


def work(read: Read, name: str, chunks: Iterable[str]) -> int:
    """Functions called, our own and the interpreter's."""
    num_calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal num_calls
        num_calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        read(name, chunks, tools=[Tool("f")])
    finally:
        sys.setprofile(None)
    return num_calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_cost_a_bounded_work_a_character(read: Read, name: str, kind: str) -> None:
    short, long = HOSTILE[kind](500), HOSTILE[kind](2_000)
    work_of_long = work(read, name, long)
    assert work_of_long <= 40 * len(long) + 500
    assert work_of_long <= 4.2 * work(read, name, short) + 500
    assert work(read, name, [long]) <= work_of_long + 500


def check_long(read: Read, name: str, text: str) -> None:
    """Work on the whole of what was read so far, at each character, would not end."""
    whole = read(name, [text])
    assert read(name, text) == whole
    if not any(isinstance(piece, CallName) for piece in whole):
        assert whole == [Content(text)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_long_hostile_texts_end(read: Read, name: str, kind: str) -> None:
    check_long(read, name, HOSTILE[kind](10_000))


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_very_long_hostile_texts_end(read: Read, name: str, kind: str) -> None:
    check_long(read, name, HOSTILE[kind](1_100_000))


def test_no_state_is_left_between_answers(read: Read) -> None:
    for name in NAMES:
        format = FORMATS[name]
        first, second = format.parser([Tool("f")], is_trusted=False), format.parser([Tool("f")], is_trusted=False)
        first.push('<tool_call>{"name": "f')
        assert [*second.push("Hello"), *second.finish()] == [Content("Hello")]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_a_parser_reads_what_its_format_writes(read: Read, name: str, data: st.DataObject) -> None:
    names = data.draw(st.lists(TOOL_NAMES, min_size=1, max_size=3))
    written: list[dict[str, Any]] = []
    for number, tool in enumerate(names):
        function = {"name": tool, "arguments": data.draw(ARGUMENTS)}
        written.append({"id": FORMATS[name].new_id("seed", number), "function": function})
    text = FORMATS[name].write_calls(written)
    expected: list[Piece] = []
    for number, call in enumerate(written):
        id = call["id"] if name == "mistral" else ""
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        expected += [CallName(number, call["function"]["name"], id), CallArguments(number, arguments)]
    assert read(name, data.draw(chunked(text)), tools=[Tool(tool) for tool in names]) == expected
