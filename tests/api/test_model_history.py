"""What a model has cost, and how it was served, by provider and by the hour."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.providers.echo import MODEL_ID, EchoProvider
from hodios.providers.prices import PriceHistory, Quote
from hodios.router.history import History
from hodios.router.history_file import HistoryFile
from hodios.router.past import Kind
from hodios.types import Attempt, Price

NOW_S = 20_000 * 86_400.0 + 12 * 3600 + 4 * 60
DOCUMENT = openapi_document(8)


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def attempt(outcome: str = "answered", wait_s: float | None = 0.5, speed: float = 10.0) -> Attempt:
    return Attempt(
        provider="echo",
        model=MODEL_ID,
        began_s=0.0,
        first_token_s=wait_s,
        ended_s=(wait_s or 0) + 20 / speed,
        outcome=outcome,  # type: ignore[arg-type]
        completion_tokens=21,
        price=Price(),
    )


@pytest.fixture
def past(config: Config) -> Any:
    """What an earlier process has kept: a day of one model, three hours ago a bad one."""
    clock = Clock()
    history = History(clock=clock)
    past = history._past("echo", MODEL_ID)
    for hours, num_failed in ((23, 0), (3, 3), (0, 1)):
        at_s = NOW_S - hours * 3600
        for number in range(4):
            failed = number < num_failed
            past.add(attempt("failed" if failed else "answered", None if failed else 0.25), Kind(number % 2, 0), at_s)
    past.add(attempt(wait_s=4.0, speed=100.0), Kind(4, 0), NOW_S - 600)
    HistoryFile(config.home).save(history.save())
    return history


@pytest.fixture
async def asked(config: Config, past: Any, caller_of: Any) -> Any:
    app = create_app(config, [EchoProvider(context_length=4096)], clock=Clock())
    async with app.router.lifespan_context(app):
        yield caller_of(app)


def conforms(answer: Any, name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), schema)
    return answer.json()


async def test_hours_are_told_apart(asked: Any) -> None:
    found = conforms(await asked("GET", "/v1/models/echo/history"), "ModelCourse")
    assert (found["model"], found["object"]) == (MODEL_ID, "list")
    assert found["to"] == datetime.fromtimestamp(NOW_S, UTC).isoformat().replace("+00:00", "Z")
    (course,) = found["data"]
    assert course["provider"] == "echo"
    hours = course["hours"]
    assert len(hours) == 24
    assert hours[0]["from"] == found["from"]
    begins = [datetime.fromisoformat(hour["from"]).timestamp() for hour in hours]
    assert begins == [NOW_S - 240 - 3600 * ago for ago in range(23, -1, -1)]
    assert {hour["seconds"] for hour in hours} == {3600}
    figures = {place: (hour["requests"], hour["errors"], hour["uptime"]) for place, hour in enumerate(hours)}
    assert figures[0] == (4, 0, 100.0)
    assert figures[20] == (4, 3, 25.0)
    assert figures[22] == (1, 0, 100.0)
    assert figures[23] == (4, 1, 75.0)
    assert figures[10] == (0, 0, None)
    assert hours[10]["latency"] is None
    assert hours[10]["by_size"] == {}
    assert hours[0]["latency"]["p50"] == pytest.approx(250, rel=0.1)
    assert list(hours[0]["latency"]) == ["p50", "p75", "p90", "p99"]
    assert hours[0]["throughput"]["p50"] == pytest.approx(10, rel=0.1)
    assert {size: each["samples"] for size, each in hours[0]["by_size"].items()} == {"2k": 2, "4k": 2}
    assert list(hours[22]["by_size"]) == ["32k+"]
    assert hours[22]["by_size"]["32k+"]["throughput"]["p99"] == pytest.approx(100, rel=0.1)


async def test_half_an_hour_is_told_by_five_minutes(asked: Any) -> None:
    course = (await asked("GET", "/v1/models/echo/history", query="hours=1")).json()["data"][0]
    assert len(course["hours"]) == 1
    recent = course["recent"]
    assert [each["seconds"] for each in recent] == [300] * 6
    assert [each["requests"] for each in recent] == [0, 0, 0, 1, 0, 4]
    assert recent[3]["latency"]["p50"] == pytest.approx(4000, rel=0.1)
    assert (recent[5]["errors"], recent[5]["uptime"]) == (1, 75.0)
    assert datetime.fromisoformat(recent[5]["from"]).timestamp() == NOW_S - 240


@pytest.mark.parametrize("hours", ["0", "25", "-1", "1.5", "x", "\u0661", "1" * 100])
async def test_more_than_a_day_is_not_known(asked: Any, hours: str) -> None:
    answer = await asked("GET", "/v1/models/echo/history", query=f"hours={hours.encode().decode('latin-1')}")
    assert (answer.status, answer.error["param"]) == (400, "hours") if hours != "\u0661" else answer.status == 400


async def test_unknown_models_are_404_with_the_closest(asked: Any) -> None:
    for route in ("history", "prices"):
        answer = await asked("GET", f"/v1/models/ecko/{route}")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_prices_have_a_history(asked: Any, config: Config) -> None:
    assert (await asked("GET", "/v1/models/echo/prices")).json() == {"model": MODEL_ID, "data": [], "object": "list"}
    history = PriceHistory(config.home)
    for day, dollars in ((1, 1), (2, 3), (3, None)):
        price = None if dollars is None else Price(prompt=dollars * 10**9, completion=10**9)
        for provider in ("a", "b"):
            quote = Quote(provider=provider, model=MODEL_ID, offer=f"{provider}/x", price=price, source="live")
            history.record([quote], datetime(2026, 11, day, tzinfo=UTC))
    other = Quote(provider="a", model="other/model", offer="y", price=Price(prompt=1), source="live")
    history.record([other], datetime(2026, 11, 4, tzinfo=UTC))
    found = conforms(await asked("GET", "/v1/models/echo/prices", query="provider=A"), "ModelPrices")
    assert [
        (each["at"][:10], each["old"] and each["old"]["prompt"], each["new"] and each["new"]["prompt"])
        for each in found["data"]
    ] == [
        ("2026-11-03", "3", None),
        ("2026-11-02", "1", "3"),
        ("2026-11-01", None, "1"),
    ]
    assert {each["source"] for each in found["data"]} == {"live"}
    assert len((await asked("GET", "/v1/models/echo/prices", query="limit=4")).json()["data"]) == 4
    assert (await asked("GET", "/v1/models/echo/prices", query="limit=0")).status == 400
