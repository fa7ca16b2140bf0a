"""A server that gives the same answer to every chat request: nginx where it is installed, else one of our own.

Ours: `python -m benchmarks.upstream FOLDER PORT…`, with the answers in `FOLDER/PORT`. Where one has `load.NUMBER` in
it, each answer has a number of its own instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import grp
import itertools
import json
import os
import pwd
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httptools
import uvloop

from benchmarks import gateway_plan as plan
from benchmarks.gateway_peers import free_port
from benchmarks.load import NUMBER
from benchmarks.processes import BenchmarkError, Process

MODELS = json.dumps({"object": "list", "data": [{"id": plan.MODEL, "object": "model", "owned_by": "upstream"}]})
JSON, EVENTS = "application/json", "text/event-stream"


def opened(stack: contextlib.ExitStack, folder: Path, log_path: Path, *, prefix: Sequence[str] = ()) -> dict[bool, int]:
    """The ports on which answers are whole (False) and streamed (True). `prefix` is a program that starts others.

    Raises BenchmarkError."""
    ports = {is_streamed: free_port() for is_streamed in (False, True)}
    answers = {ports[False]: (JSON, plan.whole_answer()), ports[True]: (EVENTS, plan.streamed_answer())}
    process = Process([*prefix, *command(folder, answers)], log_path, env=dict(os.environ))
    stack.callback(process.close)
    wait_until_up(process, ports[True])
    return ports


def wait_until_up(process: Process, port: int) -> None:
    """Raises BenchmarkError."""
    for _ in range(100):
        process.require_running()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            return
        time.sleep(0.1)
    raise BenchmarkError(f"the upstream does not come up: {process.last_words()}")


def command(folder: Path, answers: dict[int, tuple[str, bytes]]) -> list[str]:
    """Writes what the server needs into `folder` and returns how to start it. `answers` is port → (type, answer)."""
    folder.mkdir(parents=True, exist_ok=True)
    for port, (_, answer) in answers.items():
        (folder / str(port)).write_bytes(answer)
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        return [sys.executable, "-m", "benchmarks.upstream", str(folder), *map(str, answers)]
    config = folder / "nginx.conf"
    types = {port: kind for port, (kind, _) in answers.items()}
    config.write_text(nginx_config(folder, types, is_root=os.geteuid() == 0))
    return [nginx, "-e", str(folder / "nginx.log"), "-c", str(config)]


def nginx_config(folder: Path, types: dict[int, str], *, is_root: bool) -> str:
    """One worker without logs, whose connections are kept for good. Started by root it would become somebody else, who
    may not read what lies in root's folders, and everything would be a 404."""
    user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};\n" if is_root else ""
    servers = "".join(_nginx_server(folder, port, kind) for port, kind in types.items())
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in paths)
    return (
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nevents {{ worker_connections 1024; }}\n"
        f"http {{\n    access_log off;\n    keepalive_requests 1000000000;\n    keepalive_timeout 1h;\n"
        f"    tcp_nodelay on;\n    sendfile on;\n    open_file_cache max=16;\n{temporary}{servers}}}\n"
    )


def _nginx_server(folder: Path, port: int, kind: str) -> str:
    # A file may only be asked for by GET, so that a POST is an error, whose page is the file.
    return (
        f"    server {{\n        listen 127.0.0.1:{port};\n        root {folder};\n        types {{}}\n"
        f"        default_type {kind};\n        error_page 405 =200 /{port};\n"
        f"        location = /v1/chat/completions {{ try_files /{port} =404; }}\n"
        f"        location = /v1/models {{ default_type {JSON}; return 200 '{MODELS}'; }}\n"
        f"        location = /health {{ return 200; }}\n        location = /{port} {{ }}\n    }}\n"
    )


class _Server(asyncio.Protocol):
    """Its parser calls the methods `on_…`."""

    def __init__(self, answer: bytes, numbers: Iterator[int]) -> None:
        self._answer = answer
        self._numbers = numbers
        self._is_numbered = NUMBER.encode() in answer
        self._url = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            number = b"%0*d" % (len(NUMBER), next(self._numbers))
            self._transport.write(self._answer.replace(NUMBER.encode(), number) if self._is_numbered else self._answer)
        else:
            self._transport.write(response(JSON, MODELS.encode() if b"models" in self._url else b"{}"))


def response(kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def serve(folder: Path, ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for port in ports:
        answer = (folder / str(port)).read_bytes()
        whole = response(EVENTS if answer.startswith(b"data:") else JSON, answer)
        servers.append(
            await loop.create_server(functools.partial(_Server, whole, itertools.count()), "127.0.0.1", port)
        )
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
