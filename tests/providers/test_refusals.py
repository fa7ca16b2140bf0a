"""Refusals of other servers become errors of ours, and nothing in them gives a key away."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_upstream import CUT, KEY, MODEL, Reply, ScriptedUpstream, ask, chat, document

from hodios.errors import ContextLengthExceeded, HodiosError, InvalidRequest, Overloaded, ProviderError
from hodios.providers.refusals import Judge, wait_s
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Provide = Callable[..., Any]


def refused(status: int, body: Any, retry_after: str | None = None) -> HodiosError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Judge("acme", KEY).refusal(status, raw, retry_after=retry_after, now=NOW)


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (401, {"error": {"message": "bad key"}}, ProviderError, "acme answered with status 401: bad key"),
        (403, {"error": {"message": "no"}}, ProviderError, "acme answered with status 403: no"),
        (402, {"error": {"message": "no credit"}}, ProviderError, "acme answered with status 402: no credit"),
        (404, {"error": {"message": "no model"}}, ProviderError, "acme answered with status 404: no model"),
        (400, {"error": {"message": "too hot"}}, InvalidRequest, "acme refused the request: too hot"),
        (422, {"detail": [{"msg": "bad"}]}, InvalidRequest, 'acme refused the request: [{"msg":"bad"}]'),
        (413, "too large", InvalidRequest, "acme refused the request: too large"),
        (400, {"error": {"message": "API key not valid"}}, ProviderError, "acme answered with status 400: API key not"),
        (400, {"message": "maximum context length is 8"}, ContextLengthExceeded, "maximum context length is 8"),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, ContextLengthExceeded, "x"),
        (429, {"error": "slow down"}, Overloaded, "acme answered with status 429: slow down"),
        (500, b"<html><h1>Oops</h1></html>", ProviderError, "acme answered with status 500: Oops"),
        (502, b"", ProviderError, "acme answered with status 502: it gave no reason"),
        (503, {"error": {}}, ProviderError, "acme answered with status 503: it gave no reason"),
        (504, b"\xff\xfe", ProviderError, "acme answered with status 504"),
        (302, b"", ProviderError, "acme answered with status 302"),
        (400, [{"error": {"message": "in a list"}}], InvalidRequest, "in a list"),
        (400, {"error": {"message": {"deep": 1}}}, InvalidRequest, '{"deep":1}'),
    ],
)
def test_refusals(status: int, body: Any, kind: type[HodiosError], told: str) -> None:
    error = refused(status, body)
    assert type(error) is kind
    assert told in error.message
    assert error.metadata is not None
    assert (error.metadata["provider"], error.metadata["status"]) == ("acme", status)


def test_the_parameter_at_fault_is_named() -> None:
    assert refused(400, {"error": {"message": "x", "param": "top_p"}}).param == "top_p"


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7), ("0", 1), ("2.1", 3), ("99999", 3600), (None, None), ("", None), ("soon", None), ("-5", None),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30), ("Fri, 02 Jan 2026 03:00:00 GMT", 1), ("9" * 400, None),
        ("Fri, 02 Jan 2026 03:04:35", 30),
    ],
)  # fmt: skip
def test_how_long_to_wait(retry_after: str | None, seconds: int | None) -> None:
    assert wait_s(retry_after, NOW) == seconds


def test_overload_says_how_long() -> None:
    assert refused(429, b"", "30").retry_after == 30
    assert refused(429, b"").retry_after == 1
    assert type(refused(503, b"", "30")) is Overloaded


def test_errors_midway() -> None:
    judge = Judge("acme", None)
    assert type(judge.told_midway({"message": "x", "code": 429})) is Overloaded
    assert type(judge.told_midway({"message": "x", "code": "400"})) is InvalidRequest
    assert type(judge.told_midway("x")) is ProviderError
    assert type(judge.told_midway({"message": "x", "code": "server_error"})) is ProviderError
    assert type(judge.told_midway({"message": "x", "code": True})) is ProviderError


SECRETS = [
    f"Incorrect API key provided: {KEY}.",
    f"Incorrect API key provided: {KEY[:12]}***{KEY[-4:]}.",
    f"the header was Authorization: Bearer {KEY}",
    f"key={KEY[4:-2]}",
    f"https://user:{KEY}@host/",
    "token: abc123def456",
    "Bearer eyJhbGciOi.J9",
    "your key sk-or-v1-0123456789abcdef was refused",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_removed(text: str) -> None:
    for body in ({"error": {"message": text, "param": text}}, {"error": text}, text.encode()):
        for status in (400, 401, 429, 500):
            error = refused(status, body)
            shown = f"{error.message} {error.param} {error.metadata}"
            assert "(removed)" in shown
            for at in range(len(KEY) - 8):
                assert KEY[at : at + 8] not in shown
            assert "abc123def456" not in shown
            assert "eyJhbGciOi" not in shown
            assert "0123456789abcdef" not in shown


@given(st.binary(max_size=200), st.integers(300, 599))
def test_whatever_a_server_says_is_an_error_of_ours(body: bytes, status: int) -> None:
    error = refused(status, body)
    assert error.message.isprintable()
    assert len(error.message) < 1200


async def test_refusals_over_http(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide()
    upstream.replies = [
        document({"error": {"message": f"bad key {KEY}"}}, 401),
        document({"error": {"message": "busy"}}, 429, **{"Retry-After": "9"}),
        document({"error": {"message": "too hot", "param": "temperature"}}, 400),
        Reply([b"x" * 500_000], 500, content_type="text/plain"),
        Reply([], 307, {"Location": "https://elsewhere.example/"}),
        Reply([b"half", CUT], 500, {"Content-Length": "100"}, "application/json"),
    ]
    statuses = []
    for _ in range(6):
        with pytest.raises(HodiosError) as caught:
            await ask(gateway, chat())
        statuses.append(caught.value.status)
    assert statuses == [502, 503, 400, 502, 502, 502]
    assert len(upstream.asked) == 6


@pytest.mark.parametrize("how", ["refused", "cut", "too short", "nobody"])
async def test_the_key_shows_nowhere(
    upstream: ScriptedUpstream, how: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.replies = {
        "refused": [document({"error": {"message": f"Bearer {KEY}"}}, 401)],
        "cut": [Reply([b"data: {", CUT])],
        "too short": [Reply([], 200, {"Content-Length": "7"})],
        "nobody": [],
    }[how]
    url = "http://127.0.0.1:1" if how == "nobody" else upstream.url
    row = RemoteModel(id=MODEL, context_length=9)
    remote = Remote(name="acme", base_url=url, models=(row,), first_byte_timeout_s=0.2)
    provider = RemoteProvider(remote, KEY)
    await provider.start()
    with pytest.raises(HodiosError) as caught:
        async for _ in provider.generate(chat()):
            pass
    await provider.aclose()
    error: BaseException | None = caught.value
    shown = [caplog.text, *capfd.readouterr(), repr(provider), repr(vars(provider)), repr(remote)]
    while error is not None:
        shown += [repr(error), str(error), repr(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not [text for text in shown if KEY in text]


async def test_a_provider_that_was_not_started(upstream: ScriptedUpstream) -> None:
    remote = Remote(name="acme", base_url=upstream.url, models=(RemoteModel(id=MODEL, context_length=9),))
    provider = RemoteProvider(remote, None)
    with pytest.raises(ProviderError, match="is not connected"):
        async for _ in provider.generate(chat()):
            pass
    await provider.aclose()
    await provider.aclose()
