"""What traffic and probes have shown, wherever the API tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from hodios.api.app import create_app
from hodios.config import Config
from hodios.errors import HodiosError, InvalidRequest, Overloaded, ProviderError, TimedOut
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.providers.base import ModelHealth, ServerLoad, Verdict
from hodios.providers.catalog import read_rows, shipped_folder
from hodios.providers.gauges import read_gauges
from hodios.router.past import Kind
from hodios.types import Attempt, ModelCard, Price, Request

MODEL = "maker/model"
NOON_S = 20_000 * 86_400.0 + 12 * 3600


class Playing:
    """Answers or fails as it is told to."""

    def __init__(self, name: str, dollars: int = 1, model: str = MODEL) -> None:
        self.name = name
        price = Price(prompt=dollars * 10**9, completion=dollars * 10**9)
        self.card = ModelCard(id=model, context_length=100_000, max_output_tokens=500, provider=name, price=price)
        self.error: HodiosError | None = None
        self.verdict: Verdict = "well"
        self.state: Any = "ready"

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def models(self) -> Sequence[ModelCard]:
        return (self.card,)

    def tokenizer(self, model: str) -> None: ...

    def health(self) -> Sequence[ModelHealth]:
        return (ModelHealth(model=self.card.id, state=self.state),)

    async def probe(self) -> Verdict:
        return self.verdict

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        if self.error is not None:
            raise self.error
        yield Started(self.name, self.card.id, "fp", 3)
        yield Text(0, "hello", completion_tokens=2)
        yield Stopped(0, "stop")
        yield Finish(Usage(prompt_tokens=3, completion_tokens=2))


class Telling(Playing):
    """A replica that tells how busy it is."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.card = structs.replace(self.card, is_replica=True)
        self.has_told_again = asyncio.Event()
        self._num_told = 0

    async def loads(self) -> Mapping[str, ServerLoad]:
        self._num_told += 1
        if self._num_told > 1:
            self.has_told_again.set()
        return {self.card.id: ServerLoad(num_running=3, num_waiting=2, cache_usage=0.5)}


class House:
    """An app whose clock stands still until it is moved."""

    def __init__(self, config: Config, caller_of: Any, providers: Sequence[Playing]) -> None:
        self.now_s = NOON_S
        self.app = create_app(config, providers, clock=lambda: self.now_s)
        self.call = caller_of(self.app)

    async def ask(self, num: int = 1, **values: Any) -> None:
        for _ in range(num):
            await self.call.chat(**{"model": MODEL, "provider": {"sort": "price"}, **values})

    async def status(self) -> dict[str, Any]:
        # An answer may be shown for so long.
        self.now_s += 6
        answer = await self.call("GET", "/status")
        assert answer.status == 200
        page: dict[str, Any] = answer.json()
        return page

    async def metrics(self) -> list[str]:
        lines: list[str] = (await self.call("GET", "/metrics")).body.decode().splitlines()
        return [line for line in lines if not line.startswith("#")]


@pytest.fixture
def house(config: Config, caller_of: Any) -> Callable[..., House]:
    return lambda *providers: House(config, caller_of, providers)


