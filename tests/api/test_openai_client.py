"""The official client against the app, in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest

from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import EchoProvider

KEY = "client-key-0123456789abcdef01234567"


@pytest.fixture(params=["/v1", "/v3/openai", "/v1/openai", ""])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    app = create_app(Config(home=tmp_path, admin_key=KEY), [EchoProvider(context_length=4096)])
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(base_url=f"http://test{request.param}", api_key=KEY, http_client=http, max_retries=0)


async def test_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "Hi thére"}], logprobs=True, top_logprobs=2, n=2
    )
    assert [choice.message.content for choice in answer.choices] == ["Hi thére"] * 2
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content[0].top_logprobs) == 2
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "Hi thére"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hi thére"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


async def test_completions_with_echo_and_logprobs(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="echo", prompt="abc", echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    choice = answer.choices[0]
    assert choice.text == "abca"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["a", "b", "c", "a"]
    assert choice.logprobs.text_offset == [0, 1, 2, 3]
    stream = await client.completions.create(model="echo", prompt=[97, 98], stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "ab"


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["hodios/echo"]
    assert (await client.models.retrieve("hodios/echo")).owned_by == "hodios"


async def test_errors_become_the_clients_exceptions(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "x"}], temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.InternalServerError):
        await client.embeddings.create(model="echo", input="x")
    raw = await client.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "x"}], extra_body={"foo": 1}
    )
    assert raw.headers["x-hodios-ignored"] == "foo"
