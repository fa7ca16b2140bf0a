"""`hodios sync` as it is typed: with and without a running server, and the history of prices."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Said, ScriptedServer
from scripted_upstream import Asked, Reply, document

Sync = Callable[..., Said]
MODEL = "nousresearch/hermes-2-pro-llama-3-8b"


def entry(id: str = MODEL, price: str = "0.00000014") -> dict[str, Any]:
    return {"id": id, "context_length": 8192, "pricing": {"prompt": price, "completion": price}}


@pytest.fixture
def sync(command: Callable[..., Said]) -> Sync:
    """`sync("--history", …)`"""
    return partial(command, "sync")


@pytest.fixture
def openrouter(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """OpenRouter is the scripted server, and no server of ours runs."""
    providers = {"openrouter": {"base_url": f"{scripted.upstream.url}/v1"}}
    monkeypatch.setenv("HODIOS_PROVIDERS", json.dumps(providers))
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-0123456789abcdef")
    monkeypatch.setenv("HODIOS_PORT", "1")
    return scripted


def squeezed(text: str) -> list[str]:
    return [re.sub(r"\s{2,}", " | ", line.strip()) for line in text.splitlines() if line.strip()]


def test_without_a_server_the_command_asks_itself(openrouter: ScriptedServer, sync: Sync, hodios_home: Path) -> None:
    openrouter.upstream.script = lambda asked: document({"data": [entry(), entry("x/y", "-1")]})
    said = sync()
    assert said.code == 0, said.err
    lines = squeezed(said.out)
    assert "openrouter | NousResearch/Hermes-2-Pro-Llama-3-8B | price | - | $0.14 in, $0.14 out" in lines
    assert any(line.startswith("openrouter | meta-llama/Llama-3.3-70B-Instruct | gone") for line in lines)
    assert any(
        re.fullmatch(r"openrouter \| 1 \| 1 \| \d+ changes \| \d{4}-\d\d-\d\d \d\d:\d\d UTC", line) for line in lines
    )
    assert "x/y is refused: the price '-1' is negative" in said.err
    assert (hodios_home / "cache" / "listings" / "openrouter.json").is_file()
    assert openrouter.upstream.asked[0].headers["Authorization"] == "Bearer sk-or-0123456789abcdef"


def test_what_was_listed_last_is_what_models_shows(openrouter: ScriptedServer, sync: Sync, hodios_home: Path) -> None:
    openrouter.upstream.script = lambda asked: document({"data": [entry()]})
    sync()
    program = [sys.executable, "-m", "hodios.cli.main", "models"]
    shown = subprocess.run(program, capture_output=True, text=True, check=True, env=dict(os.environ))
    day = datetime.now(UTC).date().isoformat()
    line = next(line for line in squeezed(shown.stdout) if "openrouter" in line)
    assert line == f"NousResearch/Hermes-2-Pro-Llama-3-8B | openrouter | {MODEL} | 8192 | - | 0.14 | 0.14 | {day} | yes"


def test_a_second_time_nothing_is_new(openrouter: ScriptedServer, sync: Sync) -> None:
    openrouter.upstream.script = lambda asked: document({"data": [entry()]})
    sync()
    said = sync("openrouter")
    assert said.code == 0
    assert [line.rpartition(" | ")[0] for line in squeezed(said.out)[1:]] == ["openrouter | 1 | 0 | unchanged"]


def test_a_provider_that_fails_is_told(openrouter: ScriptedServer, sync: Sync) -> None:
    openrouter.upstream.script = lambda asked: Reply(status=500)
    said = sync()
    assert said.code == 1
    assert squeezed(said.out)[1:] == ["openrouter | 0 | 0 | failed | never"]
    assert "openrouter answered with status 500" in said.err


def test_what_providers_write_does_not_reach_the_terminal_raw(openrouter: ScriptedServer, sync: Sync) -> None:
    document_ = {"error": {"message": "\x1b[2J\x1b]0;owned\x07"}}
    openrouter.upstream.script = lambda asked: document(document_, status=500)
    assert "\x1b" not in sync().err


def test_a_running_server_is_told_to_ask(scripted: ScriptedServer, sync: Sync) -> None:
    standing = {"provider": "acme", "listing": "openai", "num_models": 3, "read_at": "2026-11-21T12:00:00Z"}
    change = {"provider": "acme", "model": "m", "offer": "o", "what": "context_length", "before": 1, "after": 2}
    answer = {"data": [{"state": "changed", "standing": standing, "changes": [change]}]}
    scripted.upstream.script = lambda asked: document({} if asked.path == "/health/live" else answer)
    said = sync("acme")
    assert said.code == 0, said.err
    assert squeezed(said.out)[1::2] == [
        "acme | m | context length | 1 | 2",
        "acme | 3 | 0 | 1 change | 2026-11-21 12:00 UTC",
    ]
    assert [(asked.path, asked.raw) for asked in scripted.upstream.asked] == [
        ("/health/live", b""),
        ("/admin/v1/sync", b'{"providers": ["acme"]}'),
    ]


def test_what_the_server_refuses_is_told(scripted: ScriptedServer, sync: Sync) -> None:
    def script(asked: Asked) -> Reply:
        refusal = {"error": {"message": "the provider 'acne' cannot be asked"}}
        return document({}) if asked.path == "/health/live" else document(refusal, status=400)

    scripted.upstream.script = script
    said = sync("acne")
    assert said.code == 2
    assert "the provider 'acne' cannot be asked" in said.err


def test_nobody_to_ask_is_told(hodios_home: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HODIOS_PORT", "1")
    said = sync()
    assert said.code == 0
    assert "No provider is in use that lists its models" in said.out
    said = sync("novita")
    assert said.code == 2
    assert "NOVITA_API_KEY holds no key" in said.err


def test_the_history_is_told_by_provider(openrouter: ScriptedServer, sync: Sync) -> None:
    for price in ("0.00000014", "0.0000002"):
        openrouter.upstream.script = lambda asked, price=price: document({"data": [entry(price=price)]})  # type: ignore[misc]
        sync()
    num_asked = len(openrouter.upstream.asked)
    said = sync("--history", "hermes-2-pro-llama-3-8b")
    lines = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "then", line) for line in squeezed(said.out)]
    assert lines == [
        "provider | its id | since | source | before | price",
        f"novita | {MODEL} | then | offline | - | $0.39 in, $0.39 out",
        f"openrouter | {MODEL} | then | live | - | $0.14 in, $0.14 out",
        f"openrouter | {MODEL} | then | live | $0.14 in, $0.14 out | $0.2 in, $0.2 out",
    ]
    assert len(openrouter.upstream.asked) == num_asked


def test_no_history_is_told(hodios_home: Path, sync: Sync) -> None:
    said = sync("--history", "nobody/nothing")
    assert (said.code, "No price of nobody/nothing is known" in said.out) == (0, True)


def test_other_commands_do_not_load_what_this_one_needs() -> None:
    program = (
        "import sys, hodios.cli.main; print([name for name in sys.modules if name.startswith('hodios.providers.sync')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
