"""Mistral's two forms of calls, and their ids."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Piece
from hodios.types import Tool

MISTRAL = FORMATS["mistral"]
Read = Callable[..., list[Piece]]
F = '{"name": "f", "arguments": {"a": "]}"}, "id": "abc123XYZ"}'
G = '{"name": "g", "arguments": {}}'
READ_F = [CallName(0, "f", "abc123XYZ"), CallArguments(0, '{"a": "]}"}')]
READ_G = [CallName(1, "g"), CallArguments(1, "{}")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[TOOL_CALLS] [{F}]", READ_F),
        (f"[TOOL_CALLS]{F}", READ_F),
        (f"Let me see.\n[TOOL_CALLS][{F}, {G}][/TOOL_CALLS]", [Content("Let me see."), *READ_F, *READ_G]),
        (f"[TOOL_CALLS] [ {F}\n,\n{G} ] Done.", [*READ_F, *READ_G, LeftOut(" Done.", "after_calls")]),
        (f"[TOOL_CALLS] [{F}", READ_F),
        (f"[TOOL_CALLS] [{F}, ", READ_F),
        (f'[TOOL_CALLS] [{F}, {{"name": "g', [*READ_F, LeftOut(' {"name": "g', "truncated_call")]),
        (f"[TOOL_CALLS] [{F}] [TOOL_CALLS] [{G}]", [*READ_F, *READ_G]),
        (f"[TOOL_CALLS] [{F}][/TOOL_CA", READ_F),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}', [CallName(0, "f"), CallArguments(0, '{"a": 1}')]),
        (
            'Hm.[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{"a": "[TOOL_CALLS]"}[TOOL_CALLS]g{} end',
            [
                Content("Hm."),
                CallName(0, "f", "abc123XYZ"),
                CallArguments(0, '{"a": "[TOOL_CALLS]"}'),
                *READ_G,
                LeftOut(" end", "after_calls"),
            ],
        ),
        ("[TOOL_CALLS]f[CALL_ID]too-short[ARGS] {}", [CallName(0, "f"), CallArguments(0, "{}")]),
    ],
)
def test_every_form_in_every_cut(read_any_way: Read, text: str, expected: list[Piece]) -> None:
    assert read_any_way("mistral", [text]) == expected


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "[TOOL_CALLS]not a json array[/TOOL_CALLS]",
        '[{"name": "f", "arguments": {}}][/TOOL_CALLS]',
        "[TOOL_CALLS] is a token.",
        "[TOOL_CALLS] []",
        "[TOOL_CALLS]",
        "[TOOL_CALL",
        "[TOOL_CALLS]f[ARG",
        "[TOOL_CALLS]f[ARGS][1]",
        "[TOOL_CALLS]f[CALL_ID][ARGS]{}",
        "[TOOL_CALLS]f[1]",
    ],
)
def test_what_only_looks_like_a_call_is_content(read_any_way: Read, text: str, is_trusted: bool) -> None:
    assert read_any_way("mistral", [text], is_trusted=is_trusted) == [Content(text)]


def test_a_tag_right_after_a_false_head(read_any_way: Read) -> None:
    expected = [Content("[TOOL_CALLS]f["), CallName(0, "g"), CallArguments(0, "{}")]
    assert read_any_way("mistral", ["[TOOL_CALLS]f[[TOOL_CALLS]g[ARGS]{}"]) == expected


def test_ids_of_another_form_are_not_kept(read_any_way: Read) -> None:
    text = '[TOOL_CALLS] [{"id": "1", "name": "f", "arguments": {}}]'
    assert read_any_way("mistral", [text]) == [CallName(0, "f"), CallArguments(0, "{}")]


def test_a_trusted_call_is_shown_before_an_id_that_comes_late(read_any_way: Read) -> None:
    first = '[TOOL_CALLS] [{"id": "abc123XYZ", "name": "f", "arguments": {}}]'
    assert read_any_way("mistral", [first], is_trusted=True)[0] == CallName(0, "f", "abc123XYZ")
    assert read_any_way("mistral", [f"[TOOL_CALLS] [{F}]"], is_trusted=True)[0] == CallName(0, "f")


def test_ids_are_nine_letters_or_digits_and_always_the_same() -> None:
    ids = [MISTRAL.new_id(seed, number) for seed in ("chat-1:0", "chat-1:1") for number in range(100)]
    assert len(set(ids)) == 200
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in ids)
    assert MISTRAL.new_id("chat-1:0", 0) == ids[0]


def test_what_it_writes() -> None:
    tool = Tool("f", "Does", {"type": "object", "properties": {}})
    text = MISTRAL.instructions([tool], is_parallel=True)
    tools = text.partition("[AVAILABLE_TOOLS] ")[2].partition("[/AVAILABLE_TOOLS]")[0]
    assert json.loads(tools)[0]["function"]["name"] == "f"
    call = {"id": "abc123XYZ", "function": {"name": "f", "arguments": {"a": "ü"}}}
    assert MISTRAL.write_calls([call]) == '[TOOL_CALLS] [{"name": "f", "arguments": {"a": "ü"}, "id": "abc123XYZ"}]'
    result = {"tool_call_id": "abc123XYZ", "name": "f", "content": "22"}
    assert MISTRAL.write_result(result) == '[TOOL_RESULTS] {"content": 22, "call_id": "abc123XYZ"}[/TOOL_RESULTS]'
