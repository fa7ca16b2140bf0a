"""The door: keys, CORS, errors, request ids, and what has no route."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from msgspec import structs

from hodios.api.app import create_app, new_ids
from hodios.api.routes import PREFIXES, ROUTES
from hodios.errors import ConfigError
from hodios.providers.echo import EchoProvider

CHAT = "/v1/chat/completions"
OUR_HEADERS = ("x-request-id", "x-hodios-provider", "x-hodios-attempts", "openai-processing-ms", "x-hodios-overhead-ms")


def paths(access: str) -> list[tuple[str, str]]:
    filled = [
        (r.method, path.replace("{id}", "hodios/echo")) for r in ROUTES if r.access == access for path in r.paths()
    ]
    return [(method, path.replace("{file}", "")) for method, path in filled]


@pytest.mark.parametrize(("method", "path"), [*paths("key"), ("GET", "/nothing"), ("DELETE", CHAT), ("OPTIONS", CHAT)])
async def test_everything_needs_a_key(call: Any, method: str, path: str) -> None:
    for authorization in ("", "Bearer", "Bearer ", f"Bearer {call.key}x", f"Basic {call.key}", "Bearer \xff", call.key):
        answer = await call(method, path, {}, headers={"authorization": authorization})
        assert answer.status == 401
        assert (answer.error["type"], answer.error["code"]) == ("authentication_error", "invalid_api_key")
        assert "Authorization: Bearer" in answer.error["message"]
        assert answer.headers["www-authenticate"] == "Bearer"
        assert call.key not in answer.body.decode()


@pytest.mark.parametrize(("method", "path"), paths("public"))
async def test_what_is_public_needs_none(call: Any, method: str, path: str) -> None:
    assert (await call(method, path, headers={"authorization": ""})).status in (200, 307, 400)


async def test_the_scheme_may_be_in_any_case(call: Any) -> None:
    assert (await call("GET", "/v1/models", headers={"authorization": f"bearer  {call.key} "})).status == 200


async def test_without_an_admin_key_nobody_comes_in(call: Any, config: Any) -> None:
    call.app = create_app(structs.replace(config, admin_key=None), [EchoProvider()])
    for authorization in ("", "Bearer None", "Bearer "):
        assert (await call("GET", "/v1/models", headers={"authorization": authorization})).status == 401


NO_KEY = {"authorization": "", "host": "127.0.0.1:8000"}


async def test_metrics_can_be_opened(call: Any, config: Any) -> None:
    assert (await call("GET", "/metrics", headers=NO_KEY)).status == 401
    call.app = create_app(structs.replace(config, metrics_public=True), [EchoProvider()])
    assert (await call("GET", "/metrics", headers=NO_KEY)).status == 200
    assert (await call("GET", "/health", headers=NO_KEY)).status == 401


@pytest.mark.parametrize("path", ["/metrics", "/status"])
async def test_what_is_open_on_loopback_is_open_to_no_page_of_others(call: Any, config: Any, path: str) -> None:
    """A browser that was told that evil.example is at 127.0.0.1 takes the answer for evil.example's own."""
    opened = structs.replace(config, metrics_public=True, status_public=True)
    call.app = create_app(opened, [EchoProvider()])
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "127.9.9.9:1"):
        assert (await call("GET", path, headers={**NO_KEY, "host": host})).status == 200, host
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"):
        assert (await call("GET", path, headers={**NO_KEY, "host": host})).status == 401, host
        assert (await call("GET", path, headers={"host": host})).status == 200, host
    call.app = create_app(structs.replace(opened, host="0.0.0.0"), [EchoProvider()])
    assert (await call("GET", path, headers={**NO_KEY, "host": "metrics.example"})).status == 200


LOOPBACK = [
    "http://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:8443",
    "http://[::1]:5173",
    "https://a.example",
]
FOREIGN = [
    *("https://b.example", "http://localhost.b.example", "http://127.0.0.1.b.example", "null", "http://127.0.0.2"),
    *("https://a.example.b.example", "http://localhost:", "file://localhost", "http://localhost:3000/", "\xff"),
]


@pytest.mark.parametrize("origin", LOOPBACK)
async def test_allowed_origins_may_read_everything(call: Any, origin: str) -> None:
    for key, status in ((call.key, 200), ("wrong", 401)):
        headers = {"origin": origin, "authorization": f"Bearer {key}"}
        answer = await call("GET", "/v1/models", headers=headers)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
        exposed = answer.headers["access-control-expose-headers"]
        assert all(name in exposed for name in (*OUR_HEADERS, "x-hodios-ignored", "retry-after"))
    assert (await call("GET", "/nothing", headers={"origin": origin})).headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", FOREIGN)
async def test_other_origins_may_not(call: Any, origin: str) -> None:
    answer = await call("GET", "/v1/models", headers={"origin": origin})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"
    preflight = {"origin": origin, "access-control-request-method": "POST", "authorization": ""}
    answer = await call("OPTIONS", CHAT, headers=preflight)
    assert answer.status == 403
    assert answer.error["type"] == "permission_error"
    assert "access-control-allow-origin" not in answer.headers


