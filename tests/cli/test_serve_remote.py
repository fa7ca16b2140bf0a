"""`hodios serve` with models of other servers: what it needs, and what it says where something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_server import start

from hodios.cli.serve import chosen, others, prepare_all
from hodios.config import Config, load
from hodios.errors import SetupError
from hodios.remotes import Remote, RemoteModel

KEY = "sk-topsecret-0123456789"


def config(home: Path, **model: Any) -> Config:
    row = RemoteModel(**{"id": "acme/model", "context_length": 100, **model})
    return Config(home=home, admin_key=KEY, remote=(Remote(name="acme", base_url="http://h", models=(row,)),))


def serve(home: Path, section: dict[str, Any], **variables: str) -> tuple[int, str]:
    """The exit code and all that was said; for servers that do not come up."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
    env |= {"HODIOS_HOME": str(home), "HODIOS_PORT": "0", "HODIOS_REMOTE": json.dumps({"acme": section}), **variables}
    command = [sys.executable, "-m", "hodios.cli.main", "serve"]
    ended = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def section(**model: Any) -> dict[str, Any]:
    row = {"id": "acme/model", "context_length": 100, **model}
    return {"base_url": "http://127.0.0.1:1/v1", "models": [row]}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the starter model was to be fetched to; nothing is."""
    homes: list[Path] = []
    monkeypatch.setattr("hodios.cli.serve.fetch_starter", lambda home, progress: homes.append(home))
    return homes


def test_no_starter_model_is_fetched_where_others_serve(
    hodios_home: Path, fetched: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(hodios_home)
    assert others(settings) == ["acme"]
    assert chosen(settings, ["acme"]) == []
    assert prepare_all([], settings, ["acme"]) == []
    assert fetched == []
    told = capsys.readouterr().err
    assert "others serve theirs: acme. To add the starter model (98 MB)" in told
    assert told.rstrip().endswith("hodios pull starter")


def test_the_starter_model_is_fetched_where_nobody_serves_anything(hodios_home: Path, fetched: list[Path]) -> None:
    settings = load()
    assert others(settings) == []
    assert chosen(settings, []) == []
    assert fetched == [hodios_home]
    with pytest.raises(SetupError, match="None of the installed models can be served"):
        prepare_all([], settings, [])


@pytest.mark.parametrize(
    ("settings", "variables", "names"),
    [
        pytest.param("", {"OPENROUTER_API_KEY": KEY}, ["openrouter"], id="a key, and offers that the catalog knows"),
        pytest.param("", {"OPENAI_API_KEY": KEY}, [], id="a key, and no model of the catalog is there"),
        pytest.param("", {"OPENROUTER_API_KEY": ""}, [], id="no key"),
        pytest.param('[providers.vllm]\nbase_url = "http://127.0.0.1:1/v1"', {}, ["vllm"], id="a server of one's own"),
        pytest.param("[providers.openrouter]\nenabled = false", {"OPENROUTER_API_KEY": KEY}, [], id="switched off"),
        pytest.param('[providers.local.prices]\n"*" = { prompt = "1" }', {}, [], id="prices alone"),
        pytest.param(
            '[[launch]]\nname = "b"\ncommand = "x {port}"\n[[launch]]\nname = "a"\ncommand = "x {port}"',
            {"NOVITA_API_KEY": KEY},
            ["b", "a", "novita"],
            id="servers to start come first",
        ),
    ],
)
def test_who_has_models_beside_the_engine(
    settings: str,
    variables: dict[str, str],
    names: list[str],
    hodios_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (hodios_home / "hodios.toml").write_text(settings)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert others(load()) == names


def test_why_a_provider_of_the_settings_is_not_asked_is_told_before_the_starter_model_comes(
    hodios_home: Path, fetched: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (hodios_home / "hodios.toml").write_text("[providers.openrouter]\n[providers.together]\nenabled = false")
    chosen(load(), others(load()))
    assert fetched
    told = capsys.readouterr().err
    assert "openrouter is not asked: OPENROUTER_API_KEY holds no key." in told
    assert "together" not in told


def test_a_key_that_is_missing_is_told_at_once(hodios_home: Path) -> None:
    code, told = serve(hodios_home, {**section(), "api_key_env": "ACME_KEY"})
    assert code != 0
    assert "the variable ACME_KEY holds no key" in " ".join(told.split())


@pytest.mark.parametrize(("family", "nearest"), [("herms", "hermes"), ("llama-3", "llama3")])
def test_a_family_that_does_not_exist_is_told(hodios_home: Path, family: str, nearest: str) -> None:
    code, told = serve(hodios_home, {**section(family=family), "api_key_env": "ACME_KEY"}, ACME_KEY=KEY)
    assert code == 2
    assert f"Did you mean {nearest}?" in " ".join(told.split())
    assert KEY not in told


def test_a_provider_alone_is_served_and_announced(hodios_home: Path) -> None:
    """Whole, with no model installed: nothing is fetched, and the line to paste names a model that can answer."""
    (hodios_home / "hodios.toml").write_text(
        '[providers.mine]\nbase_url = "http://127.0.0.1:1/v1"\n[[providers.mine.models]]\nid = "my/model"\n'
        "context_length = 4096\n"
    )
    server = start(hodios_home, hodios_home / "log.txt", HODIOS_MODELS="")
    assert server.stop() == 0, server.told()
    told = server.log.read_text()
    assert "others serve theirs: mine." in told
    assert "\n  1 model from mine: my/model\n" in told
    assert '"model": "my/model"' in told
    assert not (hodios_home / "models").exists()
