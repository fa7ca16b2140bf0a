"""Keys and projects from the operator's side: made, used, changed, and refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from bureau import CARD, Scripted
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from hodios.accounts.office import Office
from hodios.api.account_fields import DOLLARS, KEY_FIELDS, PROJECT_FIELDS, TIME, changed, parse
from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.errors import InvalidRequest
from hodios.money import dollars
from hodios.providers.echo import MODEL_ID, EchoProvider
from hodios.store.failures import StoreUnavailable
from hodios.store.records import Budgets, KeyRecord, ProjectRecord
from hodios.types import ModelCard, Price

DOCUMENT = openapi_document(8)
NEW = KeyRecord(id="k", prefix="", digest=b"", created_at_s=0)


class Priced(EchoProvider):
    """A dollar for a thousand tokens."""

    def models(self) -> Sequence[ModelCard]:
        price = Price(prompt=10**12, completion=10**12)
        return [structs.replace(card, price=price) for card in super().models()]


@pytest.fixture
def admin(office: Office, config: Config, caller_of: Callable[[Any], Any]) -> Any:
    return caller_of(create_app(config, [Priced(context_length=4096)], office=office))


@pytest.fixture
def using(admin: Any, office: Office) -> Callable[..., Any]:
    """Asks for an answer with a key, once its process has noticed all changes."""

    async def chat(text: str, **values: Any) -> Any:
        await office.accounts._keyring.poll()
        caller = with_key(admin, text)
        return await caller.chat(**values)

    return chat


def with_key(admin: Any, key: str) -> Any:
    return type(admin)(admin.app, key)


async def made(admin: Any, **values: Any) -> Any:
    answer = await admin("POST", "/admin/v1/keys", values)
    assert answer.status == 201, answer.body
    return answer.json()


async def patched(admin: Any, id: str, **values: Any) -> Any:
    answer = await admin("PATCH", f"/admin/v1/keys/{id}", values)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_a_key_is_made_used_and_shown(admin: Any, using: Any, office: Office, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    key = await made(admin, name="ann", budget={"daily": 1000.5}, metadata={"team": "a"})
    assert key["key"].startswith(key["prefix"])
    assert (await using(key["key"])).status == 200
    while office.accounts.figures().num_undrained:
        await office.accounts._drain.step()
    await office.accounts._keyring.poll()
    answer = await admin("GET", f"/admin/v1/keys/{key['id']}")
    shown = answer.json()
    assert shown["budget"] == {"total": None, "daily": "1000.5", "weekly": None, "monthly": None}
    usage = shown["usage"]["daily"]
    assert float(usage["spent"]) > 0
    assert float(usage["spent"]) + float(usage["left"]) == pytest.approx(1000.5)
    assert datetime.fromisoformat(usage["resets_at"]) > datetime.now(UTC)
    assert shown["usage"]["total"] == {"spent": usage["spent"], "left": None, "resets_at": None}
    assert shown["last_used_at"] is not None
    assert key["key"].encode() not in answer.body
    assert key["key"] not in caplog.text


@pytest.mark.parametrize(
    "values", [{"disabled": True}, {"expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}]
)
async def test_a_key_that_ends_is_refused_and_may_begin_again(admin: Any, using: Any, values: Any) -> None:
    key = await made(admin)
    assert (await using(key["key"])).status == 200
    await patched(admin, key["id"], **values)
    assert (await using(key["key"])).status == 401
    await patched(admin, key["id"], **dict.fromkeys(values))
    assert (await using(key["key"])).status == 200


async def test_a_rotated_key_has_a_new_text_and_the_old_one_its_grace(admin: Any, using: Any) -> None:
    first = await made(admin)
    path = f"/admin/v1/keys/{first['id']}/rotate"
    second = (await admin("POST", path, {"grace_s": 60})).json()
    assert {first["id"]} == {second["id"]}
    assert first["key"] != second["key"]
    assert [(await using(each["key"])).status for each in (first, second)] == [200, 200]
    third = (await admin("POST", path)).json()
    assert [(await using(each["key"])).status for each in (first, second, third)] == [401, 401, 200]


async def test_a_deleted_key_is_gone(admin: Any, using: Any) -> None:
    key = await made(admin)
    path = f"/admin/v1/keys/{key['id']}"
    assert (await admin("DELETE", path)).json() == {"id": key["id"], "object": "key", "deleted": True}
    assert (await using(key["key"])).status == 401
    for method, place in (("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate")):
        answer = await admin(method, place)
        assert (answer.status, answer.error["code"]) == (404, "not_found")


async def test_a_key_administers_nothing(admin: Any) -> None:
    caller = with_key(admin, (await made(admin))["key"])
    for method, path in [("GET", "keys"), ("POST", "keys"), ("DELETE", "keys/x"), ("GET", "projects")]:
        answer = await caller(method, f"/admin/v1/{path}")
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")


async def test_what_is_not_allowed_is_refused(admin: Any, using: Any) -> None:
    expected: list[tuple[dict[str, Any], int]] = [
        ({"models": ["ECHO"]}, 200),
        ({"models": ["other/model"]}, 403),
        ({"models": []}, 403),
        ({"providers": ["echo"]}, 200),
        ({"providers": ["other"]}, 403),
        ({"budget": {"total": "0.001"}}, 402),
        ({"budget": {"monthly": 100}}, 200),
    ]
    for values, status in expected:
        key = await made(admin, force=True, **values)
        assert (await using(key["key"])).status == status, values


async def test_the_status_page_shows_a_key_what_it_may_ask_for(admin: Any, office: Office) -> None:
    whole = (await admin("GET", "/status")).json()
    assert [model["id"] for model in whole["models"]] == [MODEL_ID]
    for values, is_shown in [
        ({"models": [MODEL_ID]}, True),
        ({"models": ["other/model"]}, False),
        ({"providers": []}, False),
    ]:
        key = await made(admin, force=True, **values)
        await office.accounts._keyring.poll()
        page = (await with_key(admin, key["key"])("GET", "/status")).json()
        assert page["models"] == (whole["models"] if is_shown else [])
        assert page["providers"] == (whole["providers"] if is_shown else [])


def offering(*names: str) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": name, "parameters": {}}} for name in names]}


async def test_tools_that_are_not_allowed_are_named_with_those_that_are(admin: Any, using: Any) -> None:
    key = await made(admin, tools=["get_*", "search"])
    assert key["tools"] == ["get_*", "search"]
    for names in ([], ["search"], ["get_", "get_weather", "search"]):
        assert (await using(key["key"], **offering(*names))).status == 200
    for names, number in ((["search", "delete_file"], 1), (["forget_me"], 0), (["Search"], 0)):
        answer = await using(key["key"], **offering(*names))
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")
        assert answer.error["param"] == f"tools[{number}]"
        expected = f"may not offer the tool '{names[number]}'; allowed to it: get_*, search"
        assert expected in answer.error["message"]
    answer = await using(key["key"], functions=[{"name": "other", "parameters": {}}])
    assert (answer.status, answer.error["param"]) == (403, "functions[0]")
    await patched(admin, key["id"], tools=[])
    answer = await using(key["key"], **offering("search"))
    assert "allowed to it: none" in answer.error["message"]
    await patched(admin, key["id"], tools=None)
    assert (await using(key["key"], **offering("anything"))).status == 200


async def test_aliases_are_kept_as_ids(admin: Any) -> None:
    key = await made(admin, models=["Echo", MODEL_ID, "later/model"], providers=["ECHO", "later"], force=True)
    assert (key["models"], key["providers"]) == ([MODEL_ID, "later/model"], ["echo", "later"])
    path = f"/admin/v1/keys/{key['id']}"
    again = await admin("PATCH", path, {"models": ["later/model", "echo"]})
    assert again.json()["models"] == ["later/model", MODEL_ID], "what it allows already is not asked about"


@pytest.mark.parametrize(
    ("values", "param", "closest"),
    [
        ({"models": ["echo", "hodios/ecko"]}, "models[1]", MODEL_ID),
        ({"providers": ["ecko"]}, "providers[0]", "echo"),
    ],
)
async def test_what_nobody_has_heard_of_is_told_with_what_comes_closest(
    admin: Any, values: dict[str, Any], param: str, closest: str
) -> None:
    path = f"/admin/v1/keys/{(await made(admin))['id']}"
    for answer in (await admin("POST", "/admin/v1/keys", values), await admin("PATCH", path, values)):
        assert (answer.status, answer.error["param"]) == (400, param)
        assert answer.error["metadata"]["closest"][0] == closest
        assert closest in answer.error["message"]
    assert (await admin("POST", "/admin/v1/keys", {**values, "force": True})).status == 201


async def test_a_key_is_shown_the_models_that_it_may_ask_for(
    office: Office, config: Config, caller_of: Callable[[Any], Any]
) -> None:
    shared = structs.replace(CARD, id="maker/shared", aliases=("both",))
    first, second = Scripted((), "first", shared), Scripted((), "second", shared)
    other = Scripted((), "third", structs.replace(CARD, id="maker/other", aliases=()))
    admin = caller_of(create_app(config, [first, second, other], office=office))

    async def seen(path: str, **values: Any) -> Any:
        answer = await with_key(admin, (await made(admin, **values))["key"])("GET", path)
        return answer.status, answer.json()

    status, listed = await seen("/v1/models", models=["both"])
    assert [(model["id"], model["provider"]) for model in listed["data"]] == [("maker/shared", "first")]
    status, listed = await seen("/v1/models", providers=["second", "third"])
    assert [(model["id"], model["provider"]) for model in listed["data"]] == [
        ("maker/shared", "second"),
        ("maker/other", "third"),
    ]
    assert (await seen("/v1/models", models=[]))[1]["data"] == []
    status, endpoints = await seen("/v1/models/maker/shared/endpoints", providers=["second"])
    assert [each["provider"] for each in endpoints["data"]["endpoints"]] == ["second"]
    status, shown = await seen("/v1/models/both", providers=["second"])
    assert (status, [each["provider"] for each in shown["offers"]]) == (200, ["second"])
    for path in ("maker/other", "first/maker/shared", "maker/other/endpoints"):
        status, refused = await seen(f"/v1/models/{path}", models=["both"], providers=["second"])
        assert (status, refused["error"]["code"]) == (404, "model_not_found")
        assert "this key may not ask for" in refused["error"]["message"]
    assert len((await admin("GET", "/v1/models")).json()["data"]) == 2


async def test_a_project_limits_all_its_keys(admin: Any, using: Any) -> None:
    project = (await admin("POST", "/admin/v1/projects", {"name": "p", "requests_per_minute": 2})).json()
    keys = [await made(admin, project=project["id"]) for _ in range(3)]
    answers = [await using(key["key"]) for key in keys]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert int(answers[2].headers["retry-after"]) >= 1
    await admin("PATCH", f"/admin/v1/projects/{project['id']}", {"disabled": True})
    assert (await using(keys[0]["key"])).status == 401


async def test_a_project_with_keys_stays(admin: Any) -> None:
    project = (await admin("POST", "/admin/v1/projects")).json()
    path = f"/admin/v1/projects/{project['id']}"
    key = await made(admin, project=project["id"])
    answer = await admin("DELETE", path)
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert "still has keys" in answer.error["message"]
    await patched(admin, key["id"], project=None)
    assert (await admin("DELETE", path)).json()["deleted"]
    assert (await admin("GET", path)).status == 404
    assert (await admin("DELETE", path)).status == 404


async def test_changes_are_of_what_is_named_alone(admin: Any) -> None:
    key = await made(admin, name="a", budget={"daily": 1, "total": 5}, requests_per_minute=3, tokens_per_minute=4)
    key = await patched(admin, key["id"], budget={"daily": None, "weekly": "2.5"}, tokens_per_minute=None, queue=True)
    assert key["budget"] == {"total": "5", "daily": None, "weekly": "2.5", "monthly": None}
    assert (key["name"], key["requests_per_minute"], key["tokens_per_minute"], key["queue"]) == ("a", 3, None, True)
    assert (await patched(admin, key["id"], budget=None))["budget"]["total"] is None


async def test_nobody_overwrites_what_he_has_not_seen(admin: Any) -> None:
    key = await made(admin)
    assert (await patched(admin, key["id"], name="b", version=key["version"]))["version"] == key["version"] + 1
    answer = await admin("PATCH", f"/admin/v1/keys/{key['id']}", {"name": "c", "version": key["version"]})
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert (await patched(admin, key["id"], name="d"))["name"] == "d"


@pytest.mark.parametrize(
    ("values", "param", "said"),
    [
        ({"nmae": "x"}, "nmae", "did you mean name?"),
        ({"budget": {"dayly": 1}}, "budget.dayly", "did you mean budget.daily?"),
        ({"budget": {"daily": -1}}, "budget.daily", "-1 is not such an amount; accepted: dollars from 0"),
        ({"budget": {"daily": "1e-10"}}, "budget.daily", "1e-10"),
        ({"budget": 5}, "budget", "is not an object"),
        ({"models": "echo"}, "models", "is not a list"),
        ({"models": [""]}, "models[0]", "has 0 characters"),
        ({"requests_per_minute": 0}, "requests_per_minute", "0 is out of range; accepted: an integer from 1"),
        ({"parallel_requests": 1.5}, "parallel_requests", "is not an integer"),
        ({"expires_at": "tomorrow"}, "expires_at", '"tomorrow" is not a time'),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at", "time zone"),
        ({"expires_at": "0001-01-01T00:00:00Z"}, "expires_at", "is out of range"),
        ({"metadata": {"a": 1}}, "metadata.a", "is not a string"),
        ({"name": "a\0"}, "name", "without NUL"),
        ({"disabled": "yes"}, "disabled", "true or false"),
        ({"on_store_error": "ajar"}, "on_store_error", '"ajar" is not known; accepted: "open" or "closed"'),
        ({"content_filter": "no"}, "content_filter", "details"),
        ({"version": 1}, "version", "is not known"),
    ],
)
def test_wrong_values_are_named(values: Any, param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(KEY_FIELDS, values)
    assert refused.value.param == param
    assert said in refused.value.message
    assert "accepted: " in refused.value.message


@pytest.mark.parametrize(("values", "param"), [({"nmae": "x"}, "nmae"), ({"project": "nobody"}, "project")])
async def test_nothing_is_made_of_wrong_values(admin: Any, values: Any, param: str) -> None:
    answer = await admin("POST", "/admin/v1/keys", values)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert (await admin("GET", "/admin/v1/keys")).json()["data"] == []


async def test_a_change_to_no_project_is_named(admin: Any) -> None:
    key = await made(admin)
    answer = await admin("PATCH", f"/admin/v1/keys/{key['id']}", {"project": "nobody"})
    assert (answer.status, answer.error["param"]) == (400, "project")


async def test_a_grace_is_seconds(admin: Any) -> None:
    key = await made(admin)
    for body in ({"grace_s": -1}, {"grace_s": "x"}, {"grace": 1}, {"grace_s": 10**9}):
        assert (await admin("POST", f"/admin/v1/keys/{key['id']}/rotate", body)).status == 400


async def test_lists_come_in_pages(admin: Any) -> None:
    project = (await admin("POST", "/admin/v1/projects")).json()["id"]
    ids = [(await made(admin, project=project if number % 2 else None))["id"] for number in range(5)]
    first = (await admin("GET", "/admin/v1/keys", query="limit=3")).json()
    assert first["has_more"]
    rest = (await admin("GET", "/admin/v1/keys", query=f"limit=3&after={first['last_id']}")).json()
    assert not rest["has_more"]
    assert sorted(key["id"] for key in first["data"] + rest["data"]) == sorted(ids)
    of_project = (await admin("GET", "/admin/v1/keys", query=f"project={project}")).json()
    assert {key["id"] for key in of_project["data"]} == {ids[1], ids[3]}
    assert [each["id"] for each in (await admin("GET", "/admin/v1/projects")).json()["data"]] == [project]
    for limit in ("0", "501", "x"):
        assert (await admin("GET", "/admin/v1/keys", query=f"limit={limit}")).error["param"] == "limit"


async def test_what_is_no_id_is_nobodys(admin: Any) -> None:
    for id in ("a\0", "a/b", "ä", "x" * 300, "a' OR 1=1"):
        for method in ("GET", "PATCH", "DELETE"):
            assert (await admin(method, f"/admin/v1/keys/{id}")).status == 404
            assert (await admin(method, f"/admin/v1/projects/{id}")).status == 404
    for query, param in (("after=a%00", "after"), ("project=%C3%A4", "project")):
        answer = await admin("GET", "/admin/v1/keys", query=query)
        assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "allowed"), [("keys", "GET, HEAD, POST"), ("keys/x", "DELETE, GET, HEAD, PATCH"), ("keys/x/rotate", None)]
)
async def test_other_methods_are_told_all_those_there_are(admin: Any, path: str, allowed: str | None) -> None:
    answer = await admin("PUT", f"/admin/v1/{path}")
    assert answer.status == 405
    assert allowed is None or answer.headers["allow"] == allowed


async def test_without_the_store_it_is_tried_again_later(admin: Any, office: Office, monkeypatch: Any) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("gone")

    key = await made(admin)
    for name in ("read", "write"):
        monkeypatch.setattr(office.database, name, fail)
    for method, path in [("GET", ""), ("POST", ""), ("GET", f"/{key['id']}"), ("DELETE", f"/{key['id']}")]:
        answer = await admin(method, f"/admin/v1/keys{path}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    monkeypatch.undo()


async def test_without_accounts_there_are_none(call: Any) -> None:
    for path in ("keys", "projects"):
        assert (await call("GET", f"/admin/v1/{path}")).status == 501


async def test_answers_are_as_described(admin: Any) -> None:
    project = (await admin("POST", "/admin/v1/projects", {"name": "p"})).json()["id"]
    key = (await made(admin, project=project, expires_at="2099-01-01T00:00:00+02:00", models=["echo"]))["id"]
    steps = [
        *(("POST", "keys", ""), ("GET", "keys", ""), ("GET", "keys/{id}", key), ("PATCH", "keys/{id}", key)),
        *(("POST", "keys/{id}/rotate", key), ("DELETE", "keys/{id}", key), ("POST", "projects", "")),
        *(("GET", "projects", ""), ("GET", "projects/{id}", project), ("PATCH", "projects/{id}", project)),
        ("DELETE", "projects/{id}", project),
    ]
    for method, path, id in steps:
        answer = await admin(method, f"/admin/v1/{path.replace('{id}', id)}")
        responses = DOCUMENT["paths"][f"/admin/v1/{path}"][method.lower()]["responses"]
        schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})


def test_every_field_of_a_record_can_be_set_or_is_kept_by_the_server() -> None:
    own = {"id", "prefix", "digest", "previous_digest", "previous_expires_at_s", "created_at_s", "last_used_at_s"}
    for kind, fields in ((KeyRecord, KEY_FIELDS), (ProjectRecord, PROJECT_FIELDS)):
        places = {field.place.partition(".")[0] for field in fields.values()}
        assert places | own | {"version"} >= set(kind.__struct_fields__)
        assert not places & own


@given(st.integers(0, 10**18))
def test_dollars_are_exact(nano: int) -> None:
    assert DOLLARS.parse("budget.total", dollars(nano)) == nano


@given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()))
def test_times_are_read_as_they_are_written(time: datetime) -> None:
    assert TIME.parse("expires_at", time.isoformat()) == time.timestamp()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(KEY_FIELDS)) | st.text(), JSON, max_size=4))
def test_whatever_comes_is_taken_or_refused_by_its_name(values: dict[str, Any]) -> None:
    try:
        record = changed(NEW, parse(KEY_FIELDS, values))
    except InvalidRequest as error:
        refused = error.param or "?"
        assert any(refused.startswith(name[:100]) for name in values)
    else:
        assert set(values) <= set(KEY_FIELDS)
        assert isinstance(record, KeyRecord)


@given(st.dictionaries(st.sampled_from(Budgets.__struct_fields__), st.none() | st.integers(0, 10**9)))
def test_budgets_change_by_period(budget: dict[str, int | None]) -> None:
    before = Budgets(total=1, daily=2, weekly=3, monthly=4)
    after = changed(structs.replace(NEW, budgets=before), parse(KEY_FIELDS, {"budget": budget})).budgets
    for period in Budgets.__struct_fields__:
        amount = budget.get(period)
        wanted = getattr(before, period) if period not in budget else None if amount is None else amount * 10**9
        assert getattr(after, period) == wanted
    assert parse(KEY_FIELDS, {"budget": None}) == {"budgets": UNSET}
