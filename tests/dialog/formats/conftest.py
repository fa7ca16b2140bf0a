"""How tests read an answer: in chunks, with neighbouring pieces of one kind joined, since no more is promised."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

import pytest
from msgspec.structs import replace

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, LeftOut, Parser, Piece
from hodios.types import Tool

TOOLS = tuple(Tool(name) for name in ("get_weather", "get_time", "f", "g"))


class Read(Protocol):
    def __call__(
        self, name: str, chunks: Iterable[str], *, is_trusted: bool = False, tools: Sequence[Tool] = TOOLS
    ) -> list[Piece]: ...


def kind(piece: Piece) -> tuple[object, ...]:
    """Neighbours of one kind are one, but for the names of calls."""
    match piece:
        case CallName(number):
            return (CallName, number)
        case CallArguments(number):
            return (CallArguments, number)
        case LeftOut(_, reason):
            return (LeftOut, reason)
        case _:
            return (type(piece),)


def join(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for _, group in itertools.groupby(pieces, kind):
        first, *others = group
        if isinstance(first, CallName):
            assert not others, "a call is named once"
            joined.append(first)
            continue
        texts = [piece.text for piece in (first, *others)]
        assert all(texts), "no piece is empty"
        joined.append(replace(first, text="".join(texts)))
    return joined


def run(parser: Parser, chunks: Iterable[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for chunk in chunks:
        pieces += parser.push(chunk)
    return join([*pieces, *parser.finish()])


@pytest.fixture(scope="session")
def run_parser() -> object:
    return run


@pytest.fixture(scope="session")
def read() -> Read:
    def read(
        name: str, chunks: Iterable[str], *, is_trusted: bool = False, tools: Sequence[Tool] = TOOLS
    ) -> list[Piece]:
        return run(FORMATS[name].parser(tools, is_trusted=is_trusted), chunks)

    return read


@pytest.fixture(scope="session")
def read_any_way(read: Read) -> Read:
    """The same, and checks that two chunks, and one character at a time, give what the whole text gives."""

    def read_any_way(
        name: str, chunks: Iterable[str], *, is_trusted: bool = False, tools: Sequence[Tool] = TOOLS
    ) -> list[Piece]:
        text = "".join(chunks)
        whole = read(name, [text], is_trusted=is_trusted, tools=tools)
        assert read(name, text, is_trusted=is_trusted, tools=tools) == whole
        for cut in range(len(text) + 1):
            assert read(name, [text[:cut], text[cut:]], is_trusted=is_trusted, tools=tools) == whole
        return whole

    return read_any_way