async def test_a_preflight_needs_no_key(call: Any) -> None:
    wanted = "authorization, content-type, x-stainless-os"
    headers = {
        **{"origin": "http://localhost:3000", "authorization": "", "access-control-request-method": "POST"},
        "access-control-request-headers": wanted,
    }
    answer = await call("OPTIONS", CHAT, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-headers"] == wanted
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PATCH, DELETE, OPTIONS"
    assert "content-length" not in answer.headers
    odd = await call("OPTIONS", CHAT, headers={**headers, "access-control-request-headers": "a\tb"})
    assert odd.headers["access-control-allow-headers"] == "authorization"


async def test_any_origin_where_the_operator_says_so(call: Any, config: Any) -> None:
    call.app = create_app(structs.replace(config, cors_origins=("*",)), [EchoProvider()])
    answer = await call("GET", "/v1/models", headers={"origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("POST", CHAT, 400),
        ("GET", "/nothing", 404),
        ("GET", CHAT, 405),
        ("POST", "/v1/embeddings", 501),
        ("GET", "/health/live", 200),
    ],
)
async def test_our_headers_are_on_every_answer(call: Any, method: str, path: str, status: int) -> None:
    answer = await call(method, path, {})
    assert answer.status == status
    assert all(name in answer.headers for name in OUR_HEADERS)
    assert (answer.headers["x-hodios-provider"], answer.headers["x-hodios-attempts"]) == ("none", "0")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert float(answer.headers["x-hodios-overhead-ms"]) >= 0


async def test_the_provider_is_named(call: Any) -> None:
    for answer in (await call.chat(), await call.chat(stream=True), await call.complete(prompt=[999])):
        assert answer.headers["x-hodios-provider"] == "echo"
        assert answer.headers["x-hodios-attempts"] == "1"


async def test_overhead_leaves_the_providers_time_out(config: Any, scripted: Any) -> None:
    """A clock that jumps while the provider is asked: its time shows in one header and not in the other."""
    call, provider = scripted()
    now = [0.0]

    def jump() -> Any:
        now[0] += 7.0
        return _nothing()

    provider.script = (jump,)
    call.app = create_app(config, [provider], monotonic=lambda: now[0])
    answer = await call.chat(model="model")
    assert answer.status == 502
    assert answer.headers["openai-processing-ms"] == "7000"
    assert answer.headers["x-hodios-overhead-ms"] == "0.000"


async def _nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("é", False),
        ("a\tb", False),
        ("", False),
    ],
)
async def test_a_sane_request_id_is_kept(call: Any, given: str, is_taken: bool) -> None:
    answer = await call("GET", "/v1/models", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) == is_taken
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/", "/v1/models/", "/v2/models", "//v1/models", "/v1/health", "/admin/v1/none"]
)
async def test_unknown_routes_are_404(call: Any, path: str) -> None:
    answer = await call("GET", path)
    assert answer.status == 404
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET", "HEAD", "X"])
async def test_other_methods_are_405(call: Any, method: str) -> None:
    answer = await call(method, CHAT)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert answer.error["code"] == "method_not_allowed"
    assert (await call("POST", "/v1/models")).headers["allow"] == "GET, HEAD"


async def test_head_is_get_without_a_body(call: Any) -> None:
    got, head = await call("GET", "/v1/models"), await call("HEAD", "/v1/models")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_a_bug_is_a_500_with_a_request_id_and_nothing_else(scripted: Any, caplog: Any) -> None:
    call, provider = scripted(ZeroDivisionError("secret"))
    with caplog.at_level(logging.ERROR):
        answer = await call(
            "POST", "/v1/completions", {"model": "model", "prompt": "x"}, headers={"x-request-id": "my-id"}
        )
    assert answer.status == 500
    assert answer.error["code"] == "internal_error"
    assert "my-id" in answer.error["message"]
    assert b"secret" not in answer.body
    assert "secret" in caplog.text
    assert "my-id" in caplog.text
    assert provider.num_open == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
async def test_bodies_have_a_limit(call: Any, path: str) -> None:
    declared = await call("POST", path, body=b"{}", headers={"content-length": "65537"})
    whole = await call("POST", path, body=b" " * 65537)
    in_parts = await call("POST", path, body=[b" " * 40000] * 3)
    for answer in (declared, whole, in_parts):
        assert answer.status == 413
        assert (answer.error["code"], answer.headers["connection"]) == ("request_too_large", "close")
        assert "65536" in answer.error["message"]


async def test_a_body_may_come_in_parts_and_under_any_type(call: Any) -> None:
    body = b'{"model":"echo","prompt":"x"}'
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = await call("POST", "/v1/completions", body=[body[:9], b"", body[9:]], headers=headers)
        assert answer.json()["choices"][0]["text"] == "x"


async def test_providers_start_and_end_with_the_app(scripted: Any) -> None:
    call, provider = scripted()
    async with call.app.router.lifespan_context(call.app):
        assert provider.log == ["start"]
    assert provider.log == ["start", "aclose"]


async def test_a_provider_that_cannot_start_is_closed_too(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call, provider = scripted()

    async def fail() -> None:
        raise ConfigError("no")

    monkeypatch.setattr(provider, "start", fail)
    with pytest.raises(ConfigError):
        async with call.app.router.lifespan_context(call.app):
            pass
    assert provider.log == ["aclose"]


def test_every_prefix_is_in_the_table() -> None:
    assert set(PREFIXES) == {"/v1", "/v3/openai", "/v1/openai", ""}


def test_new_ids_come_after_those_that_there_are_and_none_comes_twice() -> None:
    now_s = 1_763_740_800.0
    ids = new_ids(lambda: now_s)
    some = [next(ids) for _ in range(128)]
    now_s += 0.001
    more = [next(ids) for _ in range(500)]
    assert max(some) < min(more)
    assert len({*some, *more}) == 628
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in (*some, *more))
