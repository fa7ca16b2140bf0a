"""Raw text of a choice becomes events; nothing is lost between the parser and the client."""

from __future__ import annotations

from collections.abc import Sequence

from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Piece, Thought
from hodios.events import Noticed, Reasoning, Stopped, Text, TokenLogprob, ToolCall
from hodios.providers.reading import ChoiceReader


class ScriptedParser:
    """Gives the next pieces of a script for each push, and the last ones at the end."""

    def __init__(self, *script: Sequence[Piece]) -> None:
        self._script = list(script)

    def push(self, text: str) -> Sequence[Piece]:
        return self._script.pop(0)

    def finish(self) -> Sequence[Piece]:
        return self._script.pop(0) if self._script else ()


def read(*script: Sequence[Piece], finish_reason: str = "stop", **options: bool) -> list[object]:
    reader = ChoiceReader(ScriptedParser(*script), new_id=lambda number: f"id{number}", **options)
    events: list[object] = []
    for number in range(len(script) - 1):
        events += reader.push(Text(0, "…", (), number + 1))
    return [*events, *reader.stop(Stopped(0, finish_reason, "END"))]  # type: ignore[arg-type]


def test_content_is_text_and_keeps_its_end() -> None:
    assert read([Content("a")], [Content("b")]) == [Text(0, "a", (), 1), Text(0, "b", (), 1), Stopped(0, "stop", "END")]


def test_a_call_gets_an_id_once_and_ends_in_tool_calls() -> None:
    events = read([CallName(0, "f")], [CallArguments(0, '{"a"')], [CallArguments(0, ": 1}")])
    assert events == [
        ToolCall(0, 0, "id0", "f", "", 1),
        ToolCall(0, 0, "", "", '{"a"', 2),
        ToolCall(0, 0, "", "", ": 1}", 2),
        Stopped(0, "tool_calls"),
    ]


def test_the_models_own_id_is_kept() -> None:
    assert read([CallName(0, "f", "abcdefghi"), CallArguments(0, "{}")], [])[0] == ToolCall(
        0, 0, "abcdefghi", "f", "", 1
    )


def test_a_call_that_was_cut_off_keeps_the_reason() -> None:
    events = read([CallName(0, "f"), CallArguments(0, '{"a": "b')], [], finish_reason="length")
    assert events[-1] == Stopped(0, "length", "END")
    noticed = events[-2]
    assert isinstance(noticed, Noticed)
    assert noticed.warning.code == "truncated_call"
    assert "'f'" in noticed.warning.message


def test_a_cut_off_call_after_whole_ones_keeps_the_reason_too() -> None:
    """Whoever reads `tool_calls` may parse the arguments of all."""
    whole = [CallName(0, "f"), CallArguments(0, "{}"), CallName(1, "g")]
    events = read(whole, [CallArguments(1, '{"a"')], [], finish_reason="length")
    assert events[-1] == Stopped(0, "length", "END")
    assert [event.warning.message for event in events if isinstance(event, Noticed)] == [
        "the answer broke off within the call of 'g': its arguments are no whole JSON"
    ]


def test_whole_calls_of_an_answer_that_was_cut_off_are_tool_calls() -> None:
    events = read(
        [CallName(0, "f"), CallArguments(0, "{}")], [LeftOut("<tool", "truncated_call")], finish_reason="length"
    )
    assert events[-1] == Stopped(0, "tool_calls")
    noticed = events[-2]
    assert isinstance(noticed, Noticed)
    assert noticed.warning.code == "left_out_truncated_call"
    assert "5 characters" in noticed.warning.message


def test_thoughts_are_reasoning_or_nothing() -> None:
    assert read([Thought("hm")], [Content("b")])[0] == Reasoning(0, "hm", 1)
    assert read([Thought("hm")], [Content("b")], has_reasoning=False) == [
        Text(0, "b", (), 1),
        Stopped(0, "stop", "END"),
    ]


def test_logprobs_stay_with_the_text_or_go_alone() -> None:
    logprob = TokenLogprob(1, "x", b"x", -0.5)
    reader = ChoiceReader(ScriptedParser([Content("x")], [CallName(0, "f")]), new_id=str)
    assert reader.push(Text(0, "x", (logprob,), 1)) == [Text(0, "x", (logprob,), 1)]
    assert reader.push(Text(0, "y", (logprob,), 2)) == [Text(0, "", (logprob,), 2), ToolCall(0, 0, "0", "f", "", 2)]


def test_tokens_of_thoughts_are_counted() -> None:
    reader = ChoiceReader(ScriptedParser([Thought("a")], [], [Thought("b")], [Content("c")]), new_id=str)
    for number in range(4):
        reader.push(Text(0, "…", (), 2 * (number + 1)))
    assert reader.reasoning_tokens == 4
