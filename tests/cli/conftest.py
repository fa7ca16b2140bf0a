"""Servers for the commands that ask one: the API as a process of its own with the echo behind it, or a script."""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "providers"))

from scripted_server import Said, ScriptedServer
from scripted_upstream import ScriptedUpstream, serving

from hodios.cli.main import main
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


@pytest.fixture
def scripted(hodios_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """In a thread of its own; the environment's commands ask it."""
    server = ScriptedServer(ScriptedUpstream())
    server.upstream.script = server.answer
    loop = asyncio.new_event_loop()
    is_up, ends = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(server.upstream):
            is_up.set()
            await ends.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    is_up.wait()
    monkeypatch.setenv("HODIOS_PORT", server.upstream.url.rpartition(":")[2])
    yield server
    loop.call_soon_threadsafe(ends.set)
    thread.join()
    loop.close()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`command("keys", "list", stdin="…")` runs `hodios keys list` in this process."""

    def run(*arguments: str | Path, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "argv", ["hodios", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def chat(command: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Said]]:
    """`chat("--tools", …, stdin="…")`"""
    paths, modules = sys.path[:], set(sys.modules)
    monkeypatch.setattr(sys, "path", paths)
    yield partial(command, "chat")
    for name in set(sys.modules) - modules:
        if name.startswith(("_loaded_", "my_")):
            del sys.modules[name]
