"""Each named provider's answers as it sends them, whole and streamed, with the row that comes with Hodios in front."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from contract_files import CONTRACTS, leaves
from msgspec import structs
from scripted_upstream import DONE, KEY, WEATHER, Reply, ScriptedUpstream, ask, calls_of, chat, codes, event, text_of

from hodios import errors
from hodios.errors import HodiosError
from hodios.events import Event, Finish, Reasoning, Started, Stopped, Usage
from hodios.gateway import Gateway
from hodios.providers.catalog import read_rows, shipped_folder
from hodios.providers.catalog_remotes import remote_of
from hodios.providers.remote import RemoteProvider
from hodios.remotes import RemoteModel
from hodios.types import Request, Sampling

ROWS = read_rows([shipped_folder()]).providers
PATHS = sorted((CONTRACTS / "answers").glob("*.json"))
PARTS = ("whole", "stream", "calls", "refusal")

each = pytest.mark.parametrize(
    "contract", [json.loads(path.read_text()) for path in PATHS], ids=[p.stem for p in PATHS]
)


@asynccontextmanager
async def provided(contract: dict[str, Any], upstream: ScriptedUpstream, **row: Any) -> AsyncIterator[Gateway]:
    """By the provider's own row, which only lies elsewhere."""
    shipped = structs.replace(ROWS[contract["provider"]], base_url=f"{upstream.url}/v1", **row)
    model = RemoteModel(id="maker/model", upstream_id=contract["model"], context_length=8192, features=shipped.features)
    provider = RemoteProvider(remote_of(shipped, [model]), KEY)
    await provider.start()
    try:
        yield Gateway([provider])
    finally:
        await provider.aclose()


def request(**fields: Any) -> Request:
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=7)
    fields = {"model": "maker/model", "sampling": sampling, "stop": ("END",), "max_tokens": 64, "user": "ann", **fields}
    return chat("Hi there!", **fields)


def streamed(chunks: Sequence[Any]) -> Reply:
    """Texts are comments."""
    return Reply([f"{part}\n\n".encode() if isinstance(part, str) else event(part) for part in chunks] + [DONE])


def check(events: Sequence[Event], contract: dict[str, Any], expected: dict[str, Any]) -> None:
    first, *_, last = events
    assert isinstance(first, Started)
    assert (first.provider, first.model) == (contract["provider"], "maker/model")
    assert text_of(events) == expected["text"]
    assert "".join(each.text for each in events if isinstance(each, Reasoning)) == expected.get("thoughts", "")
    stops = [each for each in events if isinstance(each, Stopped)]
    assert stops == [Stopped(0, expected["finish_reason"], expected.get("stop_reason"))]
    prompt, completion = expected["usage"]
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=expected.get("cached", 0),
        reasoning_tokens=expected.get("reasoning", 0),
        accepted_prediction_tokens=expected.get("accepted", 0),
    )
    assert isinstance(last, Finish)
    assert last.usage == usage
    told = [(name, "unsupported_parameter") for name in contract["expected"]["unsupported"]]
    told += [("usage", "estimated_usage")] if expected.get("estimated") else []
    assert codes(events) == told


@each
async def test_it_is_asked_for_what_it_honours(contract: dict[str, Any], upstream: ScriptedUpstream) -> None:
    upstream.replies = [streamed(contract["stream"])]
    async with provided(contract, upstream) as gateway:
        await ask(gateway, request())
    (asked,) = upstream.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {"model": contract["model"], **contract["expected"]["asked"]}


@each
async def test_a_streamed_answer_is_read(contract: dict[str, Any], upstream: ScriptedUpstream) -> None:
    upstream.replies = [streamed(contract["stream"])]
    async with provided(contract, upstream) as gateway:
        check(await ask(gateway, request()), contract, contract["expected"]["stream"])


@each
async def test_a_whole_answer_is_read(contract: dict[str, Any], upstream: ScriptedUpstream) -> None:
    body = json.dumps(contract["whole"]).encode()
    upstream.replies = [Reply([body], content_type="application/json")]
    async with provided(contract, upstream, is_streaming=False) as gateway:
        check(await ask(gateway, request()), contract, contract["expected"]["whole"])
    assert upstream.bodies[0]["stream"] is False


@each
async def test_its_calls_are_read(contract: dict[str, Any], upstream: ScriptedUpstream) -> None:
    """Of servers that have to be started for it, as where they were; of one that is never asked for any, none."""
    if "calls" not in contract:
        assert "tools" not in ROWS[contract["provider"]].features
        return
    upstream.replies = [streamed(contract["calls"])]
    features = tuple(dict.fromkeys((*ROWS[contract["provider"]].features, "tools")))
    async with provided(contract, upstream, features=features) as gateway:
        events = await ask(gateway, request(tools=(WEATHER,)))
    assert calls_of(events) == [tuple(call) for call in contract["expected"]["calls"]]
    assert Stopped(0, "tool_calls") in events
    assert upstream.bodies[0]["tools"][0]["function"]["name"] == "get_weather"


@each
async def test_its_refusal_is_understood(contract: dict[str, Any], upstream: ScriptedUpstream) -> None:
    if "refusal" not in contract:
        assert "errors are documented nowhere" in contract["note"]
        return
    refusal, expected = contract["refusal"], contract["expected"]["refusal"]
    body = json.dumps(refusal["body"]).encode()
    upstream.replies = [Reply([body], refusal["status"], refusal["headers"], "application/json")]
    async with provided(contract, upstream) as gateway:
        with pytest.raises(HodiosError) as caught:
            await ask(gateway, request())
    error = caught.value
    assert type(error) is getattr(errors, expected["kind"])
    assert expected["message"] in error.message
    assert error.param == expected.get("param")
    assert error.metadata is not None
    assert (error.metadata["provider"], error.metadata["status"]) == (contract["provider"], refusal["status"])
    if "retry_after" in expected:
        assert error.retry_after == expected["retry_after"]


@each
def test_every_field_has_its_source(contract: dict[str, Any]) -> None:
    parts = {
        part: contract[part]["body"] if part == "refusal" else contract[part] for part in PARTS if part in contract
    }
    assert set(contract["sources"]) == {leaf for part, value in parts.items() for leaf in leaves(value, part)}
    assert all(len(source) > 10 for source in contract["sources"].values())


def test_every_provider_that_comes_with_hodios_has_a_contract() -> None:
    """But for the kind of which nothing is known."""
    assert {Path(path).stem for path in PATHS} == set(ROWS) - {"openai_compatible"}
