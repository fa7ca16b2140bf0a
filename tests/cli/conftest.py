"""A live server for the commands that ask one: the API as a process of its own, with the echo behind it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodios.config import Config, environment

KEY = "sk-test-cli"


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """The settings that reach it. Its model `echo` says what it was asked."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    home: Path = tmp_path_factory.mktemp("echo")
    config = Config(home=home, port=listener.getsockname()[1], admin_key=KEY, log_level="warning")
    server = subprocess.Popen(
        [sys.executable, "-m", "hodios.api", "--fd", str(listener.fileno())],
        env=environment(config),
        pass_fds=(listener.fileno(),),
        cwd=home,
    )
    yield config
    listener.close()
    server.terminate()
    # uvicorn hands the signal on to itself after it has stopped gracefully.
    assert server.wait() in (0, -signal.SIGTERM)


@pytest.fixture
def asking(echo_server: Config, hodios_home: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The environment of a command that shall ask the echo."""
    monkeypatch.setenv("HODIOS_PORT", str(echo_server.port))
    monkeypatch.setenv("HODIOS_ADMIN_KEY", KEY)
    return echo_server
