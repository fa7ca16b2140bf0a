"""Submissions whose grammar is still being compiled, in a thread of its own, so that nobody else waits for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from hodios.engine.connection import Connection
from hodios.engine.messages import Submit
from hodios.errors import InvalidRequest
from hodios.types import Grammar


class Compiled(NamedTuple):
    """A submission that may go on, or why it may not."""

    connection: Connection
    submit: Submit
    error: InvalidRequest | None
    aborted: list[int]
    """Continuations that were given up meanwhile."""


class _Pending(NamedTuple):
    connection: Connection
    submit: Submit
    result: Future[object]
    aborted: list[int]


class GrammarQueue:
    """First come, first compiled. `waker` becomes readable when something is ready."""

    def __init__(self, compile: Callable[[Grammar], object], prepare: Callable[[], None]) -> None:
        """`compile` keeps what it made for the engine to find, and raises InvalidRequest. `prepare` is called at once,
        so that nobody has to wait for it; whatever it raises, the first `compile` raises too."""
        self._compile = compile
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self._thread.submit(prepare)
        self._pending: list[_Pending] = []
        self.waker, self._bell = socket.socketpair()
        self.waker.setblocking(False)

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, connection: Connection, submit: Submit, grammar: Grammar) -> None:
        result: Future[object] = self._thread.submit(self._compile, grammar)
        self._pending.append(_Pending(connection, submit, result, []))
        result.add_done_callback(lambda _: self._bell.send(b"!"))

    def take_ready(self) -> list[Compiled]:
        """Those that are compiled or refused, in the order of their arrival. Any other error of `compile` is raised."""
        try:
            self.waker.recv(4096)
        except BlockingIOError:
            return []
        ready = [pending for pending in self._pending if pending.result.done()]
        self._pending = [pending for pending in self._pending if pending not in ready]
        return [Compiled(each.connection, each.submit, _error(each.result), each.aborted) for each in ready]

    def abort(self, connection: Connection, id: int, index: int | None) -> bool:
        """Forget a submission, or one continuation of it. False if it is not here."""
        for pending in self._pending:
            if pending.connection is connection and pending.submit.id == id:
                if index is not None:
                    pending.aborted.append(index)
                else:
                    self._drop(pending)
                return True
        return False

    def abort_owner(self, connection: Connection) -> None:
        for pending in [each for each in self._pending if each.connection is connection]:
            self._drop(pending)

    def _drop(self, pending: _Pending) -> None:
        pending.result.cancel()
        self._pending.remove(pending)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.waker.close()
        self._bell.close()


def _error(result: Future[object]) -> InvalidRequest | None:
    error = result.exception()
    if error is not None and not isinstance(error, InvalidRequest):
        raise error
    return error
