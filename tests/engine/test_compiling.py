"""Grammars are compiled beside the loop, in order, and can be given up meanwhile."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from hodios.engine.compiling import Compiled, GrammarQueue
from hodios.engine.connection import Connection
from hodios.engine.messages import Submit
from hodios.errors import InvalidRequest
from hodios.types import Grammar

PATIENCE_S = 60.0
Start = Callable[..., GrammarQueue]


@pytest.fixture
def start() -> Iterator[Start]:
    queues: list[GrammarQueue] = []

    def begin(compile: Callable[[Grammar], object], prepare: Callable[[], None] = lambda: None) -> GrammarQueue:
        queues.append(GrammarQueue(compile, prepare))
        return queues[-1]

    yield begin
    for queue in queues:
        queue.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours)


def asked(id: int, source: str = "a") -> tuple[Submit, Grammar]:
    grammar = Grammar("regex", source)
    return Submit(id=id, prompt=[1], max_tokens=1, grammar=grammar), grammar


def wait_for(queue: GrammarQueue) -> list[Compiled]:
    assert select.select([queue.waker], [], [], PATIENCE_S)[0], "nothing became ready"
    return queue.take_ready()


def test_what_is_compiled_comes_back_in_order(start: Start, connection: Connection) -> None:
    queue = start(lambda grammar: None)
    for id in range(5):
        queue.add(connection, *asked(id))
    ready: list[Compiled] = []
    while len(ready) < 5:
        ready += wait_for(queue)
    assert [(each.submit.id, each.error) for each in ready] == [(id, None) for id in range(5)]
    assert len(queue) == 0
    assert queue.take_ready() == []


def test_a_refusal_comes_back_with_its_reason(start: Start, connection: Connection) -> None:
    def refuse(grammar: Grammar) -> object:
        raise InvalidRequest("no", param="response_format")

    queue = start(refuse)
    queue.add(connection, *asked(1))
    (ready,) = wait_for(queue)
    assert ready.error is not None
    assert ready.error.param == "response_format"


def test_a_bug_is_not_taken_for_a_refusal(start: Start, connection: Connection) -> None:
    queue = start(lambda grammar: 1 / 0)
    queue.add(connection, *asked(1))
    with pytest.raises(ZeroDivisionError):
        wait_for(queue)


def test_the_loop_does_not_wait_for_a_slow_one_and_may_give_it_up(start: Start, connection: Connection) -> None:
    gate = threading.Event()
    queue = start(lambda grammar: gate.wait(PATIENCE_S))
    for id in range(4):
        queue.add(connection, *asked(id))
    assert queue.take_ready() == []
    assert queue.abort(connection, 1, None)
    assert queue.abort(connection, 2, 3)
    assert not queue.abort(connection, 9, None)
    gate.set()
    ready: list[Compiled] = []
    while len(ready) < 3:
        ready += wait_for(queue)
    assert [(each.submit.id, each.aborted) for each in ready] == [(0, []), (2, [3]), (3, [])]


def test_a_lost_connection_takes_its_own_along(start: Start, connection: Connection) -> None:
    gate = threading.Event()
    queue = start(lambda grammar: gate.wait(PATIENCE_S))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = Connection(ours)
        for id in range(3):
            queue.add(connection, *asked(id))
            queue.add(other, *asked(id))
        queue.abort_owner(connection)
        gate.set()
        ready: list[Compiled] = []
        while len(ready) < 3:
            ready += wait_for(queue)
    assert {each.connection for each in ready} == {other}


def test_what_all_grammars_need_is_made_unasked_and_before_the_first(start: Start, connection: Connection) -> None:
    made: list[str] = []
    is_prepared = threading.Event()

    def prepare() -> None:
        made.append("prepared")
        is_prepared.set()
        raise ValueError("compiling will say so")

    queue = start(lambda grammar: made.append(grammar.source), prepare)
    assert is_prepared.wait(PATIENCE_S), "nothing was prepared"
    queue.add(connection, *asked(1))
    assert [each.error for each in wait_for(queue)] == [None]
    assert made == ["prepared", "a"]
