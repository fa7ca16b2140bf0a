"""`hodios ui` makes links that the server of the same home takes, once."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hodios.api.app import create_app
from hodios.cli.main import app
from hodios.config import Config
from hodios.errors import ConfigError
from hodios.providers.echo import EchoProvider
from tests.api.conftest import Caller


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    env = {"HODIOS_HOME": str(tmp_path), "HODIOS_ADMIN_KEY": "sk-operator", "HODIOS_PORT": "8123"}
    return lambda *options, **more: CliRunner(env={**env, **more}).invoke(app, ["ui", *options])


async def test_a_link_logs_in_once(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda link: opened.append(link) or True)
    first, second = run().stdout.strip(), run("--open", "--url", "https://hodios.example/").stdout.strip()
    assert opened == [second]
    assert second.startswith("https://hodios.example/ui/login#code=")
    page, _, code = first.partition("#code=")
    assert page == "http://127.0.0.1:8123/ui/login"
    call = Caller(create_app(Config(home=tmp_path, admin_key="sk-operator"), [EchoProvider()]), key=None)
    for status in (200, 401):
        assert (await call("POST", "/ui/session", {"code": code})).status == status
    assert (await call("POST", "/ui/session", {"code": second.partition("=")[2]})).status == 200


def test_without_a_browser_the_link_is_all(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda link: False)
    result = run("--open")
    assert "/ui/login#code=" in result.stdout
    assert "No browser" in result.stderr


def test_without_a_key_it_says_how_to_get_one(tmp_path: Path) -> None:
    result = CliRunner(env={"HODIOS_HOME": str(tmp_path), "HODIOS_ADMIN_KEY": None}).invoke(app, ["ui"])
    assert isinstance(result.exception, ConfigError)
    assert "hodios serve" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
