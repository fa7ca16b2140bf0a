from __future__ import annotations

import os
from typing import Any

import pytest

from hodios.api.app import create_app
from hodios.api.health import PATIENCE_S
from hodios.config import Config
from hodios.providers.base import ModelHealth
from hodios.providers.echo import EchoProvider
from tests.api.conftest import Caller

READY = ModelHealth(model="a", state="ready", stats={"num_running": 2.0, "free_blocks": 7.0})
BAD = ModelHealth(model="b", state="restarting", message="it crashed", num_restarts=3)


class Known(EchoProvider):
    """Of which is known how it is doing."""

    def __init__(self, name: str, *states: ModelHealth) -> None:
        super().__init__()
        self.name = name
        self.states = list(states)

    def health(self) -> list[ModelHealth]:
        return self.states


@pytest.mark.parametrize(
    ("states", "status", "word"), [((READY, BAD), 200, "ready"), ((BAD,), 503, "not_ready"), ((), 503, "not_ready")]
)
async def test_ready_is_who_has_a_ready_model(scripted: Any, states: Any, status: int, word: str) -> None:
    call, _ = scripted(states=states)
    answer = await call("GET", "/health/ready", headers={"authorization": ""})
    assert (answer.status, answer.json()) == (status, {"status": word})
    assert (await call("GET", "/health")).status == status
    assert (await call("GET", "/health/live")).json() == {"status": "live"}


async def test_ready_waits_for_the_models_of_this_machine_once(config: Config) -> None:
    """Whoever is told so at the start may ask for any of them; later on one that is loaded holds nobody up."""
    loading = ModelHealth(model="maker/model", state="loading")
    local, remote = Known("local", loading), Known("far", READY)
    call = Caller(create_app(config, [local, remote]))

    async def status() -> int:
        return (await call("GET", "/health/ready")).status

    assert await status() == 503
    local.states = [READY]
    assert await status() == 200
    local.states = [READY, loading]
    assert await status() == 200


async def test_ready_does_not_wait_for_ever(config: Config) -> None:
    loading = ModelHealth(model="maker/model", state="loading")
    providers = [Known("local", loading), Known("far", READY)]
    now_s = [0.0]
    call = Caller(create_app(config, providers, monotonic=lambda: now_s[0]))
    assert (await call("GET", "/health/ready")).status == 503
    now_s[0] = PATIENCE_S
    assert (await call("GET", "/health/ready")).status == 200


async def test_the_details_name_every_model(scripted: Any) -> None:
    call, _ = scripted(states=(READY, BAD))
    report = (await call("GET", "/health")).json()
    assert list(report) == ["status", "version", "process", "uptime_s", "catalog", "service", "models", "guards"]
    assert report["process"] == {"number": 1, "of": 1, "pid": os.getpid()}
    assert report["catalog"] == {"version": 1, "problem": None}
    assert report["service"] == {"status": "operational", "degraded": [], "down": [], "open_incidents": 0}
    assert report["models"][1] == {
        "model": "b",
        "provider": "scripted",
        "state": "restarting",
        "message": "it crashed",
        "restarts": 3,
        "stats": {},
    }
    assert report["models"][0]["stats"] == READY.stats


async def test_metrics_count_requests_and_show_the_models(scripted: Any) -> None:
    call, _ = scripted(states=(READY, BAD))
    await call("GET", "/nothing")
    await call("GET", "/v1/models")
    answer = await call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.body.decode().splitlines()
    assert 'hodios_requests_total{route="none",status="404"} 1.0' in lines
    assert 'hodios_requests_total{route="models",status="200"} 1.0' in lines
    assert 'hodios_model_ready{model="a",provider="scripted"} 1.0' in lines
    assert 'hodios_model_ready{model="b",provider="scripted"} 0.0' in lines
    assert 'hodios_model_restarts_total{model="b",provider="scripted"} 3.0' in lines
    assert 'hodios_model_free_blocks{model="a",provider="scripted"} 7.0' in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


async def test_metrics_count_tokens(call: Any) -> None:
    await call.complete(prompt="abc")
    await call.complete(prompt="abc", stream=True)
    lines = (await call("GET", "/metrics")).body.decode().splitlines()
    assert 'hodios_tokens_total{kind="prompt",model="hodios/echo",provider="echo"} 6.0' in lines
    assert 'hodios_tokens_total{kind="completion",model="hodios/echo",provider="echo"} 8.0' in lines
    assert 'hodios_time_to_first_token_seconds_count{model="hodios/echo",provider="echo"} 2.0' in lines
    assert 'hodios_request_seconds_count{route="completions"} 2.0' in lines


async def test_client_made_names_never_become_labels(call: Any) -> None:
    for name in ("evil-model", "evil-route"):
        await call.chat(model=name)
        await call("GET", f"/{name}")
        await call("GET", f"/v1/models/{name}")
    assert "evil" not in (await call("GET", "/metrics")).body.decode()
