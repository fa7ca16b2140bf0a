"""The API process as its parent starts it: what it says, and when it ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodios.providers.launch import NOT_YET

GUARD_S = 120


class Api:
    """`python -m hodios.api` on a socket of ours, with the echo behind it."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        theirs, self.parent_fd = os.pipe()
        fds = [self.listener.fileno(), theirs]
        environment = {**os.environ, "HODIOS_HOME": str(home), "HODIOS_ADMIN_KEY": "k" * 40, **settings}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "hodios.api", "--fd", str(fds[0]), "--parent-fd", str(fds[1])],
            pass_fds=fds,
            env=environment,
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(theirs)
        self.listener.close()

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def end(self, how: Callable[[], None]) -> tuple[int, str]:
        how()
        said, _ = self.popen.communicate(timeout=GUARD_S)
        return self.popen.returncode, said

    def orphan(self) -> None:
        os.close(self.parent_fd)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_it_starts_and_ends_without_a_word(level: str, hodios_home: Path) -> None:
    api = Api(hodios_home, HODIOS_LOG_LEVEL=level)
    assert api.get("/health/live") == 200
    code, said = api.end(lambda: api.popen.send_signal(signal.SIGTERM))
    api.orphan()
    assert (code, said) == (0, "")


def test_requests_that_are_none_are_not_logged(hodios_home: Path) -> None:
    """Anybody can send those without end."""
    api = Api(hodios_home)
    upgrade = b"connection: upgrade, close\r\nupgrade: websocket\r\n"
    assert api.get("/health/live") == 200
    for sent in (b"nonsense\r\n\r\n", b"GET /health/live HTTP/1.1\r\nhost: x\r\n" + upgrade + b"\r\n"):
        with socket.create_connection(("127.0.0.1", api.port), GUARD_S) as connection:
            connection.sendall(sent)
            assert connection.recv(1000).startswith(b"HTTP/1.1 ")
    code, said = api.end(lambda: api.popen.send_signal(signal.SIGTERM))
    api.orphan()
    assert (code, said) == (0, "")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_nothing_of_its_accounts_is_left_when_it_was_stopped(how: signal.Signals, hodios_home: Path) -> None:
    api = Api(hodios_home)
    assert api.get("/health/live") == 200
    assert len([*(hodios_home / "journal").glob("*.lock")]) == 1
    code, said = api.end(lambda: api.popen.send_signal(how))
    api.orphan()
    assert (code, said) == (0, "")
    assert [*(hodios_home / "journal").iterdir()] == []


def test_where_the_store_may_come_up_yet_it_is_worth_trying_again(hodios_home: Path) -> None:
    api = Api(hodios_home, HODIOS_STORE_URL="postgresql://ann@127.0.0.1:1/hodios")
    code, said = api.end(lambda: None)
    api.orphan()
    assert code == NOT_YET
    assert "postgresql://ann@127.0.0.1:1/hodios cannot be used" in said


def test_it_ends_with_its_parent(hodios_home: Path) -> None:
    api = Api(hodios_home)
    assert api.get("/health/live") == 200
    code, said = api.end(api.orphan)
    assert (code, said) == (0, "")
