"""The official client against the app, in process."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from hodios.api.app import create_app
from hodios.config import Config
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardSettings
from hodios.providers.echo import EchoProvider

sys.path.append(str(Path(__file__).parent.parent / "guard"))

from word_guard import WordGuard

KEY = "client-key-0123456789abcdef01234567"


@pytest.fixture(params=["/v1", "/v3/openai", "/v1/openai", ""])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    app = create_app(Config(home=tmp_path, admin_key=KEY), [EchoProvider(context_length=4096)])
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(base_url=f"http://test{request.param}", api_key=KEY, http_client=http, max_retries=0)


@pytest.fixture
async def guarded_client(tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    guarding = Guarding(Panel([WordGuard()], clock=time.monotonic), GuardSettings())
    app = create_app(Config(home=tmp_path, admin_key=KEY), [], guarding=guarding)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
        yield openai.AsyncOpenAI(base_url="http://test/v1", api_key=KEY, http_client=http, max_retries=0)


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


class GetWeather(pydantic.BaseModel):
    """The weather of a place."""

    city: str
    days: list[int] = []


WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
ARGUMENTS = '{"city": "Zürich \\"}<tool_call>", "days": [1, 2]}'
THINKS = f'<think>Hm.</think>So:<tool_call>{{"name": "get_weather", "arguments": {ARGUMENTS}}}</tool_call>'


def said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def test_tool_calls_whole_and_streamed_are_the_same(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="echo", messages=said(THINKS), tools=[WEATHER])
    message = whole.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", ARGUMENTS)
    assert call.id.startswith("call_")
    assert (message.content or "").strip() == "So:"
    assert message.model_extra == {"reasoning_content": "Hm."}
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens

    async with client.chat.completions.stream(model="echo", messages=said(THINKS), tools=[WEATHER]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 1
    streamed = final.choices[0].message
    assert streamed.tool_calls is not None
    assert streamed.tool_calls[0].function.arguments == ARGUMENTS
    assert streamed.content == message.content
    assert final.choices[0].finish_reason == "tool_calls"


async def test_pydantic_tools_are_parsed(client: openai.AsyncOpenAI) -> None:
    tool = openai.pydantic_function_tool(GetWeather)
    answer = await client.chat.completions.parse(
        model="echo", messages=said('{"city": "Paris", "days": [3]}'), tools=[tool], tool_choice="required"
    )
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris", days=[3])


async def test_a_conversation_with_results_goes_on(client: openai.AsyncOpenAI) -> None:
    called = await client.chat.completions.create(
        model="echo",
        messages=said(ARGUMENTS),
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    message = called.choices[0].message
    assert message.tool_calls is not None
    answer = await client.chat.completions.create(
        model="echo",
        messages=[
            *said(ARGUMENTS),
            message.to_dict(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "22.0"},
        ],
        tools=[WEATHER],
    )
    assert answer.choices[0].message.content == "22.0"
    assert answer.choices[0].message.tool_calls is None


async def test_the_older_functions(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="echo", messages=said("x"), functions=[{"name": "f"}], function_call={"name": "f"}
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("f", "{}")
    stream = await client.chat.completions.create(
        model="echo", messages=said("x"), functions=[{"name": "f"}], function_call={"name": "f"}, stream=True
    )
    deltas = [chunk.choices[0].delta.function_call async for chunk in stream]
    assert "".join(delta.arguments or "" for delta in deltas if delta) == "{}"
    assert [delta.name for delta in deltas if delta and delta.name] == ["f"]


async def test_several_choices_with_several_calls(client: openai.AsyncOpenAI) -> None:
    two = THINKS + '\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'
    async with client.chat.completions.stream(model="echo", messages=said(two), tools=[WEATHER], n=2) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    for choice in final.choices:
        assert choice.message.tool_calls is not None
        assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "g"]
    ids = [call.id for choice in final.choices for call in choice.message.tool_calls or ()]
    assert len(set(ids)) == 4


async def test_what_is_wrong_with_tools_names_its_place(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(
            model="echo", messages=said("x"), tools=[WEATHER, WEATHER], tool_choice="auto"
        )
    assert bad.value.param == "tools[1].function.name"
    with pytest.raises(openai.BadRequestError) as image:
        await client.chat.completions.create(
            model="echo",
            messages=[
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b"}}]}
            ],
        )
    assert (image.value.param, image.value.code) == ("messages[0].content[0]", "unsupported_parameter")


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


async def test_moderations(client: openai.AsyncOpenAI, guarded_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.moderations.create(input="a murder")
    assert caught.value.status_code == 501
    answer = await guarded_client.moderations.create(input=["a murder", "a cake"], model="omni-moderation-latest")
    first, second = answer.results
    assert (first.flagged, second.flagged) == (True, False)
    assert first.categories.violence
    assert not first.categories.self_harm
    assert first.category_scores.violence > 0.5
    assert first.category_applied_input_types.violence == ["text"]