def only(page: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    provider = next(each for each in page["providers"] if each["name"] == name)
    (model,) = provider["models"]
    return provider, model


async def test_all_is_well_where_nothing_was_asked(house: Any) -> None:
    page = await house(Playing("one"), Playing("two")).status()
    assert list(page) == ["status", "updated_at", "models", "providers", "incidents"]
    assert (page["status"], page["incidents"]) == ("operational", [])
    assert page["models"] == [
        {"id": MODEL, "status": "operational", "providers": {"one": "operational", "two": "operational"}}
    ]
    provider, model = only(page, "one")
    assert (provider["status"], provider["reachable"]) == ("operational", None)
    assert model["uptime"] == {"5m": None, "30m": None, "1d": None}
    assert model["latency"]["overall"] is None
    assert len(model["hours"]) == 24
    assert model["trend"] == {"latency": None, "throughput": None, "uptime": None}


async def test_what_became_of_requests(house: Any) -> None:
    one = Playing("one")
    there = house(one)
    await there.ask(6)
    await there.ask(2, messages=[{"role": "user", "content": "x" * 5000}])
    for error, num in ((InvalidRequest("no"), 3), (Overloaded("full", retry_after=1), 2), (ProviderError("no"), 2)):
        one.error = error
        await there.ask(num)
    _, model = only(await there.status(), "one")
    assert model["attempts"]["30m"] == {"answered": 8, "failed": 2, "refused": 3, "overloaded": 2, "cancelled": 0}
    assert model["uptime"] == {"5m": 80.0, "30m": 80.0, "1d": 80.0}
    assert model["latency"]["samples"] == 8
    assert list(model["latency"]["overall"]) == ["p50", "p75", "p90", "p99"]
    sizes = {size for size, found in model["latency"]["by_size"].items() if found}
    assert sizes == {"2k", "8k"}
    assert {name for name, found in model["latency"]["by_capability"].items() if found} == {"text"}
    assert model["hours"][-1] | {"from": ""} == {"from": "", "uptime": 80.0, "attempts": 10, "failed": 2}
    there.now_s += 31 * 60
    _, model = only(await there.status(), "one")
    assert model["uptime"] == {"5m": None, "30m": None, "1d": 80.0}
    assert (model["latency"]["samples"], model["latency"]["overall"]) == (0, None)


async def test_versions_of_a_model_are_told_apart(house: Any) -> None:
    one = Playing("one")
    there = house(one)
    for fingerprint, num in (("fp_old", 3), ("fp_new", 2)):
        one.card = structs.replace(one.card, fingerprint=fingerprint)
        await there.ask(num)
    _, model = only(await there.status(), "one")
    assert [*model["latency"]["by_version"]] == ["fp_old", "fp_new"]
    assert all([*found] == ["p50", "p75", "p90", "p99"] for found in model["latency"]["by_version"].values())


async def test_who_is_ejected_is_down_and_the_model_is_not(house: Any) -> None:
    bad, good = Playing("bad"), Playing("good", 5)
    bad.error = ProviderError("no")
    there = house(bad, good)
    await there.ask(8)
    page = await there.status()
    assert page["status"] == "operational"
    assert page["models"][0]["providers"] == {"bad": "down", "good": "operational"}
    provider, model = only(page, "bad")
    assert (provider["status"], model["reasons"]) == ("down", ["it failed too often and is not asked"])
    (incident,) = page["incidents"]
    assert (incident["provider"], incident["model"], incident["ejections"]) == ("bad", MODEL, 1)
    assert (incident["began_at"], incident["ended_at"]) == ("2024-10-04T12:00:00+00:00", None)
    assert incident["reason"] == "it could not be reached, or made no sense"
    lines = await there.metrics()
    labels = f'model="{MODEL}",provider="bad"'
    assert f"hodios_ejected{{{labels}}} 1.0" in lines
    assert f"hodios_ejections_total{{{labels}}} 1.0" in lines
    assert f'hodios_attempts_total{{model="{MODEL}",outcome="failed",provider="bad"}} 5.0' in lines
    service = (await there.call("GET", "/health")).json()["service"]
    assert service == {"status": "operational", "degraded": [], "down": [f"bad/{MODEL}"], "open_incidents": 1}


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"state": "loading"}, "down", "it is loading"),
        ({"state": "restarting"}, "down", "it restarts"),
        ({"state": "failed"}, "down", "it failed"),
        ({"is_ill": True}, "down", "it cannot be reached"),
        ({"num_failed": 2}, "degraded", "it failed more than one in twenty requests of half an hour"),
    ],
)
async def test_why_a_model_is_not_as_it_should_be(house: Any, change: Any, status: str, reason: str) -> None:
    one = Playing("one")
    there = house(one)
    await there.ask(20)
    one.state = change.get("state", "ready")
    one.error = ProviderError("no")
    await there.ask(change.get("num_failed", 0))
    if change.get("is_ill"):
        there.now_s += 1
        history_of(there).note_probe("one", "ill")
    page = await there.status()
    provider, model = only(page, "one")
    assert (page["status"], model["status"], model["reasons"]) == (status, status, [reason])
    assert provider["reachable"] == (False if change.get("is_ill") else None)


def history_of(there: House) -> Any:
    """The one that the app keeps."""
    route = next(route for route in there.app.routes if route.path == "/status")
    return route.endpoint._handler.__self__._history


async def test_a_warning_is_shown_everywhere(house: Any) -> None:
    there = house(Playing("one"))
    await there.ask()
    past = history_of(there).past("one", MODEL)
    slow_s = {seconds: _attempt(seconds) for seconds in (0.2, 2.0)}
    for minute in range(100):
        there.now_s += 60
        for _ in range(10):
            past.add(slow_s[0.2 if minute < 85 else 2.0], Kind(0, 0), there.now_s)
    for _ in history_of(there).review():
        pass
    page = await there.status()
    _, model = only(page, "one")
    assert page["status"] == model["status"] == "degraded"
    (warning,) = model["warnings"]
    assert (warning["subject"], model["reasons"]) == ("latency", [warning["message"]])
    assert warning["since"].endswith("13:40:00+00:00")
    assert 1.4 < model["trend"]["latency"] < 11
    line = f'hodios_declining{{model="{MODEL}",provider="one",subject="latency"}} 1.0'
    assert line in await there.metrics()
    assert (await there.call("GET", "/health")).json()["service"]["degraded"] == [f"one/{MODEL}"]


def _attempt(wait_s: float) -> Any:
    return Attempt(provider="one", model=MODEL, began_s=0, first_token_s=wait_s, ended_s=wait_s + 1, outcome="answered")


