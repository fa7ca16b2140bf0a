"""Server-sent events come out the same however the bytes are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.errors import ProviderError
from hodios.providers.server_events import EventReader


def read(*chunks: bytes) -> list[bytes]:
    reader = EventReader()
    return [data for chunk in chunks for data in reader.push(chunk)] + reader.finish()


CASES = [
    (b"", []),
    (b"data: a\n\n", [b"a"]),
    (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    (b": a comment\n\n:\n\ndata: a\n: between\n\n", [b"a"]),
    (b"data: a\ndata: b\ndata\ndata:\n\n", [b"a\nb\n\n"]),
    (b"event: error\nid: 1\nretry: 5\ndata: a\nfoo\n\n", [b"a"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    (b"data: a\n\ndata: b", [b"a", b"b"]),
    (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
    (b"datax: a\n\n data: b\n\n", []),
    ("data: é😀\n\n".encode(), ["é😀".encode()]),
    (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [b"a", b"b", b"c"]),
]


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_every_split_gives_the_same(stream: bytes, events: Sequence[bytes]) -> None:
    assert read(stream) == events
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert read(stream[:first], stream[first:second], stream[second:]) == events


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"\r", b"\n", b"\n\n", b"a", b"\xef\xbb\xbf"])))
def test_any_split_of_anything_gives_the_same(chunks: list[bytes]) -> None:
    assert read(*chunks) == read(b"".join(chunks))


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200, b"x" * 200, b"data: x\n" * 40])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_without_end_is_refused(stream: bytes, size: int) -> None:
    reader = EventReader(most_bytes=100)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    with pytest.raises(ProviderError, match="more than 100 bytes"):
        list(map(reader.push, chunks))


def test_many_small_events_are_not_one_large_one() -> None:
    reader = EventReader(most_bytes=100)
    assert reader.push(b"data: 0123456789\n\n" * 50) == [b"0123456789"] * 50
