"""`hodios serve` whole, with the starter model: asked as its banner says, and mistreated."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_server import PATIENCE_S

from hodios.cli.announcement import example
from hodios.cli.children import children
from hodios.cli.serve import bind, chosen
from hodios.config import Config
from hodios.errors import ConfigError, SetupError
from hodios.providers.prepared import Prepared
from hodios.providers.starter import STARTER_ID
from hodios.types import ModelCard

KEY = "sk-test-serve"


class Server:
    """One `hodios serve`."""

    def __init__(self, home: Path) -> None:
        env = {**os.environ, "HODIOS_HOME": str(home), "HODIOS_PORT": "0", "HODIOS_ADMIN_KEY": KEY}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hodios.cli.main", "serve"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=home,
        )
        assert self.process.stdout is not None
        self.banner = ""
        for line in self.process.stdout:
            self.banner += line
            if "Stop it" in line:
                break
        self.url = re.findall(r"http://[\d.:]+", self.banner)[0]

    def health(self) -> dict[str, object]:
        request = urllib.request.Request(f"{self.url}/health", headers={"Authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read())

    def is_ready(self) -> bool:
        try:
            return self.health()["status"] == "ready"
        except OSError:
            return False

    def engine(self) -> int:
        return next((pid for pid in self._children() if "hodios.engine.worker" in command_of(pid)), 0)

    def api(self) -> int:
        return next((pid for pid in self._children() if "hodios.api" in command_of(pid)), 0)

    def end(self) -> tuple[int, str]:
        _, told = self.process.communicate()
        return self.process.returncode, told

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in tasks for pid in path.read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def server(starter_model_path: Path, cache_home: Path) -> Iterator[Server]:
    server = Server(cache_home)
    yield server
    server.process.kill()
    server.end()


def _turn_the_model_off_and_on(server: Server) -> None:
    """As the web page does, opened with the link of the banner."""

    def asked(path: str, body: object, **headers: str) -> tuple[dict[str, object], str]:
        request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read()), response.headers.get("set-cookie", "")

    code = re.search(r"/ui/login#code=(\S+)", server.banner)
    assert code is not None
    session, cookie = asked("/ui/session", {"code": code[1]})
    assert session["role"] == "admin"
    headers = {"cookie": cookie.partition(";")[0], "x-hodios-csrf": str(session["csrf"])}
    model = f"/admin/v1/local/models/{STARTER_ID}"
    first = server.engine()
    assert asked(f"{model}/unload", {}, **headers)[0]["state"] == "installed"
    assert (server.engine(), server.is_ready()) == (0, False)
    assert asked(f"{model}/load", {}, **headers)[0]["loaded"] is True
    wait_for(server.is_ready)
    assert server.engine() not in (0, first)


def test_it_serves_survives_and_stops(server: Server, need: Callable[[str, str], str]) -> None:
    """In one test, because each start loads a model."""
    line = server.banner[server.banner.index("curl ") : server.banner.index("\n\nChat with it")]
    command = line.replace("curl", f"{need('curl', 'curl')} -sS", 1)
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith('data: {"id":"chat-')
    assert answer.stdout.rstrip().endswith("data: [DONE]")
    assert f"  {STARTER_ID}  Q4_1  98.4 MB" in server.banner

    first = server.engine()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: server.engine() not in (0, first) and server.is_ready())

    api = server.api()
    os.kill(api, signal.SIGKILL)
    wait_for(lambda: server.api() not in (0, api) and server.is_ready())

    _turn_the_model_off_and_on(server)
    _interrupt_an_answer(server)
    running = [server.engine(), server.api()]
    server.process.send_signal(signal.SIGTERM)
    code, told = server.end()
    assert code == 0
    assert told.count("starting it again") == 2
    assert KEY not in told
    wait_for(lambda: not any(command_of(pid) for pid in running))


def _interrupt_an_answer(server: Server) -> None:
    """Ctrl-C in a chat stops the answer and keeps what came."""
    question = ["Write a very long story.", "--max-tokens", "4000", "--url", server.url]
    chat = subprocess.Popen(
        [sys.executable, "-m", "hodios.cli.main", "chat", *question],
        stdout=subprocess.PIPE,
        env={**os.environ, "HODIOS_ADMIN_KEY": KEY},
    )
    assert chat.stdout is not None
    assert chat.stdout.read(10)
    chat.send_signal(signal.SIGINT)
    chat.stdout.read()
    assert chat.wait() == 0
    chat.stdout.close()


def test_nothing_is_left_of_a_parent_that_is_killed(server: Server) -> None:
    running = [server.engine(), server.api()]
    server.process.kill()
    wait_for(lambda: not any(command_of(pid) for pid in running))


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"port {port}: Address already in use.*--port"):
            bind(Config(home=tmp_path, port=port))


def test_an_address_that_is_not_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"Cannot listen on 203\.0\.113\.7 port 8000"):
        bind(Config(home=tmp_path, host="203.0.113.7"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_can_be_bound(tmp_path: Path, host: str) -> None:
    with bind(Config(home=tmp_path, host=host, port=0)) as listener:
        assert listener.getsockname()[1] > 0


def test_models_are_chosen_by_any_of_their_names(cache_home: Path, starter_model_path: Path) -> None:
    names = ("smollm2-135m-instruct", STARTER_ID.upper())
    assert [model.id for model in chosen(Config(home=cache_home, models=names), [])] == [STARTER_ID]
    with pytest.raises(ConfigError, match=f"'other' is not installed \\(there: .*{STARTER_ID}"):
        chosen(Config(home=cache_home, models=("other",)), [])


def prepared(name: str, folder: Path) -> Prepared:
    card = ModelCard(id=name, context_length=100, max_output_tokens=100)
    return Prepared(card=card, model_file="m.gguf", folder=str(folder), socket=str(folder / "s"), eos_ids=[2])


def test_engines_do_not_get_the_key_and_the_api_comes_last(tmp_path: Path) -> None:
    config = Config(home=tmp_path, admin_key="secret", port=0, threads=3)
    with bind(config) as listener:
        *engines, guard, api = children(
            config, [prepared("a/b", tmp_path), prepared("c/d", tmp_path)], listener, parent_fd=9
        )
        assert [child.name for child in engines] == ["a/b", "c/d"]
        assert all("HODIOS_ADMIN_KEY" not in (child.env or {}) and child.pass_fds == () for child in engines)
        assert "hodios.guard.worker" in guard.argv
        assert "--parent-fd 9" in " ".join(guard.argv)
        assert "HODIOS_ADMIN_KEY" not in (guard.env or {})
        assert (guard.stage, guard.is_essential) == (engines[0].stage, False)
        assert api.argv[api.argv.index("--guard") + 1] == guard.argv[-1]
        assert all("--parent-fd 9" in " ".join(child.argv) and '"threads":3' in child.argv[-1] for child in engines)
        assert api.env is not None
        assert api.env["HODIOS_ADMIN_KEY"] == "secret"
        assert api.pass_fds == (listener.fileno(),)
        assert api.is_essential
        assert api.stage > max(child.stage for child in engines)


def test_the_curl_line_survives_a_shell() -> None:
    key = "it's-a-$key`x`"
    line = example("a/it's", "http://h", key).replace("curl ", "printf '%s\\n' ", 1)
    words = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[2] == f"Authorization: Bearer {key}"
    assert json.loads(words[-1])["model"] == "a/it's"
