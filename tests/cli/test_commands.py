"""The commands as a shell would run them, against a server with the echo behind it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from terminal import Terminal

from hodios.cli.main import main
from hodios.config import Config
from hodios.errors import SetupError
from hodios.providers import client
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


async def test_a_server_that_takes_its_time_is_waited_for(echo_server: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PROBE_TIMEOUT", aiohttp.ClientTimeout(total=1e-9))
    async with client.Client(f"http://127.0.0.1:{echo_server.port}", echo_server.admin_key) as asking:
        assert [model.id for model in await asking.models()] == ["hodios/echo"]
        with pytest.raises(SetupError, match="No server answers"):
            await asking.models(is_probe=True)


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
    assert re.search(rf"^{STARTER_ID} +Q4_1 +98\.4 MB +8192 +0 +0 +no", result.stdout, re.MULTILINE)


def test_models_shows_offers_and_their_prices(hodios_home: Path) -> None:
    alone = {"HODIOS_PORT": "1"}
    assert "novita" not in run("models", env=alone).stdout
    offered = run("models", env=alone | {"NOVITA_API_KEY": "sk-test"}).stdout
    hermes = "NousResearch/Hermes-2-Pro-Llama-3-8B +novita +nousresearch/hermes-2-pro-llama-3-8b +131072"
    assert re.search(rf"^{hermes} +- +0.39 +0.39 +2024-11-15 +yes", offered, re.MULTILINE)
    assert "SmolLM2" not in offered
    everything = run("models", "--all", env=alone).stdout
    assert re.search(rf"^{hermes} .* no: NOVITA_API_KEY holds no key", everything, re.MULTILINE)
    assert re.search(r"^HuggingFaceTB/SmolLM2-135M-Instruct .* no: it can be pulled", everything, re.MULTILINE)
    prices = '{"novita": {"prices": {"*": {"prompt": "0.14"}}}}'
    assert " 0.14 " in run("models", "--all", env=alone | {"HODIOS_PROVIDERS": prices}).stdout


def test_models_tells_of_a_bad_file_in_the_catalog(hodios_home: Path) -> None:
    folder = hodios_home / "catalog" / "models"
    folder.mkdir(parents=True)
    (folder / "x.toml").write_text("id = 1")
    result = run("models", env={"HODIOS_PORT": "1"})
    assert result.returncode == 0
    assert "x.toml" in result.stderr


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


def test_doctor_tells_of_secrets_that_others_can_read(hodios_home: Path) -> None:
    file = hodios_home / "hodios.toml"
    file.write_text("[server]\nadmin_key = 'sk-0123456789abcdef0123456789'\n")
    for mode, is_told in ((0o644, True), (0o600, False)):
        file.chmod(mode)
        shown = "".join(run("doctor").stdout.split())
        assert ("andholdsserver.admin_key" in shown) is is_told
        assert (f"chmod600{file}" in shown) is is_told


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
    terminal.interrupt(r"> ")
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