async def test_the_lists_of_models_have_the_figures_of_other_systems(house: Any) -> None:
    one = Playing("one")
    there = house(one)
    (before,) = (await there.call("GET", "/v1/models")).json()["data"]
    assert (before["latency"], before["query_count"]) == (None, None)
    await there.ask(3)
    await there.ask(1, messages=[{"role": "user", "content": "x" * 20_000}])
    one.error = ProviderError("no")
    await there.ask(1)
    (entry,) = (await there.call("GET", "/v1/models")).json()["data"]
    medians = entry["latency"].split("/")
    assert [bool(median.isdigit()) for median in medians] == [True, False, False, False, True, True]
    assert medians[1] == "-"
    assert entry["query_count"] == 4
    (offer,) = (await there.call("GET", f"/v1/models/{MODEL}/endpoints")).json()["data"]["endpoints"]
    assert [offer[f"uptime_last_{window}"] for window in ("5m", "30m", "1d")] == [80.0] * 3
    assert list(offer["latency_last_30m"]) == ["p50", "p75", "p90", "p99"]


async def test_a_page_is_as_old_as_it_may_be(house: Any) -> None:
    there = house(Playing("one"))
    first = await there.status()
    await there.ask()
    there.now_s += 4
    assert (await there.call("GET", "/status")).json() == first
    there.now_s += 2
    assert (await there.call("GET", "/status")).json() != first
    there.now_s -= 3600
    assert (await there.call("GET", "/status")).json()["updated_at"] < first["updated_at"]


async def test_no_client_makes_series(house: Any) -> None:
    """Their number is bounded by models and providers, whatever is sent."""
    bad = Playing("bad")
    bad.error = ProviderError("no")
    there = house(bad, Playing("good", 2), Playing("other", 3, "maker/other"))

    async def everything(name: str) -> set[str]:
        for model in (
            MODEL,
            f"{MODEL}:floor",
            MODEL.upper(),
            f"good/{MODEL}",
            f"{MODEL}:nitro",
            name,
            f"{name}/{name}",
        ):
            await there.ask(
                1,
                model=model,
                models=["maker/other", name],
                user=name,
                prompt_cache_key=name,
                provider={"order": [name, "bad"], "ignore": [name]},
                stream=name > "m",
            )
            await there.call("GET", f"/v1/models/{model}", headers={"x-request-id": name, "user-agent": name})
        await there.call(name.upper(), f"/{name}", query=f"a={name}")
        lines = await there.metrics()
        assert not [line for line in lines if name in line]
        return {line.rsplit(" ", 1)[0] for line in lines}

    await there.metrics()
    first = await everything("alice")
    assert any('provider="other"' in line for line in first)
    for name in ("bobby", "mallory", "zoe-1"):
        assert await everything(name) == first


async def test_figures_outlive_a_restart(config: Config, caller_of: Any, tmp_path: Path) -> None:
    async def live(num: int) -> dict[str, Any]:
        there = House(config, caller_of, [Playing("one")])
        async with there.app.router.lifespan_context(there.app):
            await there.ask(num)
            return only(await there.status(), "one")[1]["attempts"]["1d"]

    assert (await live(3))["answered"] == 3
    assert (tmp_path / "state" / "health").exists()
    assert (await live(2))["answered"] == 5


async def test_what_replicas_say_of_their_load_is_counted(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hodios.router.server_loads.TICK_S", 0.01)
    one, two = Telling("one"), Telling("two")
    there = house(one, two)
    async with there.app.router.lifespan_context(there.app):
        assert not [line for line in await there.metrics() if line.startswith("hodios_server")]
        await there.ask()
        await one.has_told_again.wait()
        lines = await there.metrics()
    labels = f'model="{MODEL}",provider="one"'
    assert f"hodios_server_requests_of_others{{{labels}}} 5.0" in lines
    assert f"hodios_server_requests_waiting{{{labels}}} 2.0" in lines
    assert f"hodios_server_cache_usage{{{labels}}} 0.5" in lines


async def test_another_hodios_can_read_how_busy_this_one_is(house: Any) -> None:
    class Working(Playing):
        def health(self) -> Sequence[ModelHealth]:
            return (ModelHealth(model=MODEL, state="ready", stats={"num_running": 4.0, "num_waiting": 2.0}),)

    there = house(Working("one"), Working("two"), Playing("three", model="maker/other"))
    gauges = read_rows([shipped_folder()]).providers["hodios"].load
    assert gauges is not None
    metrics = (await there.call("GET", "/metrics")).body
    assert read_gauges(metrics, gauges) == {MODEL: ServerLoad(num_running=8, num_waiting=4)}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimedOut("secret words"), "it did not answer in time"),
        (ProviderError("secret words", metadata={"status": 500, "message": "secret"}), "it answered with HTTP 500"),
    ],
)
async def test_why_somebody_was_ejected_is_told_without_his_words(house: Any, error: HodiosError, reason: str) -> None:
    bad = Playing("bad")
    bad.error = error
    there = house(bad, Playing("good", 5))
    await there.ask(8)
    page = await there.status()
    assert [incident["reason"] for incident in page["incidents"]] == [reason]
    assert "secret" not in str(page)
