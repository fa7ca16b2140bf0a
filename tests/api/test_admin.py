"""The operator's routes: reload, sync, and the history of prices."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.errors import TimedOut
from hodios.providers.catalog_rows import Offer, ProviderRow
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.echo import EchoProvider
from hodios.providers.listing_client import Listed
from hodios.providers.listing_entries import Tags
from hodios.providers.listing_shelf import ListingShelf
from hodios.providers.listings import Reading, Refused
from hodios.providers.prices import PriceHistory
from hodios.providers.sync import Synchronizer
from hodios.types import Price

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PROVIDER = 'name = "acme"\ntitle = "Acme"\nhosted = true\nenabled = true\nbase_url = "https://acme.example/v1"\n'
MODEL = (
    'id = "Maker/Big"\nname = "Big"\nauthor = "Maker"\naliases = ["big"]\nfamily = "hermes"\ncontext_length = 8192\n'
    '[[offers]]\nprovider = "acme"\nid = "maker-big"\nprice = { prompt = 0.39, completion = 0.5 }\n'
)
ROUTES = [("POST", "reload"), ("POST", "sync"), ("GET", "sync"), ("GET", "prices")]


class Lists:
    """What acme lists, in turn; an error is raised."""

    def __init__(self) -> None:
        self.answers: list[Reading | Exception] = []

    def __call__(self, row: ProviderRow, key: str | None) -> Lists:
        return self

    async def read(self, tags: Tags) -> Listed | None:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Listed(answer, Tags())


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    for name, text in (("providers/acme.toml", PROVIDER), ("models/big.toml", MODEL)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest.fixture
def admin(call: Any, config: Config, rows: Path, lists: Lists) -> Any:
    store = CatalogStore(config, folders=[rows])
    history, shelf = PriceHistory(config.home), ListingShelf(config.home)
    synchronizer = Synchronizer(store, history, shelf, interval_s=900.0, visitor=lists, clock=lambda: NOON)
    return type(call)(create_app(config, [EchoProvider()], store=store, synchronizer=synchronizer))


def reading(prompt: int = 10**9, **fields: Any) -> Reading:
    return Reading(offers=(Offer(id="maker-big", price=Price(prompt=prompt, completion=prompt)),), **fields)


async def test_a_sync_answers_what_became_otherwise(admin: Any, lists: Lists) -> None:
    lists.answers = [reading(refused=(Refused("x", "it has no price"),), num_others=3)]
    answer = await admin("POST", "/admin/v1/sync")
    assert answer.status == 200
    (outcome,) = answer.json()["data"]
    assert outcome["state"] == "changed"
    assert outcome["changes"] == [
        {
            "provider": "acme",
            "model": "Maker/Big",
            "offer": "maker-big",
            "via": "",
            "what": "price",
            "before": {"prompt": "0.39", "completion": "0.5", "request": "0"},
            "after": {"prompt": "1", "completion": "1", "request": "0"},
        }
    ]
    assert outcome["standing"]["read_at"] == "2026-11-21T12:00:00Z"
    listed = (await admin("GET", "/v1/models/Maker/Big/endpoints")).json()["data"]["endpoints"]
    assert [(each["pricing"]["prompt"], each["price_source"]) for each in listed] == [("0.000001", "live")]
    standings = (await admin("GET", "/admin/v1/sync")).json()
    assert standings["interval_s"] == 900
    (standing,) = standings["data"]
    assert (standing["provider"], standing["num_models"], standing["num_others"]) == ("acme", 1, 3)
    assert standing["refused"] == [{"id": "x", "reason": "it has no price"}]


async def test_a_provider_that_fails_is_told_and_the_request_does_not_fail(admin: Any, lists: Lists) -> None:
    lists.answers = [TimedOut("acme did not list its models within 60 s")]
    answer = await admin("POST", "/admin/v1/sync", {"providers": ["acme"]})
    assert answer.status == 200
    (outcome,) = answer.json()["data"]
    assert (outcome["state"], outcome["standing"]["error"]) == ("failed", "acme did not list its models within 60 s")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"acme"', b'{"providers": "acme"}', b'{"providers": [1]}', b"[" * 20_000, b"\xff"]
)
async def test_a_sync_of_nobody_in_particular_is_refused(admin: Any, body: bytes) -> None:
    answer = await admin("POST", "/admin/v1/sync", body=body)
    assert (answer.status, answer.error["param"]) == (400, "providers")


async def test_a_sync_of_somebody_unknown_names_those_there_are(admin: Any) -> None:
    answer = await admin("POST", "/admin/v1/sync", {"providers": ["acne"]})
    assert answer.status == 400
    assert "there are acme" in answer.error["message"]


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"providers": null}', b'{"providers": []}'])
async def test_a_sync_of_everybody(admin: Any, lists: Lists, body: bytes) -> None:
    lists.answers = [reading()]
    answer = await admin("POST", "/admin/v1/sync", body=body)
    assert [outcome["state"] for outcome in answer.json()["data"]] == ["changed"]


async def test_prices_are_told_newest_first(admin: Any, lists: Lists) -> None:
    for price in (1, 2, 3):
        lists.answers = [reading(price * 10**9)]
        await admin("POST", "/admin/v1/sync")
    data = (await admin("GET", "/admin/v1/prices")).json()["data"]
    assert [(change["new"]["prompt"], change["source"]) for change in data] == [
        *(("3", "live"), ("2", "live"), ("1", "live")),
    ]
    assert data[0] == {
        "at": "2026-11-21T12:00:00Z",
        "provider": "acme",
        "model": "Maker/Big",
        "offer": "maker-big",
        "via": None,
        "source": "live",
        "old": {"prompt": "2", "completion": "2", "request": "0"},
        "new": {"prompt": "3", "completion": "3", "request": "0"},
    }


@pytest.mark.parametrize(
    ("query", "num"),
    [
        *(("model=BIG", 2), ("model=maker-big", 2), ("provider=ACME", 2), ("provider=acme&model=big&limit=1", 1)),
        *(("model=none", 0), ("provider=none", 0), ("limit=", 2), ("model=&provider=", 2)),
    ],
)
async def test_prices_are_found(admin: Any, lists: Lists, query: str, num: int) -> None:
    for price in (1, 2):
        lists.answers = [reading(price)]
        await admin("POST", "/admin/v1/sync")
    assert len((await admin("GET", "/admin/v1/prices", query=query)).json()["data"]) == num


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "1.5", "9" * 5000, "%D9%A3"])
async def test_a_limit_is_a_number(admin: Any, limit: str) -> None:
    answer = await admin("GET", "/admin/v1/prices", query=f"limit={limit}")
    assert (answer.status, answer.error["param"]) == (400, "limit")


async def test_a_history_that_cannot_be_read_is_told(admin: Any, config: Config) -> None:
    (config.home / "prices.jsonl").mkdir()
    assert (await admin("GET", "/admin/v1/prices")).status == 502


async def test_files_are_read_anew(admin: Any, rows: Path) -> None:
    before = (await admin("POST", "/admin/v1/reload")).json()["version"]
    (rows / "models" / "big.toml").write_text(MODEL.replace("0.39", "0.4"))
    assert (await admin("POST", "/admin/v1/reload")).json() == {"version": before + 1}
    listed = (await admin("GET", "/v1/models/Maker/Big/endpoints")).json()["data"]["endpoints"]
    assert [each["pricing"]["prompt"] for each in listed] == ["0.0000004"]
    data = (await admin("GET", "/admin/v1/prices")).json()["data"]
    assert [(change["new"]["prompt"], change["source"]) for change in data] == [("0.4", "offline"), ("0.39", "offline")]


async def test_files_that_make_no_sense_are_told(admin: Any, rows: Path) -> None:
    (rows / "models" / "big.toml").write_text("id = 3\n")
    answer = await admin("POST", "/admin/v1/reload")
    assert answer.status == 400
    assert "big.toml" in answer.error["message"]


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_nobody_else_may(admin: Any, method: str, route: str) -> None:
    admin.key = None
    assert (await admin(method, f"/admin/v1/{route}")).status == 401
    admin.key = "some-other-key"
    assert (await admin(method, f"/admin/v1/{route}")).status == 401


@pytest.mark.parametrize("route", ["reload", "sync", "prices"])
async def test_other_methods_are_refused(admin: Any, route: str) -> None:
    assert (await admin("DELETE", f"/admin/v1/{route}")).status == 405


async def test_without_a_schedule_the_routes_are_there_all_the_same(call: Any) -> None:
    assert (await call("GET", "/admin/v1/sync")).json() == {"data": [], "interval_s": None, "object": "list"}
    assert (await call("POST", "/admin/v1/sync")).json() == {"data": [], "object": "list"}
    assert (await call("GET", "/admin/v1/prices")).json() == {"data": [], "object": "list"}


async def test_answers_are_as_described(admin: Any, lists: Lists) -> None:
    document = openapi_document(8)
    lists.answers = [reading(), TimedOut("no")]
    for method, route in [ROUTES[1], *ROUTES, ROUTES[3]]:
        answer = await admin(method, f"/admin/v1/{route}")
        content = document["paths"][f"/admin/v1/{route}"][method.lower()]["responses"]["200"]["content"]
        schema = {**content["application/json"]["schema"], "components": document["components"]}
        jsonschema.validate(answer.json(), schema)
