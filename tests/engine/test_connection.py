"""The worker's end of a socket: whatever the other end sends, in whatever pieces, and however slowly it reads."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine import connection as module
from hodios.engine.connection import LENGTH_BYTES, MAX_FRAME_BYTES, Connection
from hodios.engine.messages import Abort, FromClient, FromWorker, Output, Refused, Stats, Step, Submit
from hodios.types import Grammar, Sampling

DECODER = msgspec.msgpack.Decoder(FromClient)
MESSAGES: list[FromClient] = [
    Submit(id=1, prompt=[1, 2, 3], max_tokens=4, sampling=Sampling(seed=2**64 - 1, logit_bias=((5, -100.0),))),
    Abort(1),
    Submit(id=2**63, prompt=list(range(300)), max_tokens=0, grammar=Grammar("regex", "ä+"), salt="σ", caller="c"),
    Abort(2, 3),
]
STATS = Stats(num_waiting=0, num_running=0, free_blocks=1, cached_blocks=0, num_blocks=1)


def framed(*messages: object) -> bytes:
    payloads = [msgspec.msgpack.encode(message) for message in messages]
    return b"".join(len(payload).to_bytes(LENGTH_BYTES, "big") + payload for payload in payloads)


@contextlib.contextmanager
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    with ours, theirs:
        yield Connection(ours), theirs


def test_frames_split_at_every_byte() -> None:
    stream = framed(*MESSAGES)
    for cut in range(len(stream) + 1):
        with pair() as (connection, client):
            received = []
            for piece in (stream[:cut], stream[cut:]):
                client.sendall(piece)
                received += connection.receive(DECODER)
            assert received == MESSAGES
            assert not connection.is_lost


def test_one_byte_at_a_time() -> None:
    with pair() as (connection, client):
        received = []
        for byte in framed(*MESSAGES):
            client.sendall(bytes([byte]))
            received += connection.receive(DECODER)
        assert received == MESSAGES


def test_a_frame_longer_than_one_read() -> None:
    long = Submit(id=7, prompt=[70_000] * 100_000, max_tokens=1)
    stream = framed(long, Abort(7))
    with pair() as (connection, client):
        client.setblocking(False)
        received: list[FromClient] = []
        while len(received) < 2:
            with contextlib.suppress(BlockingIOError):
                stream = stream[client.send(stream) :] if stream else b""
            received += connection.receive(DECODER)
        assert received == [long, Abort(7)]


def test_nothing_to_read_is_no_loss() -> None:
    with pair() as (connection, _):
        assert connection.receive(DECODER) == []
        assert not connection.is_lost


@pytest.mark.parametrize(
    "garbage",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(LENGTH_BYTES, "big"),
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        (0).to_bytes(LENGTH_BYTES, "big"),
        framed({"type": "Nothing"}),
        framed({"type": "Submit", "id": 1}),
        framed({"type": "Submit", "id": "one", "prompt": [1], "max_tokens": 1}),
        framed(Submit(id=1, prompt=[1], max_tokens=1))[:-1] + b"\xc1",
        framed([[[[[]]]]]),
        (100).to_bytes(LENGTH_BYTES, "big") + b"\x91" * 100,
    ],
    ids=["too long", "ones", "http", "empty", "unknown", "incomplete", "mistyped", "broken", "nested", "cut off"],
)
def test_garbage_loses_the_connection_but_not_what_came_before(garbage: bytes) -> None:
    with pair() as (connection, client):
        client.sendall(framed(*MESSAGES) + garbage)
        assert connection.receive(DECODER) == MESSAGES
        assert connection.is_lost


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_messages_or_a_loss_or_unfinished(data: bytes) -> None:
    with pair() as (connection, client):
        client.sendall(data)
        connection.receive(DECODER)
        assert connection.is_lost or len(connection.unread) <= len(data)


@pytest.mark.parametrize("field", [b"\xa6prompt", b"\xa5other"], ids=["known", "unknown"])
def test_deep_nesting_is_garbage(field: bytes) -> None:
    """Decoders that recurse must not take the worker down."""
    payload = b"\x82\xa4type\xa6Submit" + field + b"\x91" * 1_000_000 + b"\x01"
    stream = len(payload).to_bytes(LENGTH_BYTES, "big") + payload
    with pair() as (connection, client):
        client.setblocking(False)
        while not connection.is_lost:
            with contextlib.suppress(BlockingIOError):
                stream = stream[client.send(stream) :] if stream else b""
            assert connection.receive(DECODER) == []


def test_the_other_end_closes() -> None:
    with pair() as (connection, client):
        client.sendall(framed(Abort(1)))
        client.close()
        assert connection.receive(DECODER) == [Abort(1)]
        assert connection.receive(DECODER) == []
        assert connection.is_lost
        connection.send(Refused(id=1, reason="full", message="gone"))


def test_a_slow_client_gets_everything_in_order() -> None:
    sent: list[FromWorker] = [Refused(id=number, reason="full", message="m" * 10_000) for number in range(300)]
    with pair() as (connection, client):
        for message in sent:
            connection.send(message)
        assert connection.unsent, "this much cannot be on its way at once"
        assert not connection.is_lost
        data = bytearray()
        client.settimeout(10)
        while len(data) < sum(len(framed(message)) for message in sent):
            data += client.recv(1 << 16)
            connection.flush()
        assert bytes(data) == framed(*sent)
        assert not connection.unsent


def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 100_000)
    step = Step(outputs=[Output(id=1, index=0, tokens=list(range(1000)))], stats=STATS)
    with pair() as (connection, _):
        for _ in range(1000):
            connection.send(step)
            if connection.is_lost:
                break
        assert connection.is_lost
        assert len(connection.unsent) < 120_000
