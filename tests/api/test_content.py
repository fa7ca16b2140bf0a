"""Prompts and answers are stored for keys whose policy says so, shown to them and the operator, and for nobody else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from bureau import Bureau, Scripted, bureau
from sqlalchemy import select

from hodios.api.app import create_app
from hodios.api.content import MOST_BYTES
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.errors import ProviderError
from hodios.events import Event, Finish, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.store.connection import AsyncConnection
from hodios.store.retention import Retention
from hodios.store.schema import metadata

SECRET = "only-the-owner-may-read-this"
STARTED = Started("scripted", "maker/model", "fp_0", 101, 32)
ENDING = (Stopped(0, "stop"), Finish(Usage(prompt_tokens=101, completion_tokens=7, cached_tokens=32)))
SCRIPT: tuple[Event, ...] = (
    STARTED,
    Reasoning(0, f"about {SECRET}", completion_tokens=2),
    Text(0, "said ", completion_tokens=5),
    Text(0, SECRET, completion_tokens=6),
    ToolCall(0, 0, completion_tokens=7, id="call_1", name="look", arguments='{"a": 1}'),
    Stopped(0, "tool_calls"),
    ENDING[1],
)
BODY = {"model": "model", "messages": [{"role": "user", "content": f"My secret: {SECRET}"}], "user": "ann"}
DOCUMENT = openapi_document(8)


async def generation(call: Any, id: str) -> Any:
    answer = await call("GET", "/v1/generation", query=f"id={id}")
    assert answer.status == 200, answer.body
    schema = DOCUMENT["paths"]["/v1/generation"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})
    return answer.json()["data"]["content"]


async def ask(call: Any, **values: Any) -> Any:
    return await call("POST", "/v1/chat/completions", {**BODY, **values})


async def id_of(desk: Bureau) -> str:
    return (await desk.logged())[0].request_id


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_request_and_answer_are_shown_to_the_owner_and_the_operator(
    config: Config, caller_of: Callable[..., Any], is_streamed: bool
) -> None:
    async with bureau(config, [Scripted(SCRIPT)]) as desk:
        admin, call, other = caller_of(desk.app), caller_of(desk.app), caller_of(desk.app)
        call.key, other.key = await desk.key(stores_content=True), await desk.key("k2")
        plain = (await ask(other)).json()
        await ask(call, stream=is_streamed)
        id = await id_of(desk)
        content = await generation(call, id)
        assert content["request"] == {**BODY, "stream": is_streamed}
        assert content["truncated"] == []
        told = content["answer"]
        assert (told["id"], told["object"], told["model"]) == (id, "chat.completion", "maker/model")
        assert told["choices"] == plain["choices"]
        assert told["usage"]["cost"] == plain["usage"]["cost"]
        assert list(told) == list(plain)
        assert await generation(admin, id) == content
        assert (await other("GET", "/v1/generation", query=f"id={id}")).status == 404
        await desk.settled()
        later = caller_of(create_app(config, [Scripted(SCRIPT)], office=desk.office))
        later.key = call.key
        assert await generation(later, id) == content


async def test_nothing_of_other_keys_is_stored_or_logged(
    config: Config, caller_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with bureau(config, [Scripted(SCRIPT)]) as desk:
        call, storing = caller_of(desk.app), caller_of(desk.app)
        call.key, storing.key = await desk.key(), await desk.key("k2", stores_content=True)
        with caplog.at_level(logging.DEBUG):
            for is_streamed in (False, True):
                await ask(call, stream=is_streamed)
                assert await generation(call, await id_of(desk)) is None
            await ask(call, temperature="hot")
            assert await everything(desk) == []
            await ask(storing)
            await desk.settled()
        assert await everything(desk) == ["contents"]
        for record in caplog.records:
            assert record.name.startswith("sqlalchemy") or SECRET not in record.getMessage()
        files = [path for path in config.home.rglob("*") if path.is_file() and "hodios.db" not in path.name]
        assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []


async def everything(desk: Bureau) -> list[str]:
    """Tables that the secret is in."""

    async def work(connection: AsyncConnection) -> list[str]:
        return [
            table.name
            for table in metadata.sorted_tables
            if any(SECRET in str(tuple(row)) for row in await connection.execute(select(table)))
        ]

    return await desk.database.read(work)


async def test_what_is_long_is_cut(config: Config, caller_of: Callable[..., Any]) -> None:
    long = [Text(0, "é" * 10_000, completion_tokens=n) for n in range(1, 40)]
    async with bureau(config, [Scripted((STARTED, *long, *ENDING))]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(stores_content=True)
        for is_streamed in (False, True):
            await ask(call, stream=is_streamed)
            content = await generation(call, await id_of(desk))
            assert content["truncated"] == ["answer"]
            assert content["answer"].startswith('{"id":"chat-')
            assert content["answer"].endswith("é" * 1000)
            assert MOST_BYTES - 2 <= len(content["answer"].encode()) <= MOST_BYTES


async def test_what_came_of_a_stream_that_broke_off_is_stored(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [Scripted((*SCRIPT[:3], ProviderError("it broke")))]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(stores_content=True)
        await ask(call, stream=True)
        told = (await generation(call, await id_of(desk)))["answer"]
        (choice,) = told["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("said ", None)
        assert (told["usage"], told["error"]["code"]) == (None, "provider_error")


async def test_what_was_refused_is_stored_with_its_error(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [Scripted(SCRIPT)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(stores_content=True)
        assert (await call("POST", "/v1/chat/completions", body=b"{nonsense")).status == 400
        content = await generation(call, await id_of(desk))
        assert (content["request"], content["truncated"]) == ("{nonsense", [])
        assert content["answer"]["error"]["type"] == "invalid_request_error"


async def test_content_of_whom_is_forgotten_is_shown_no_more(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [Scripted(SCRIPT)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(stores_content=True)
        await ask(call)
        id = await id_of(desk)
        await desk.settled()
        assert json.dumps(await generation(call, id)).count(SECRET) > 1
        await Retention(desk.database, pause_s=0).delete_user("ann")
        assert await generation(call, id) is None


async def test_what_there_is_no_room_for_is_counted(
    config: Config, caller_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bureau(config, [Scripted(SCRIPT)]) as desk:
        admin, call = caller_of(desk.app), caller_of(desk.app)
        call.key = await desk.key(stores_content=True)
        monkeypatch.setattr(desk.office.contents, "_most_bytes", 100)
        assert (await ask(call)).status == 200
        await desk.logged()
        metrics = (await admin("GET", "/metrics")).body.decode()
        assert "hodios_unstored_contents_total 1.0" in metrics
