"""Nothing that a client sends makes a 500 or stops the engine, and every bad value is named."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from hostile import BAD_CHAT, BAD_COMPLETION, BAD_VALUES, EXTREMES, Body, grammar_bodies, random_body
from live_server import MODEL, PATIENCE_S, LiveServer, stream_events

AT_ONCE = 8
CHAT: Body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
COMPLETION: Body = {"model": MODEL, "prompt": "Hi", "max_tokens": 3}


@pytest.fixture(autouse=True)
def _engine_is_unharmed(live_server: LiveServer) -> Iterator[None]:
    pid = live_server.engine_pid
    yield
    live_server.settled()
    assert live_server.engine_pid == pid
    assert live_server.model_health()["restarts"] == 0


@pytest.fixture
async def http(live_server: LiveServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=live_server.url, headers=live_server.headers, timeout=PATIENCE_S) as client:
        yield client


async def post(http: httpx2.AsyncClient, path: str, body: Body) -> httpx2.Response:
    return await http.post(path, content=json.dumps(body).encode())


async def all_of(http: httpx2.AsyncClient, asked: list[tuple[str, Body]]) -> list[httpx2.Response]:
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(path: str, body: Body) -> httpx2.Response:
        async with places:
            return await post(http, path, body)

    return await asyncio.gather(*(ask(path, body) for path, body in asked))


def check(body: Body, answer: httpx2.Response, statuses: tuple[int, ...] = (200, 400)) -> None:
    shown = f"{json.dumps(body)[:300]} → {answer.status_code} {answer.text[:300]}"
    assert answer.status_code in statuses, shown
    if answer.headers["content-type"].startswith("text/event-stream"):
        errors = [event for event in stream_events(answer.text) if "error" in event]
        assert all(event["error"]["type"] == "invalid_request_error" for event in errors), shown
    elif answer.status_code != 200:
        error = answer.json()["error"]
        assert list(error)[:4] == ["message", "type", "param", "code"], shown
        assert error["type"] == "invalid_request_error", shown
        assert len(answer.text) < 5000, shown


async def test_bad_values_are_named(http: httpx2.AsyncClient) -> None:
    asked = [("/v1/chat/completions", name, {**CHAT, name: value}) for name, value in BAD_VALUES + BAD_CHAT]
    asked += [("/v1/completions", name, {**COMPLETION, name: value}) for name, value in BAD_VALUES + BAD_COMPLETION]
    answers = await all_of(http, [(path, body) for path, _, body in asked])
    for (_, name, body), answer in zip(asked, answers, strict=True):
        if name == "model" and answer.status_code == 404:
            continue
        check(body, answer, statuses=(400,))
        error = answer.json()["error"]
        assert error["param"].partition("[")[0].partition(".")[0] == name, (body, error)
        assert name in error["message"], (body, error)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v3/openai/completions", "/tokenize", "/detokenize"])
async def test_unknown_parameters_are_reported(http: httpx2.AsyncClient, path: str) -> None:
    sound: dict[str, Any] = {"tokens": [1, 2]} if path == "/detokenize" else {"prompt": "Hi"}
    sound = {"/v1/chat/completions": CHAT, "/v3/openai/completions": COMPLETION}.get(path, sound)
    body = {**sound, "temprature": 1, "ünknown\r\nx-evil: 1": [1], "grammar": {"a": 1}}
    answer = await post(http, path, body)
    assert answer.status_code == 200, answer.text
    warnings = answer.json()["warnings"]
    assert [warning["param"] for warning in warnings] == ["temprature", "?nknown??x-evil??1", "grammar"]
    assert {warning["code"] for warning in warnings} == {"unknown_parameter"}
    assert answer.headers["x-hodios-ignored"] == "temprature, ?nknown??x-evil??1, grammar"
    assert "x-evil" not in answer.headers
    refused = await post(http, path, {**body, "strict": True})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "temprature"
    assert refused.json()["error"]["code"] == "unsupported_parameter"


async def test_grammars_that_mean_harm(http: httpx2.AsyncClient) -> None:
    asked = [("/v1/completions", {**COMPLETION, **body}) for body in grammar_bodies()]
    for (_, body), answer in zip(asked, await all_of(http, asked), strict=True):
        check(body, answer)
        if answer.status_code == 400:
            assert answer.json()["error"]["param"].startswith("response_format")


async def test_extremes(http: httpx2.AsyncClient) -> None:
    asked = [("/v1/completions", {**COMPLETION, **body}) for body in EXTREMES]
    for (_, body), answer in zip(asked, await all_of(http, asked), strict=True):
        check(body, answer, statuses=(200,))


async def test_random_requests(http: httpx2.AsyncClient) -> None:
    rng = random.Random(20)
    asked = []
    for _ in range(60):
        body = random_body(rng)
        if rng.random() < 0.5:
            asked.append(("/completions", {**COMPLETION, **body}))
        else:
            text = body.pop("prompt")
            body["logprobs"] = "logprobs" in body and rng.random() < 0.8
            asked.append(
                ("/v1/openai/chat/completions", {**CHAT, "messages": [{"role": "user", "content": text}], **body})
            )
    answers = await all_of(http, asked)
    for (_, body), answer in zip(asked, answers, strict=True):
        check(body, answer)
    assert sum(answer.status_code == 200 for answer in answers) > 20


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"\0" * 100, b'{"model": NaN}', b"[" * 100_000),
        *(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"model": "x", "prompt": "\\ud800"}', b'{"n": 1e999}'),
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_bodies_that_are_no_json(http: httpx2.AsyncClient, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        check({}, await http.post(path, content=body), statuses=(400,))
