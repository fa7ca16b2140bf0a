"""Whoever is connected to a worker: all are heard and answered in turns, and none is waited for. Knows no message."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

import msgspec

from hodios.engine.connection import Connection


class Clients:
    """Everything happens within `poll`: `serve` is called for a connection that can be read or takes more."""

    def __init__(self, listener: socket.socket, hello: msgspec.Struct, serve: Callable[[Connection], None]) -> None:
        """`hello` is what everybody is told first."""
        self.connections: list[Connection] = []
        self._listener = listener
        self._hello = hello
        self._serve = serve
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self.watch(listener.fileno(), self._accept)

    def watch(self, fd: int, told: Callable[[], None]) -> None:
        """`told` is called whenever there is something to read."""
        self._selector.register(fd, selectors.EVENT_READ, told)

    def poll(self, timeout_s: float | None) -> list[Connection]:
        """Waits so long for something to happen, None: for ever. Returns the connections that were lost."""
        for connection in self.connections:
            self._wait_for(connection)
        for key, _ in self._selector.select(timeout_s):
            key.data()
        lost = [connection for connection in self.connections if connection.is_lost]
        for connection in lost:
            self.connections.remove(connection)
            self._selector.unregister(connection.socket)
            connection.socket.close()
        return lost

    def close(self) -> None:
        for connection in self.connections:
            connection.socket.close()
        self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        connection = Connection(sock)
        self.connections.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(connection))
        connection.send(self._hello)

    def _wait_for(self, connection: Connection) -> None:
        """Wake up when the client takes more, too, while it has not taken all."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        key = self._selector.get_key(connection.socket)
        if key.events != wanted:
            self._selector.modify(connection.socket, wanted, key.data)
