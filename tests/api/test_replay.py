"""A request that comes again under its Idempotency-Key gets the same answer, and nobody is asked a second time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hodios.errors import ProviderError
from hodios.events import Finish, Started, Stopped, Text, Usage

ANSWER = (
    Started("scripted", "maker/model", "fp", 3),
    Text(0, "Hello", completion_tokens=1),
    Stopped(0, "stop"),
    Finish(Usage(prompt_tokens=3, completion_tokens=1)),
)
BODY = {"model": "model", "messages": [{"role": "user", "content": "Hi"}]}


class Pause:
    """A step of a script: says that it is reached, and lasts until it may go on."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __call__(self) -> None:
        self.is_reached.set()
        await self.may_go_on.wait()


async def ask(call: Any, name: str = "n1", value: Any = None, path: str = "/v1/chat/completions", **more: Any) -> Any:
    return await call("POST", path, BODY if value is None else value, headers={"idempotency-key": name}, **more)


async def test_the_same_answer_comes_again(scripted: Any) -> None:
    call, provider = scripted(*ANSWER)
    first, again = await ask(call), await ask(call)
    assert first.status == again.status == 200
    assert first.body == again.body
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert len(provider.requests) == 1
    assert (await ask(call, path="/chat/completions")).body == first.body, "the prefix says nothing"
    assert (await ask(call, name="n2")).body != first.body
    assert len(provider.requests) == 2


async def test_another_request_must_have_another_key(scripted: Any) -> None:
    call, provider = scripted(*ANSWER)
    await ask(call)
    other = await ask(call, value={**BODY, "max_tokens": 5})
    assert other.status == 422
    assert other.json()["error"]["type"] == "idempotency_error"
    raw = await ask(call, value={"model": "model", "prompt": "x"}, path="/v1/completions")
    assert raw.status == 422
    assert len(provider.requests) == 1


async def test_who_comes_too_early_is_told_to_wait(scripted: Any) -> None:
    pause = Pause()
    call, provider = scripted(pause, *ANSWER)
    first = asyncio.create_task(ask(call))
    await pause.is_reached.wait()
    early = await ask(call)
    assert early.status == 409
    assert early.headers["retry-after"] == "1"
    pause.may_go_on.set()
    assert (await first).status == 200
    assert (await ask(call)).body == (await first).body
    assert len(provider.requests) == 1


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_failed_may_be_asked_again(scripted: Any, is_streamed: bool) -> None:
    call, provider = scripted(ProviderError("broken"))
    value = {**BODY, "stream": is_streamed}
    assert (await ask(call, value=value)).status == 502
    provider.script = ANSWER
    assert (await ask(call, value=value)).status == 200
    assert len(provider.requests) == 2


async def test_who_left_may_ask_again(scripted: Any) -> None:
    pause = Pause()
    call, provider = scripted(pause, *ANSWER)
    leave = asyncio.Event()
    asking = asyncio.create_task(ask(call, leave=leave))
    await pause.is_reached.wait()
    leave.set()
    await asking
    provider.script = ANSWER
    assert (await ask(call)).status == 200


async def test_streams_are_not_kept_but_held_against_each_other(scripted: Any) -> None:
    pause = Pause()
    call, provider = scripted(pause, *ANSWER)
    value = {**BODY, "stream": True}
    first = asyncio.create_task(ask(call, value=value))
    await pause.is_reached.wait()
    assert (await ask(call, value=value)).status == 409
    pause.may_go_on.set()
    assert (await first).status == 200
    assert (await ask(call, value=value)).status == 200
    assert len(provider.requests) == 2


@pytest.mark.parametrize("name", ["x" * 256, "é", "a\x7fb"])
async def test_bad_keys_are_refused(scripted: Any, name: str) -> None:
    call, provider = scripted(*ANSWER)
    answer = await ask(call, name=name)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == "Idempotency-Key"
    assert provider.requests == []
