"""The commands as a shell would run them, against a server with the echo behind it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hodios.cli.main import main
from hodios.config import Config
from hodios.providers.starter import STARTER_ID, starter_path


def run(
    *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hodios.cli.main", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"hodios \d+\.\d+\.\d+\n", run("--version").stdout)


def test_the_documentation_is_current(repository: Path) -> None:
    check = subprocess.run(
        [sys.executable, "scripts/write_docs.py", "--check"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    ("env", "arguments", "told"),
    [
        ({"HODIOS_PROT": "1"}, ("models",), "Did you mean HODIOS_PORT?"),
        ({}, ("serve", "--host", "0.0.0.0"), "no admin key is set"),
        ({}, ("serve", "--model", "nobody/nothing"), "'nobody/nothing' is not installed (there: none)"),
        ({}, ("pull", "./nothing.gguf"), "./nothing.gguf is not a file"),
        ({"HODIOS_PORT": "1"}, ("chat", "hello"), "No server answers at http://127.0.0.1:1"),
        ({"HODIOS_PORT": "1"}, ("bench", "engine"), "Start one with: make serve"),
        ({}, ("bench", "engine", "--streams", "1,x"), "'1,x' is not accepted"),
        ({}, ("chat",), "No server answers"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    hodios_home: Path, env: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    result = run(*arguments, env={"HODIOS_PORT": "1"} | env)
    assert result.returncode == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_one_question_is_answered(asking: Config) -> None:
    result = run("chat", "Hello, écho 👋!")
    assert result.returncode == 0, result.stderr
    assert "Hello, écho 👋!" in result.stdout


def test_what_is_piped_in_is_one_question(asking: Config) -> None:
    result = run("chat", stdin="first line\nsecond line\n")
    assert "first line\nsecond line" in result.stdout
    assert result.returncode == 0


def test_an_empty_pipe_is_told(asking: Config) -> None:
    result = run("chat", stdin=" \n")
    assert result.returncode == 2
    assert "Nothing was piped in" in result.stderr


def test_an_unknown_model_names_those_there_are(asking: Config) -> None:
    result = run("chat", "--model", "nope", "hello")
    assert result.returncode == 2
    assert re.search(r"has no model 'nope'; it has: .*echo", result.stderr)


def test_a_wrong_key_is_told_as_the_server_says_it(asking: Config) -> None:
    result = run("chat", "hello", env={"HODIOS_ADMIN_KEY": "wrong"})
    assert result.returncode == 2
    assert "the API key is not known here" in result.stderr


def test_what_the_server_refuses_is_told_in_its_words(asking: Config) -> None:
    result = run("chat", "--temperature", "9", "hello")
    assert result.returncode == 1
    assert "temperature" in result.stderr
    assert "Traceback" not in result.stderr


def test_bench_prints_a_table(asking: Config) -> None:
    result = run("bench", "engine", "--streams", "1,2")
    assert result.returncode == 0, result.stderr
    rows = [line.split()[0] for line in result.stdout.splitlines()]
    assert rows == ["measurement", "prompt", "1", "2"]


def test_models_lists_what_is_installed(asking: Config, hodios_home: Path) -> None:
    assert "No model is installed" in run("models").stdout
    broken = hodios_home / "models" / "a" / "broken" / "broken-Q8_0.gguf"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"GGUF")
    result = run("models")
    assert re.search(r"^a/broken +Q8_0 ", result.stdout, re.MULTILINE)
    assert "a/broken cannot be served" in result.stderr
    assert result.returncode == 0


def test_models_knows_the_starter_model(starter_model_path: Path, cache_home: Path) -> None:
    result = run("models", env={"HODIOS_HOME": str(cache_home), "HODIOS_PORT": "1"})
    assert re.search(rf"^{STARTER_ID} +Q4_1 +98\.4 MB +8192 +no", result.stdout, re.MULTILINE)


def test_pull_installs_a_file(hodios_home: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine-Q8_0.gguf"
    source.write_bytes(b"GGUF....")
    result = run("pull", str(source))
    assert result.returncode == 0, result.stderr
    assert str(hodios_home / "models/local/mine-Q8_0/mine-Q8_0.gguf") in result.stdout


def test_doctor_finds_a_healthy_server(asking: Config, starter_model_path: Path, cache_home: Path) -> None:
    result = run("doctor", env={"HODIOS_HOME": str(cache_home)})
    assert result.returncode == 0, result.stdout
    assert f"running and ready at http://127.0.0.1:{asking.port}" in result.stdout
    assert "its checksum is right" in result.stdout


def test_doctor_fails_on_what_would_not_work(hodios_home: Path) -> None:
    target = starter_path(hodios_home)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"GGUF")
    result = run("doctor")
    assert result.returncode == 1
    assert re.search(r"^fail +starter model: .*\n +→ Remove ", result.stdout, re.MULTILINE)
    assert run("doctor", env={"HODIOS_HOST": "::9"}).returncode == 1


def test_the_entry_point_exits_as_promised(
    hodios_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hodios", "pull", "nonsense"])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "neither a file nor a model of a hub" in capsys.readouterr().err


class Terminal:
    """A conversation through a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hodios.cli.main", "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> str:
        """Read until `pattern` is there; what came so far, which is then forgotten."""
        while not re.search(pattern, self.seen):
            assert select.select([self.master], [], [], 60)[0], f"{pattern} does not come after {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        seen, self.seen = self.seen, ""
        return seen

    def end(self) -> int:
        code = self.process.wait()
        os.close(self.master)
        return code


def test_a_conversation(asking: Config, hodios_home: Path) -> None:
    terminal = Terminal()
    terminal.until(r"/help for commands[\s\S]*> ")
    terminal.type("marco\n")
    terminal.until(r"marco[\s\S]*marco[\s\S]*tokens[\s\S]*> ")
    terminal.type("/help\n")
    terminal.until(r"forget the conversation[\s\S]*> ")
    terminal.type("/model\n")
    terminal.until(r"\* .*echo[\s\S]*> ")
    terminal.type("/model nope\n")
    terminal.until(r"has no model 'nope'[\s\S]*> ")
    terminal.type("/nonsense\n")
    terminal.until(r"There is no command /nonsense[\s\S]*> ")
    terminal.type("/system Be kind.\n")
    terminal.until(r"> ")
    terminal.type("/clear\n")
    terminal.until(r"> ")
    terminal.type("/exit\n")
    assert terminal.end() == 0
    assert "marco" in (hodios_home / "chat_history").read_text()


def test_interrupting_at_the_prompt_stays_and_the_end_of_input_leaves(asking: Config) -> None:
    terminal = Terminal()
    terminal.until(r"Ctrl-D to leave[\s\S]*> ")
    terminal.type("half a thought")
    terminal.until("half a thought")
    # A signal between readline's check and its wait is noticed at the next one only.
    while not select.select([terminal.master], [], [], 0.5)[0]:
        os.kill(terminal.process.pid, signal.SIGINT)
    terminal.until(r"> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_json_that_is_no_answer_is_told(hodios_home: Path) -> None:
    """Another program on the port."""
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"hello": "world"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        result = run("chat", "hello", env={"HODIOS_PORT": str(server.server_port)})
        server.shutdown()
        thread.join()
    assert result.returncode == 2
    assert "No server answers at" in result.stderr
