"""Thoughts at the start of an answer, in every cut, with tools and without."""

from __future__ import annotations

import pytest

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, Parser, Piece, Thought
from hodios.dialog.reasoning import MARKERS, PlainParser, ReasoningParser, opened_by

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def shown(parser: Parser, chunks: list[str]) -> list[tuple[str, str]]:
    """What each kind of piece says, neighbours of one kind joined."""
    pieces: list[Piece] = []
    for chunk in chunks:
        pieces += parser.push(chunk)
    pieces += parser.finish()
    joined: list[tuple[str, str]] = []
    for piece in pieces:
        kind, text = type(piece).__name__, piece.name if isinstance(piece, CallName) else piece.text
        if joined and joined[-1][0] == kind:
            text = joined.pop()[1] + text
        joined.append((kind, text))
    return joined


def read(text: str, opened: str = "", has_tools: bool = False) -> list[tuple[str, str]]:
    def parser() -> ReasoningParser:
        return ReasoningParser(
            FORMATS["hermes"].parser((), is_trusted=False) if has_tools else PlainParser(), opened=opened
        )

    whole = shown(parser(), [text])
    assert shown(parser(), list(text)) == whole
    for cut in range(len(text) + 1):
        assert shown(parser(), [text[:cut], text[cut:]]) == whole
    return whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nLet me see.\n</think>\n\nHello!\n", [("Thought", "Let me see."), ("Content", "Hello!\n")]),
        ("\n <scratch_pad>a\n\nb</scratch_pad>c", [("Thought", "a\n\nb"), ("Content", "c")]),
        ("<think>\n\n</think>\n\nHello", [("Content", "Hello")]),
        ("<think>a</thi</think", [("Thought", "a</thi</think")]),
        ("<think>never closed \n", [("Thought", "never closed")]),
        ("<think>a</think><scratch_pad>b</scratch_pad> c", [("Thought", "ab"), ("Content", "c")]),
        ("<think>a</scratch_pad></think>", [("Thought", "a</scratch_pad>")]),
        ("<think>a</think> <thin", [("Thought", "a"), ("Content", "<thin")]),
        (" \n<thinker> x", [("Content", " \n<thinker> x")]),
        ("Well, <think>a</think> b", [("Content", "Well, <think>a</think> b")]),
        ("a</think>b", [("Content", "a</think>b")]),
        ("  \n", [("Content", "  \n")]),
        ("<thi", [("Content", "<thi")]),
        ("", []),
    ],
)
def test_thoughts_and_content(text: str, expected: list[tuple[str, str]]) -> None:
    assert read(text) == expected
    assert read(text, has_tools=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nHm. </think>\nHi", [("Thought", "Hm."), ("Content", "Hi")]),
        ("\n<think>\nHm.</think>Hi", [("Thought", "Hm."), ("Content", "Hi")]),
        ("</think>\n\nHi", [("Content", "Hi")]),
        ("<thinking aloud", [("Thought", "<thinking aloud")]),
        ("<th", [("Thought", "<th")]),
        (" ", []),
        ("a</think> ", [("Thought", "a")]),
    ],
)
def test_a_thought_that_the_prompt_opened(text: str, expected: list[tuple[str, str]]) -> None:
    assert read(text, opened="think") == expected


def test_calls_after_thoughts_and_none_within() -> None:
    text = f"<think>I could write {CALL}</think>\n\nSo: {CALL}"
    assert read(text, has_tools=True) == [
        ("Thought", f"I could write {CALL}"),
        ("Content", "So:"),
        ("CallName", "f"),
        ("CallArguments", "{}"),
    ]


def test_thoughts_are_streamed() -> None:
    parser = ReasoningParser(PlainParser())
    assert list(parser.push("<thi")) == []
    assert list(parser.push("nk>\n")) == []
    assert list(parser.push("a <b")) == [Thought("a <b")]
    assert list(parser.push(" c\n\n</")) == [Thought(" c")]
    assert list(parser.push("think>\nx")) == [Content("x")]


def test_content_is_not_held_once_it_has_begun() -> None:
    parser = ReasoningParser(PlainParser())
    assert list(parser.push(" a <")) == [Content(" "), Content("a <")]
    assert list(parser.push("think>")) == [Content("think>")]


def test_pieces_come_in_the_order_of_the_text() -> None:
    parser = ReasoningParser(FORMATS["hermes"].parser((), is_trusted=False))
    expected = [Thought("a"), Content("b"), CallName(0, "f"), CallArguments(0, "{}")]
    assert [*parser.push(f"<think>a</think>b {CALL}"), *parser.finish()] == expected


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("<|im_start|>assistant\n<think>\n", "think"),
        ("<scratch_pad>", "scratch_pad"),
        ("<think>\n\n</think>\n\n", ""),
        ("", ""),
    ],
)
def test_whether_the_prompt_opened_a_thought(prompt: str, name: str) -> None:
    assert opened_by(prompt) == name


def test_markers_are_the_tags() -> None:
    assert MARKERS == ("<think>", "</think>", "<scratch_pad>", "</scratch_pad>")
