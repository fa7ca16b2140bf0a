"""Logging in to the web page: what a session opens, to whom, for how long, and what pages of others get of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from hodios.api import login_codes
from hodios.api.app import create_app
from hodios.api.guesses import FROM_ALL, FROM_ONE, Guesses, network_of
from hodios.api.marks import Marks
from hodios.api.session_keeper import LIFE_S
from hodios.api.session_tokens import Pass, TokenSigner
from hodios.errors import AuthenticationError, Overloaded, RateLimited
from hodios.providers.echo import EchoProvider
from tests.bureau import Bureau, bureau

NOW_S = 1_800_000_000.0
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
FOREIGN = [
    {"origin": "http://test:3000"},
    {"origin": "http://other"},
    {"origin": "null"},
    {"origin": "ftp://test"},
    {"origin": "http://localhost:8000"},
    {"origin": "http://test", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
]
"""What browsers add to requests of other pages; "test" is the Host of the server."""


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(config: Any, clock: Clock) -> AsyncIterator[Bureau]:
    async with bureau(config, [EchoProvider(context_length=4096)], clock=clock, monotonic=clock) as desk:
        yield desk


class Browser:
    """Keeps the cookie, and knows the csrf token where it has seen it."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.cookie = ""
        self.csrf = ""

    async def __call__(self, method: str, path: str, value: Any = None, **headers: str) -> Any:
        sent = {"authorization": "", "cookie": self.cookie, "x-hodios-csrf": self.csrf, "origin": "http://test"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        answer = await self.call(method, path, value, headers=sent)
        if "set-cookie" in answer.headers:
            self.cookie = "; ".join(["theme=dark", answer.headers["set-cookie"].partition(";")[0]])
        return answer

    async def log_in(self, **values: str) -> Any:
        answer = await self("POST", "/ui/session", values)
        if answer.status == 200:
            self.csrf = answer.json()["csrf"]
        return answer


@pytest.fixture
def browser(desk: Bureau, caller_of: Any) -> Browser:
    return Browser(caller_of(desk.app))


async def test_the_operator_logs_in_looks_around_and_leaves(browser: Browser) -> None:
    assert (await browser("GET", "/ui/session")).json() == {"role": None}
    answer = await browser.log_in(key=browser.call.key)
    assert answer.status == 200
    session = answer.json()
    assert list(session) == ["role", "id", "name", "prefix", "expires_at", "csrf"]
    assert (session["role"], session["id"], session["prefix"]) == ("admin", "admin", "")
    assert datetime.fromisoformat(session["expires_at"]) == datetime.fromtimestamp(NOW_S + LIFE_S, UTC)
    attributes = answer.headers["set-cookie"].partition("; ")[2]
    assert attributes == f"Path=/; Max-Age={LIFE_S}; HttpOnly; SameSite=Strict"
    assert answer.headers["cache-control"] == "no-store"
    assert browser.call.key not in answer.headers["set-cookie"]

    assert (await browser("GET", "/ui/session")).json() == session
    assert (await browser("GET", "/admin/v1/keys")).status == 200
    assert (await browser("POST", "/v1/chat/completions", CHAT)).status == 200
    kept = browser.cookie
    ended = await browser("DELETE", "/ui/session")
    assert (ended.status, ended.json()) == (200, {"role": None})
    assert "Max-Age=0" in ended.headers["set-cookie"]
    browser.cookie = kept
    answer = await browser("GET", "/v1/models")
    assert (answer.status, answer.error["code"]) == (401, "session_ended")
    assert (await browser("GET", "/ui/session")).json() == {"role": None}
    assert (await browser("DELETE", "/ui/session")).json() == {"role": None}


async def test_https_is_noticed_behind_a_proxy(browser: Browser) -> None:
    answer = await browser(
        "POST", "/ui/session", {"key": browser.call.key}, x_forwarded_proto="https", origin="https://test"
    )
    assert answer.status == 200
    assert answer.headers["set-cookie"].endswith("; Secure")


async def test_a_key_sees_its_own_and_no_more(browser: Browser, desk: Bureau, caller_of: Any) -> None:
    text = await desk.key(name="ann")
    other = await desk.key("k2")
    session = (await browser.log_in(key=text)).json()
    assert (session["role"], session["id"], session["name"], session["prefix"]) == ("key", "k1", "ann", text[:16])
    mine = await browser("POST", "/v1/chat/completions", CHAT)
    assert mine.status == 200
    theirs = await caller_of(desk.app)(
        "POST", "/v1/chat/completions", CHAT, headers={"authorization": f"Bearer {other}"}
    )
    assert theirs.status == 200
    await desk.settled()
    for path in ("/v1/models", "/v1/models/echo", "/v1/models/echo/endpoints", "/status", "/key", "/credits"):
        assert (await browser("GET", path)).status == 200, path
    queries = (await browser("GET", "/queries")).json()
    assert mine.json()["id"] in str(queries)
    assert theirs.json()["id"] not in str(queries)
    activity = (await browser("GET", "/activity")).json()["data"]
    assert sum(day["requests"] for day in activity) == 1
    for answer, status in ((mine, 200), (theirs, 404)):
        found = await browser.call(
            "GET",
            "/generation",
            query=f"id={answer.json()['id']}",
            headers={"authorization": "", "cookie": browser.cookie},
        )
        assert found.status == status
    for method, path in (
        ("GET", "/admin/v1/keys"),
        ("POST", "/admin/v1/keys"),
        ("GET", "/admin/v1/recommendations"),
        ("GET", "/admin/v1/anything"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("POST", "/admin/v1/sync"),
    ):
        assert (await browser(method, path, {})).status == 403, path


@pytest.mark.parametrize("end", ["disable", "rotate", "delete", "expire", "project"])
async def test_a_session_ends_with_its_key(browser: Browser, desk: Bureau, clock: Clock, end: str) -> None:
    admin = {"authorization": f"Bearer {browser.call.key}"}
    project = (await browser.call("POST", "/admin/v1/projects", {"name": "p"}, headers=admin)).json()["id"]
    expires = datetime.fromtimestamp(NOW_S + 600, UTC).isoformat()
    made = await browser.call("POST", "/admin/v1/keys", {"project": project, "expires_at": expires}, headers=admin)
    key = made.json()
    session = (await browser.log_in(key=key["key"])).json()
    assert datetime.fromisoformat(session["expires_at"]).timestamp() == NOW_S + 600
    assert (await browser("GET", "/v1/models")).status == 200
    path = f"/admin/v1/keys/{key['id']}"
    match end:
        case "disable":
            await browser.call("PATCH", path, {"disabled": True}, headers=admin)
        case "project":
            await browser.call("PATCH", f"/admin/v1/projects/{project}", {"disabled": True}, headers=admin)
        case "rotate":
            await browser.call("POST", f"{path}/rotate", {"grace_s": 300}, headers=admin)
        case "delete":
            await browser.call("DELETE", path, headers=admin)
        case "expire":
            clock.now_s += 600
    await desk.office.accounts._keyring.poll()
    answer = await browser("GET", "/v1/models")
    assert (answer.status, answer.error["code"]) == (401, "session_ended")
    if end == "rotate":
        # The old text itself is good for a while yet, but begins no session.
        still = await browser.call("GET", "/v1/models", headers={"authorization": f"Bearer {key['key']}"})
        assert still.status == 200
        assert (await browser.log_in(key=key["key"])).status == 401


async def test_sessions_end_by_time_and_with_the_admin_key(
    browser: Browser, desk: Bureau, config: Any, clock: Clock, caller_of: Any
) -> None:
    text = await desk.key()
    await browser.log_in(key=browser.call.key)
    of_key = Browser(browser.call)
    await of_key.log_in(key=text)
    elsewhere = caller_of(create_app(config, [EchoProvider()], office=desk.office, clock=clock))
    changed = structs.replace(config, admin_key="another-key-0123456789abcdef")
    renewed = caller_of(create_app(changed, [EchoProvider()], office=desk.office, clock=clock))
    for call, status, key_status in ((elsewhere, 200, 200), (renewed, 401, 200)):
        browser.call = of_key.call = call
        assert (await browser("GET", "/v1/models")).status == status
        assert (await of_key("GET", "/v1/models")).status == key_status
    clock.now_s += LIFE_S
    browser.call = of_key.call = elsewhere
    for each in (browser, of_key):
        assert (await each("GET", "/v1/models")).error["code"] == "session_ended"


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_pages_of_others_get_nothing(browser: Browser, headers: dict[str, str]) -> None:
    await browser.log_in(key=browser.call.key)
    csrf, browser.csrf = browser.csrf, ""
    sent = {"origin": "", **headers}
    for method, path, value in (
        ("GET", "/v1/models", None),
        ("GET", "/admin/v1/keys", None),
        ("HEAD", "/v1/models", None),
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/admin/v1/keys", {"name": "theirs"}),
        ("DELETE", "/ui/session", None),
        ("POST", "/ui/session", {"key": browser.call.key}),
    ):
        for token in ("", csrf):
            answer = await browser(method, path, value, x_hodios_csrf=token, **sent)
            assert (answer.status, "set-cookie" in answer.headers) == (403, False), path
    assert (await browser("GET", "/ui/session", **sent)).json() == {"role": None}
    assert (await browser("GET", "/admin/v1/keys")).json()["data"] == []
    # With a key of its own it is a client like any other.
    answer = await browser("GET", "/v1/models", authorization=f"Bearer {browser.call.key}", **sent)
    assert answer.status == 200


@pytest.mark.parametrize("headers", [{"origin": ""}, {"origin": "http://TEST"}, {"sec-fetch-site": "same-origin"}])
async def test_own_pages_and_addresses_typed_by_hand_come_in(browser: Browser, headers: dict[str, str]) -> None:
    await browser.log_in(key=browser.call.key)
    assert (await browser("GET", "/v1/models", **headers)).status == 200
    assert (await browser("POST", "/v1/chat/completions", CHAT, **headers)).status == 200


async def test_changes_need_the_token_of_this_very_session(browser: Browser) -> None:
    await browser.log_in(key=browser.call.key)
    mine, kept = browser.csrf, browser.cookie
    other = (await browser.log_in(key=browser.call.key)).json()["csrf"]
    assert other != mine
    browser.cookie = kept
    for token in ("", other, mine[:-1], mine + "0", "\xff"):
        browser.csrf = token
        assert (await browser("POST", "/v1/chat/completions", CHAT)).status == 403
        assert (await browser("DELETE", "/ui/session")).status == 403
        assert (await browser("GET", "/v1/models")).status == 200
    browser.csrf = mine
    assert (await browser("POST", "/v1/chat/completions", CHAT)).status == 200


async def test_a_key_wins_over_a_cookie(browser: Browser, desk: Bureau) -> None:
    text = await desk.key()
    await browser.log_in(key=browser.call.key)
    assert (await browser("GET", "/key", authorization=f"Bearer {text}")).json()["data"]["id"] == "k1"
    answer = await browser("GET", "/v1/models", authorization="Bearer nonsense")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


async def test_no_token_but_ours_is_one(browser: Browser, desk: Bureau) -> None:
    text = await desk.key()
    await browser.log_in(key=text)
    name, _, token = browser.cookie.partition("; ")[2].partition("=")
    forged = TokenSigner(b"guess", "guess").token(Pass(b"", int(NOW_S) + 60, "x"))
    bad = ["", "x", "=", "%", forged, "A" * 5000, token[:-4], token[4:], "\xff", token.swapcase()]
    for each in [*bad, *(token[:place] + "A" + token[place + 1 :] for place in range(0, len(token) - 1, 7))]:
        if each == token:
            continue
        browser.cookie = f"{name}={each}"
        answer = await browser("GET", "/v1/models")
        assert (answer.status, answer.error["code"]) == (401, "session_ended"), each
    browser.cookie = f"x{name}={token}"
    assert (await browser("GET", "/v1/models")).error["code"] == "invalid_api_key"


async def test_a_link_is_good_once(browser: Browser, clock: Clock, config: Any, desk: Bureau, caller_of: Any) -> None:
    key = browser.call.key
    code = login_codes.mint(key, clock.now_s)
    assert key not in code
    assert (await browser.log_in(code=code)).json()["role"] == "admin"
    assert (await browser("GET", "/admin/v1/keys")).status == 200
    again = Browser(caller_of(create_app(config, [EchoProvider()], office=desk.office, clock=clock)))
    answer = await again.log_in(code=code)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "used already" in answer.error["message"]
    late = login_codes.mint(key, clock.now_s)
    clock.now_s += login_codes.LIFE_S
    assert "10 minutes" in (await browser.log_in(code=late)).error["message"]
    for bad in (login_codes.mint("another", clock.now_s), "x", "1.2.3", ".", code + "0", "\u00e9", "9" * 3000):
        assert (await browser.log_in(code=bad)).status in (401, 429), bad


async def test_of_many_who_come_with_one_link_one_gets_in(browser: Browser, clock: Clock) -> None:
    code = login_codes.mint(browser.call.key, clock.now_s)
    answers = await asyncio.gather(*(browser.log_in(code=code) for _ in range(FROM_ONE - 1)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * (FROM_ONE - 2)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"key": 1}', b'{"key": "a", "code": "b"}', b'{"key": ""}', b"{"])
async def test_other_bodies_are_refused_without_being_repeated(browser: Browser, body: bytes) -> None:
    answer = await browser.call("POST", "/ui/session", body=body, headers={"authorization": ""})
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")
    assert (await browser.call("POST", "/ui/session", body=b" " * 5000)).status == 413


async def test_guessing_is_slow(browser: Browser, clock: Clock) -> None:
    for _ in range(FROM_ONE):
        assert (await browser.log_in(key="sk-hodios-guess")).status == 401
    answer = await browser.log_in(key=browser.call.key)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    wait_s = int(answer.headers["retry-after"])
    assert 0 < wait_s <= 60
    clock.now_s += wait_s
    for _ in range(3 * FROM_ONE):
        assert (await browser.log_in(key=browser.call.key)).status == 200, "who is right is not slowed down"


def test_guesses_are_counted_by_network_and_in_all() -> None:
    now_s = 0.0
    guesses = Guesses(lambda: now_s)
    for number in range(FROM_ONE):
        guesses.count(f"2001:db8::{number}")
    with pytest.raises(RateLimited):
        guesses.count("2001:db8::ffff")
    for number in range(FROM_ALL - FROM_ONE):
        guesses.count(f"10.0.0.{number}")
    with pytest.raises(RateLimited) as caught:
        guesses.count("192.0.2.1")
    assert caught.value.retry_after == 1
    now_s = 60.0
    guesses.count("192.0.2.1")
    assert network_of("::ffff:192.0.2.1") != network_of("::ffff:192.0.2.2")
    assert network_of("2001:db8::1") == network_of("2001:db8::2") != network_of("2001:db8:0:1::1")
    assert network_of("") == ""


def test_marks_outlive_processes_and_are_removed_when_they_do_not_matter(tmp_path: Path) -> None:
    clock = Clock()
    folder = tmp_path / "web"
    marks = Marks(folder, clock)
    assert not marks.has("a", int(NOW_S) + 10)
    assert marks.set("a", int(NOW_S) + 10)
    assert not Marks(folder, clock).set("a", int(NOW_S) + 10)
    assert Marks(folder, clock).has("a", int(NOW_S) + 10)
    (folder / "notes").touch()
    clock.now_s += 11
    assert marks.set("b", int(clock.now_s) + 10)
    assert sorted(path.name for path in folder.iterdir()) == [f"{int(clock.now_s) + 10}-b", "notes"]
    (tmp_path / "file").touch()
    with pytest.raises(Overloaded, match="cannot be written"):
        Marks(tmp_path / "file", clock).set("a", 1)


async def test_without_accounts_and_keys_nobody_logs_in(config: Any, caller_of: Any) -> None:
    browser = Browser(caller_of(create_app(structs.replace(config, admin_key=None), [EchoProvider()])))
    for values in ({"key": "None"}, {"code": login_codes.mint("None", NOW_S)}):
        assert (await browser.log_in(**values)).status == 401
    operators = TokenSigner(b"", None)
    assert operators.read(TokenSigner(b"", "key").token(Pass(b"", int(NOW_S) + 60, "x")), NOW_S) is None
    browser = Browser(caller_of(create_app(config, [EchoProvider()])))
    assert (await browser.log_in(key="sk-hodios-x")).status == 401
    assert (await browser.log_in(key=browser.call.key)).status == 200
    with pytest.raises(AuthenticationError):
        login_codes.read("", "key", NOW_S)
