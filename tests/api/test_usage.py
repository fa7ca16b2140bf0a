"""What keys and operators are shown of what was used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from bureau import CARD, Bureau, Scripted, bureau
from msgspec import structs
from store_entries import NOON_S, attempt, request

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.api.usage import ACTIVITY_FILTERS, QUERY_FILTERS
from hodios.config import Config
from hodios.events import Finish, Started, Stopped, Text, Usage
from hodios.store.ledger import Ledger
from hodios.store.records import AccountId, Budgets, Limits, ProjectRecord
from hodios.types import Price

DOLLAR = 10**9
DOCUMENT = openapi_document(8)
SCRIPT = (
    Started("scripted", "maker/model", "fp_0", 101, 32),
    Text(0, "abc", completion_tokens=7),
    Stopped(0, "stop"),
    Finish(Usage(prompt_tokens=101, completion_tokens=7, cached_tokens=32)),
)
PATHS = ["/v1/key", "/v1/credits", "/v1/queries", "/v1/activity"]


@pytest.fixture
async def desk(config: Config) -> AsyncIterator[Bureau]:
    async with bureau(config, [Scripted(SCRIPT)]) as opened:
        yield opened


@pytest.fixture
def call(desk: Bureau, caller_of: Callable[..., Any]) -> Any:
    return caller_of(desk.app)


async def shown(call: Any, path: str, **query: object) -> Any:
    answer = await call("GET", path, query="&".join(f"{name}={value}" for name, value in query.items()))
    assert answer.status == 200, answer.body
    schema = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})
    return answer.json()


async def told(desk: Bureau) -> None:
    """Some requests at noon, of two keys."""
    entries = [
        ("r1", {"key_id": "k1", "cost": 100, "user": "ann"}),
        ("r2", {"key_id": "k1", "cost": 200, "at_s": NOON_S + 60, "provider": "v2"}),
        ("r3", {"key_id": "k2", "cost": 400, "at_s": NOON_S + 120, "model": "m2"}),
        ("r4", {"key_id": "k1", "cost": 800, "at_s": NOON_S + 86400}),
    ]
    attempts = [attempt(id, 1, accounts=(), **values) for id, values in entries]
    requests = [request(id, **values) for id, values in entries]
    requests.append(request("r5", key_id="k1", cost=0, at_s=NOON_S + 180, status=502, error_code="provider_error"))
    await Ledger(desk.database).settle("p", attempts, requests)


async def test_a_key_sees_what_it_has_left(desk: Bureau, call: Any) -> None:
    await desk.office.projects.create(
        ProjectRecord(id="p1", budgets=Budgets(daily=DOLLAR // 2), limits=Limits(parallel_requests=3), created_at_s=0)
    )
    budgets = Budgets(total=10 * DOLLAR, monthly=2 * DOLLAR)
    limits = Limits(requests_per_minute=100)
    call.key = await desk.key(name="mine", project_id="p1", budgets=budgets, limits=limits)
    before = (await shown(call, "/v1/key"))["data"]
    assert (before["label"], before["usage"], before["limit"], before["limit_reset"]) == ("mine", 0, 0.5, "daily")
    answer = await call.chat(model="model")
    await desk.settled()
    cost = answer.json()["usage"]["cost"]
    data = (await shown(call, "/v1/key"))["data"]
    assert data["usage"] == data["usage_daily"] == data["usage_weekly"] == data["usage_monthly"] == cost > 0
    assert Decimal(repr(data["limit_remaining"])) == Decimal("0.5") - Decimal(repr(cost))
    assert {(budget["scope"], budget["period"]): budget["limit"] for budget in data["budgets"]} == {
        ("key", "total"): 10,
        ("key", "month"): 2,
        ("project", "day"): 0.5,
    }
    assert {budget["period"]: budget["resets_at"] is None for budget in data["budgets"]} == {
        "total": True,
        "month": False,
        "day": False,
    }
    assert data["rate_limits"]["requests_per_minute"] == 100
    assert data["project_rate_limits"]["parallel_requests"] == 3
    assert (await shown(call, "/v1/credits"))["data"] == {"total_credits": 10, "total_usage": cost}


async def test_credits_are_the_projects_where_a_key_has_none(desk: Bureau, call: Any) -> None:
    await desk.office.projects.create(ProjectRecord(id="p1", budgets=Budgets(total=DOLLAR), created_at_s=0))
    told = attempt("r1", 1, key_id="k2", accounts=(AccountId("project", "p1", "total"),), cost=DOLLAR // 4)
    await Ledger(desk.database).settle("p", [told])
    call.key = await desk.key(project_id="p1")
    assert (await shown(call, "/v1/credits"))["data"] == {"total_credits": 1, "total_usage": 0.25}


async def test_the_operator_has_no_limits(call: Any) -> None:
    data = (await shown(call, "/v1/key"))["data"]
    assert (data["label"], data["limit"], data["limit_remaining"], data["budgets"]) == ("admin", None, None, [])
    assert (await shown(call, "/v1/credits"))["data"] == {"total_credits": None, "total_usage": 0}


async def test_queries_are_ones_own(desk: Bureau, call: Any) -> None:
    await told(desk)
    everything = await shown(call, "/v1/queries")
    assert [item["id"] for item in everything["items"]] == ["r4", "r5", "r3", "r2", "r1"]
    assert everything["before"] is None
    call.key = await desk.key("k1", name="mine")
    own = await shown(call, "/v1/queries", key="k2")
    assert [item["id"] for item in own["items"]] == ["r4", "r5", "r2", "r1"]
    assert {item["app"] for item in own["items"]} == {"mine"}
    assert own["items"][-1] == {
        "id": "r1",
        "username": "ann",
        "timestamp": "2026-11-21T12:00:00.000+00:00",
        "app": "mine",
        "provider": "v1",
        "route": "m1",
        "unit": "tokens",
        "prompt_tokens": 10,
        "prompt_char": None,
        "response_tokens": 20,
        "response_char": None,
        "cost": "0.0000001",
        "latency_ms": 700,
        "source_ip": None,
        "chat_id": None,
        "key_id": "k1",
        "project_id": "p1",
        "model": "m1",
        "status": 200,
        "error": None,
        "finish_reason": "stop",
        "streamed": True,
        "cached_tokens": 4,
        "time_to_first_token_ms": 200,
    }


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"key": "k2"}, ["r3"]),
        ({"model": "m2"}, ["r3"]),
        ({"provider": "v2"}, ["r2"]),
        ({"user": "ann"}, ["r1"]),
        ({"status": 502}, ["r5"]),
        ({"from": "2026-11-22"}, ["r4"]),
        ({"to": "2026-11-21"}, ["r5", "r3", "r2", "r1"]),
        ({"to": "2026-11-21T12:01:00Z"}, ["r1"]),
        ({"from": int(NOON_S) + 60, "to": int(NOON_S) + 121}, ["r3", "r2"]),
        ({"limit": 2, "offset": 1}, ["r5", "r3"]),
        ({"project": "p2"}, []),
    ],
)
async def test_queries_are_filtered(desk: Bureau, call: Any, query: dict[str, Any], ids: list[str]) -> None:
    await told(desk)
    assert [item["id"] for item in (await shown(call, "/v1/queries", **query))["items"]] == ids


async def test_pages_follow_each_other(desk: Bureau, call: Any) -> None:
    await told(desk)
    found, before = [], ""
    while before is not None:
        page = await shown(call, "/v1/queries", limit=2, before=before)
        found += [item["id"] for item in page["items"]]
        before = page["before"]
    assert found == ["r4", "r5", "r3", "r2", "r1"]


async def test_users_are_shown_with_what_abuse_is_found_by(desk: Bureau, call: Any) -> None:
    asked = [request(f"r{n}", user="ann", at_s=NOON_S + n * 60, finish_reason="content_filter") for n in range(3)]
    asked.append(request("r3", user="ann", at_s=NOON_S + 3600))
    await Ledger(desk.database).settle("p", [], asked)
    span = {"from": "2026-11-21", "to": "2026-11-22"}
    (ann,) = (await shown(call, "/v1/activity", by="user", **span))["data"]
    assert (ann["requests"], ann["filtered"], ann["most_requests_per_hour"]) == (4, 3, 3)
    (every,) = (await shown(call, "/v1/activity", by="key", **span))["data"]
    assert every["filtered"] == 3
    assert "most_requests_per_hour" not in every


async def test_activity_is_ones_own_and_adds_up(desk: Bureau, call: Any) -> None:
    await told(desk)
    span = {"from": "2026-11-21", "to": "2026-11-22"}

    async def sums(**query: Any) -> dict[tuple[Any, ...], tuple[float, int]]:
        data = (await shown(call, "/v1/activity", **span, **query))["data"]
        fields = ("date", "key_id", "model", "provider_name", "user")
        return {
            tuple(entry[name] for name in fields if name in entry): (entry["usage"], entry["requests"])
            for entry in data
        }

    assert await sums(by="key") == {("k1",): (1.1e-6, 4), ("k2",): (4e-7, 1)}
    assert await sums(by="day") == {("2026-11-21",): (7e-7, 4), ("2026-11-22",): (8e-7, 1)}
    assert await sums(by="user,key") == {("k1", "ann"): (1e-7, 1), ("k1", None): (1e-6, 3), ("k2", None): (4e-7, 1)}
    assert await sums(by="model", key="k2") == {("m2",): (4e-7, 1)}
    call.key = await desk.key("k1")
    assert await sums() == {
        ("2026-11-21", "m1", "v1"): (1e-7, 2),
        ("2026-11-21", "m1", "v2"): (2e-7, 1),
        ("2026-11-22", "m1", "v1"): (8e-7, 1),
    }
    assert await sums(by="key", key="k2") == {("k1",): (1.1e-6, 4)}


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/queries", "limit=0", "limit"),
        ("/v1/queries", "limit=1001", "limit"),
        ("/v1/queries", "offset=-1", "offset"),
        ("/v1/queries", "offset=x", "offset"),
        ("/v1/queries", "before=x", "before"),
        ("/v1/queries", "status=99", "status"),
        ("/v1/queries", "from=yesterday", "from"),
        ("/v1/queries", "to=nan", "to"),
        ("/v1/queries", "to=9999-12-31", "to"),
        ("/v1/queries", "user=a%00b", "user"),
        ("/v1/activity", "by=colour", "by"),
        ("/v1/activity", "by=", None),
        ("/v1/activity", "by=user,model", "by"),
        ("/v1/activity", "from=1e30", "from"),
    ],
)
async def test_bad_parameters_are_named(call: Any, path: str, query: str, param: str | None) -> None:
    answer = await call("GET", path, query=query)
    if param is None:
        assert answer.status == 200
    else:
        assert (answer.status, answer.error["param"]) == (400, param)
        assert "accepted" in answer.error["message"] or "not known by" in answer.error["message"]


@pytest.mark.parametrize("path", [*PATHS, "/admin/v1/recommendations"])
async def test_without_a_store_there_is_nothing_to_show(
    config: Config, caller_of: Callable[..., Any], path: str
) -> None:
    answer = await caller_of(create_app(config, []))("GET", path)
    assert (answer.status, answer.error["code"]) == (501, "not_available")


async def test_recommendations_compare_those_who_are_asked(config: Config, caller_of: Callable[..., Any]) -> None:
    cheap = structs.replace(CARD, price=Price(prompt=1, completion=1))
    async with bureau(config, [Scripted(SCRIPT, "v1"), Scripted(SCRIPT, "v2", cheap)]) as desk:
        call = caller_of(desk.app)
        spent = attempt("r1", 1, accounts=(AccountId("key", "k1", "total"),), model="maker/model", cost=DOLLAR)
        await Ledger(desk.database).settle("p", [spent])
        own_key = await desk.key("k1", name="mine", budgets=Budgets(total=DOLLAR))
        cheaper, spent_up = (
            await shown(call, "/admin/v1/recommendations", **{"from": "2026-11-01", "to": "2026-11-30"})
        )["data"]
        assert (cheaper["kind"], cheaper["provider"], cheaper["instead"]) == ("cheaper_provider", "v1", "v2")
        assert cheaper["saving"] == 1
        assert (spent_up["kind"], spent_up["key_id"], spent_up["spent_share"]) == ("budget_nearly_spent", "k1", 1)
        answer = await call("GET", "/admin/v1/recommendations", query="to=never")
        assert (answer.status, answer.error["param"]) == (400, "to")
        call.key = own_key
        assert (await call("GET", "/admin/v1/recommendations")).status == 403


@pytest.mark.parametrize("prefix", ["/v3/openai", "/v1/openai", ""])
async def test_all_prefixes_lead_there(call: Any, prefix: str) -> None:
    for path in PATHS:
        assert (await call("GET", path.replace("/v1", prefix, 1))).status == 200


async def test_forgotten_requests_are_found_in_the_store(
    desk: Bureau, call: Any, config: Config, caller_of: Callable[..., Any]
) -> None:
    call.key = await desk.key()
    made = (await call.chat(model="model")).json()
    await desk.settled()
    remembered = (await call("GET", "/v1/generation", query=f"id={made['id']}")).json()["data"]
    later = caller_of(create_app(config, [Scripted(SCRIPT)], office=desk.office))
    later.key = call.key
    found = (await shown(later, "/v1/generation", id=made["id"]))["data"]
    for name in ("latency", "generation_time", "created_at"):
        remembered.pop(name), found.pop(name)
    for candidate in remembered["route"]["candidates"]:
        candidate["pricing"] = {}
    assert found == remembered
    assert list(found) == list(remembered)
    later.key = await desk.key("k2")
    assert (await later("GET", "/v1/generation", query=f"id={made['id']}")).status == 404


def test_the_documentation_names_every_filter(repository: Any) -> None:
    section = (repository / "docs" / "api.md").read_text().partition("## Usage")[2].partition("\n## ")[0]
    for name in {*QUERY_FILTERS, *ACTIVITY_FILTERS}:
        assert f"`{name}`" in section
