"""The guard process: judges texts behind a Unix socket, so that no event loop waits for arithmetic. Keeps no text.

Started as `python -m hodios.guard.worker --parent-fd N --socket PATH`. It gives way to everybody else, and ends when
its parent does. Exit status 78 means that it cannot judge anything; the reason is the last line on standard error.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec

from hodios.engine.clients import Clients
from hodios.engine.connection import Connection, listen
from hodios.errors import SetupError
from hodios.guard.backlog import Backlog
from hodios.guard.messages import Assess, FromClient, GiveUp, Hello, Scores, Shed
from hodios.types import Category

EXIT_REFUSED = 78
"""EX_CONFIG of sysexits: starting again would not help."""
NICE = 5
"""Behind whoever generates, and not so far that nothing is judged while everybody generates."""


class Judge(Protocol):
    """As `classifier.Classifier`."""

    version: str

    @property
    def categories(self) -> frozenset[Category]: ...

    def scores(self, texts: Sequence[str]) -> list[dict[Category, float]]: ...


class Worker:
    """The loop: sockets and the classifier, in one thread."""

    def __init__(
        self,
        judge: Judge,
        hello: Hello,
        listener: socket.socket,
        parent_fd: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._categories = hello.categories
        self._clock = clock
        self._clients = Clients(listener, hello, self._serve)
        if parent_fd is not None:
            self._clients.watch(parent_fd, self._end)
        self._decoder: msgspec.msgpack.Decoder[FromClient] = msgspec.msgpack.Decoder(FromClient)
        self._backlog: Backlog[Connection] = Backlog()
        self._is_stopping = False
        self._wake_fd, self._waker_fd = os.pipe()
        self._clients.watch(self._wake_fd, self._end)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Waiting goes on after a signal unless there is something to read."""
        self._end()
        os.write(self._waker_fd, b"s")

    def run(self) -> None:
        """Until told to stop."""
        while not self._is_stopping:
            self._poll(0.0 if self._backlog else None)
            if self._backlog:
                self._judge_next()
        self._clients.close()
        os.close(self._wake_fd)
        os.close(self._waker_fd)

    def _judge_next(self) -> None:
        """The most urgent; what nobody waits for any longer is not judged."""
        connection, asked, until_s = self._backlog.take()
        began_s = self._clock()
        if began_s >= until_s:
            connection.send(Shed(asked.id, self._backlog.num_waiting))
            return
        scores = self._judge.scores(asked.texts)
        self._backlog.learn(asked.texts, self._clock() - began_s)
        rows = [[round(each[category], 4) for category in self._categories] for each in scores]
        connection.send(Scores(asked.id, rows, self._backlog.num_waiting))

    def _poll(self, timeout_s: float | None) -> None:
        for connection in self._clients.poll(timeout_s):
            self._backlog.give_up(connection)

    def _end(self) -> None:
        self._is_stopping = True

    def _serve(self, connection: Connection) -> None:
        connection.flush()
        for message in connection.receive(self._decoder):
            match message:
                case Assess() as asked:
                    if not self._backlog.add(connection, asked, self._clock()):
                        connection.send(Shed(asked.id, self._backlog.num_waiting))
                case GiveUp(id):
                    self._backlog.give_up(connection, id)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.guard.worker")
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("--socket", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.nice(NICE)
    began_s = time.monotonic()
    # Loading takes longer than all else, and is to give way already.
    from hodios.guard.classifier import Classifier

    try:
        judge = Classifier()
    except SetupError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the parent shows it
        return EXIT_REFUSED
    judge.scores(["The first text is the slowest one."])
    hello = Hello(judge.version, sorted(judge.categories), os.getpid(), time.monotonic() - began_s)
    worker = Worker(judge, hello, listen(parsed.socket), parsed.parent_fd)
    signal.signal(signal.SIGTERM, worker.stop)
    worker.run()
    parsed.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
