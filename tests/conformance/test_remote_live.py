"""The official client, through a whole running server, to a server that others run."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from remote_server import NATIVE, UPSTREAM_KEY, WORDY, RemoteServer
from sensible_model import GREETING

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
ASK: Any = [{"role": "user", "content": "The weather in 'Zürich'?"}]
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)


@pytest.fixture
def client(remote_server: RemoteServer) -> Any:
    with openai.OpenAI(
        base_url=f"{remote_server.server.url}/v1", api_key=remote_server.server.key, max_retries=0
    ) as client:
        yield client


@pytest.mark.parametrize("model", [NATIVE, WORDY, f"acme/{NATIVE}"])
def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == GREETING
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 11
    assert answer.model in (NATIVE, WORDY)


@pytest.mark.parametrize("model", [NATIVE, WORDY])
def test_tools(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=ASK, tools=TOOLS)
    (call,) = whole.choices[0].message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Zürich"}')  # type: ignore[union-attr]
    assert whole.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(model=model, messages=ASK, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == call.function.arguments  # type: ignore[union-attr]
    result = {"role": "tool", "tool_call_id": call.id, "content": "22"}
    answer = client.chat.completions.create(
        model=model, messages=[*ASK, whole.choices[0].message.model_dump(), result], tools=TOOLS
    )
    assert answer.choices[0].message.content == GREETING


@pytest.mark.parametrize("model", [NATIVE, WORDY])
def test_structured_output(client: openai.OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Number 5"}]
    answer = client.chat.completions.create(model=model, messages=messages, response_format=SCHEMA)
    assert answer.choices[0].message.content == '{"n": 5}'
    assert getattr(answer, "warnings", None) is None


@pytest.mark.parametrize("model", [NATIVE, WORDY])
def test_images(client: openai.OpenAI, model: str, remote_server: RemoteServer) -> None:
    part = {"type": "image_url", "image_url": {"url": PIXEL}}
    for messages, extra in (
        ([{"role": "user", "content": [{"type": "text", "text": "Look"}, part]}], {}),
        ([{"role": "user", "content": "Look"}], {"data": PIXEL}),
    ):
        client.chat.completions.create(model=model, messages=messages, extra_body=extra)  # type: ignore[arg-type]
        assert remote_server.upstream.bodies[-1]["messages"][-1]["content"][-1] == part
        assert PIXEL.encode() in remote_server.upstream.asked[-1].raw


def test_what_is_not_honoured_is_told(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=NATIVE, messages=[{"role": "user", "content": "Hello"}], extra_body={"top_k": 5}
    )
    warnings = raw.parse().warnings  # type: ignore[attr-defined]
    assert [(warning["param"], warning["code"]) for warning in warnings] == [("top_k", "unsupported_parameter")]


def test_the_servers_key_is_used_and_shown_nowhere(client: openai.OpenAI, remote_server: RemoteServer) -> None:
    client.chat.completions.create(model=NATIVE, messages=[{"role": "user", "content": "Hello"}])
    assert remote_server.upstream.asked[-1].headers["Authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert UPSTREAM_KEY not in remote_server.server.log.read_text()
    for path in ("/v1/models", "/health", "/openapi.json"):
        status, report = remote_server.server.get(path)
        assert status == 200
        assert UPSTREAM_KEY not in str(report)


def test_models_show_what_can_be_asked_of_them(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {NATIVE, "acme/native-2", WORDY}
    for model in models.values():
        assert {"tools", "response_format", "data"} <= set(model.supported_parameters)  # type: ignore[attr-defined]
        assert "logprobs" not in model.supported_parameters  # type: ignore[attr-defined]
