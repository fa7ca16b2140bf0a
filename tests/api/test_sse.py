"""Silence, slowness and leaving: what happens around the chunks of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hodios.errors import Overloaded
from hodios.events import Finish, Started, Stopped, Text, Usage

STARTED = Started("scripted", "maker/model", "fp_0123456789ab", 3)
FINISH = Finish(usage=Usage(prompt_tokens=3, completion_tokens=1))
BODY = {"model": "model", "prompt": "x", "stream": True}


class Pause:
    """A step of a script that waits until it is let go on."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __call__(self) -> None:
        self.is_reached.set()
        await self.may_go_on.wait()


class Sent(list[dict[str, Any]]):
    """What was sent so far; `until` waits for more."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def append(self, message: dict[str, Any]) -> None:
        super().append(message)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 10)


def comments(sent: list[dict[str, Any]]) -> int:
    return sum(message.get("body") == b": hodios\n\n" for message in sent)


async def test_headers_wait_for_the_first_event(scripted: Any) -> None:
    pause, second = Pause(), Pause()
    call, _ = scripted(pause, STARTED, second, Text(0, "x"), Stopped(0, "stop"), FINISH)
    sent = Sent()
    task = asyncio.create_task(call("POST", "/v1/completions", BODY, sent=sent))
    await pause.is_reached.wait()
    assert sent == []
    pause.may_go_on.set()
    await second.is_reached.wait()
    assert [message["type"] for message in sent] == ["http.response.start"]
    second.may_go_on.set()
    assert (await task).data()[-1] == "[DONE]"


async def test_silence_brings_headers_and_comments(scripted: Any) -> None:
    pause, later = Pause(), Pause()
    script = (pause, STARTED, Text(0, "x"), later, Stopped(0, "stop"), FINISH)
    call, _ = scripted(*script, first_event_timeout_s=0.005)
    sent = Sent()
    task = asyncio.create_task(call("POST", "/v1/completions", BODY, sent=sent))
    await sent.until(lambda: comments(sent) >= 3)
    assert sent[0]["status"] == 200
    pause.may_go_on.set()
    await later.is_reached.wait()
    before = comments(sent)
    await sent.until(lambda: comments(sent) > before)
    later.may_go_on.set()
    answer = await task
    assert [chunk["choices"][0]["text"] for chunk in answer.chunks()] == ["x", ""]
    assert answer.headers["x-hodios-provider"] == "scripted"


async def test_a_failure_after_silence_is_an_event(scripted: Any) -> None:
    pause = Pause()
    call, _ = scripted(pause, Overloaded("full", retry_after=1), first_event_timeout_s=0.005)
    sent = Sent()
    task = asyncio.create_task(call("POST", "/v1/completions", BODY, sent=sent))
    await sent.until(lambda: comments(sent) >= 1)
    pause.may_go_on.set()
    (chunk,) = (await task).chunks()
    assert chunk["error"]["code"] == "overloaded"
    assert chunk["choices"] == [{"index": 0, "text": "", "finish_reason": "error"}]


async def test_a_bug_in_the_middle_of_a_stream_shows_a_request_id_only(scripted: Any) -> None:
    call, provider = scripted(STARTED, Text(0, "x"), ZeroDivisionError("secret"))
    answer = await call("POST", "/v1/completions", BODY, headers={"x-request-id": "my-id"})
    error = answer.chunks()[-1]["error"]
    assert (error["type"], error["code"]) == ("internal_error", "internal_error")
    assert "my-id" in error["message"]
    assert b"secret" not in answer.body
    assert provider.num_open == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_client_that_leaves_stops_the_provider(scripted: Any, stream: bool, is_early: bool) -> None:
    pause = Pause()
    script = (pause,) if is_early else (STARTED, Text(0, "x", completion_tokens=7), pause)
    call, provider = scripted(*script)
    leave = asyncio.Event()
    sent = Sent()
    task = asyncio.create_task(call("POST", "/v1/completions", {**BODY, "stream": stream}, leave=leave, sent=sent))
    await pause.is_reached.wait()
    assert provider.num_open == 1
    num_sent = len(sent)
    leave.set()
    await asyncio.wait([task])
    assert provider.num_open == 0
    assert len(sent) == num_sent
    metrics = (await call("GET", "/metrics")).body.decode()
    assert 'hodios_requests_total{route="completions",status="499"} 1.0' in metrics
    assert "hodios_requests_in_progress 1.0" in metrics
    if not is_early:
        assert 'kind="completion",model="maker/model",provider="scripted"} 7.0' in metrics


async def test_a_client_that_leaves_during_the_body_is_forgotten(scripted: Any) -> None:
    call, provider = scripted(STARTED)
    leave = asyncio.Event()
    leave.set()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "root_path": ""},
        "headers": [(b"authorization", f"Bearer {call.key}".encode())],
    }
    await call.app(scope, receive, send)
    assert sent == []
    assert provider.requests == []


async def test_a_cancelled_task_stays_cancelled(scripted: Any) -> None:
    """The server's own shutdown is not mistaken for a client that left."""
    pause = Pause()
    call, provider = scripted(STARTED, pause)
    task = asyncio.create_task(call("POST", "/v1/completions", BODY))
    await pause.is_reached.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert provider.num_open == 0
    assert 'route="completions",status="503"} 1.0' in (await call("GET", "/metrics")).body.decode()


async def test_leaving_after_the_end_is_no_leaving(scripted: Any) -> None:
    leave = asyncio.Event()
    call, _ = scripted(STARTED, Stopped(0, "stop"), FINISH)

    class Leaving(list[Any]):
        def append(self, message: Any) -> None:
            super().append(message)
            if message.get("more_body") is False:
                leave.set()

    await call("POST", "/v1/completions", BODY, leave=leave, sent=Leaving())
    assert 'status="499"' not in (await call("GET", "/metrics")).body.decode()
