"""A relay between a client and the server that keeps all that the server said, to compare with what the client made
of it."""

from __future__ import annotations

import http.client
import io
import socket
import socketserver
import threading
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from live_server import stream_events


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def chunks(self) -> list[dict[str, Any]]:
        """Of a stream that ended as it should."""
        assert self.headers["content-type"].startswith("text/event-stream"), self
        return stream_events(self.body.decode())


class Relay:
    """Listens on `url` while entered; every connection is one to `target`."""

    def __init__(self, target: str) -> None:
        self._target = (urlsplit(target).hostname, urlsplit(target).port)
        self._recorded: list[bytearray] = []
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay._pass_on(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answers(self) -> list[Answered]:
        """All whole answers so far, in the order of their connections."""
        answers = []
        for recorded in self._recorded:
            stream = _Reread(bytes(recorded))
            while stream.tell() < len(recorded):
                response = http.client.HTTPResponse(_Played(stream))
                try:
                    response.begin()
                    body = response.read()
                except (http.client.HTTPException, OSError):
                    break
                headers = {name.lower(): value for name, value in response.getheaders()}
                answers.append(Answered(response.status, headers, body))
        return answers

    def _pass_on(self, client: socket.socket) -> None:
        recorded = bytearray()
        self._recorded.append(recorded)
        with socket.create_connection(self._target) as server:
            asking = threading.Thread(target=_pump, args=(client, server, None), daemon=True)
            asking.start()
            _pump(server, client, recorded)
            asking.join()


class _Reread(io.BytesIO):
    def close(self) -> None:
        """Several answers are read from one."""


class _Played:
    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BytesIO:
        return self._stream


def _pump(source: socket.socket, sink: socket.socket, recorded: bytearray | None) -> None:
    try:
        while data := source.recv(65536):
            if recorded is not None:
                recorded += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
