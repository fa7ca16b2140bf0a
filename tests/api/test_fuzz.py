"""Nothing a client sends can produce a 500: random bodies on every route, near enough to valid ones to get far."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.api.app import create_app
from hodios.api.parameters import CHAT, COMPLETIONS, Operation, parameters
from hodios.api.tokens import DETOKENIZE, TOKENIZE
from hodios.config import Config
from hodios.providers.echo import EchoProvider

KEY = "fuzz-key-0123456789abcdef0123456789"
STATUSES = {200, 400, 404, 413, 501}
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "echo", "\x00", "\ud7ff", "🦜", "NaN", "-100", "__class__", "{{7*7}}"]
)
NUMBERS = st.integers(-3, 5) | st.sampled_from(
    [0.5, -0.0, 1.0, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, 0.1 + 0.2]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
URLS = st.sampled_from(["data:image/png;base64,AAAA", "https://a.example/b.gif", "data:,", "file:///x", ""])
TEXT_PARTS = st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})
IMAGES = URLS | st.fixed_dictionaries({"url": URLS})
IMAGE_PARTS = st.fixed_dictionaries({"type": st.just("image_url"), "image_url": IMAGES | VALUES})
PARTS = st.lists(st.one_of(TEXT_PARTS, TEXT_PARTS, TEXT_PARTS, IMAGE_PARTS), min_size=1, max_size=2)
NAMES = st.sampled_from(["f", "g", "get_weather.v-1"])
CALLED = st.fixed_dictionaries({"name": NAMES, "arguments": st.sampled_from(["{}", "{", '{"a": 1}']) | VALUES})
CALLS = st.lists(st.fixed_dictionaries({"id": TEXTS, "type": st.just("function"), "function": CALLED}), max_size=2)
WRITTEN = st.builds("<think>{}</think>{}<tool_call>{}</tool_call>".format, TEXTS, TEXTS, VALUES.map(json.dumps) | TEXTS)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": TEXTS | WRITTEN | PARTS},
        optional={"tool_calls": CALLS, "function_call": CALLED, "tool_call_id": TEXTS, "reasoning_content": TEXTS},
    ),
    min_size=1,
    max_size=3,
)
FUNCTIONS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "description": TEXTS,
        "parameters": st.fixed_dictionaries({"type": st.just("object")}, optional={"properties": VALUES, "a": VALUES}),
        "strict": st.booleans(),
    },
)
TOOLS = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTIONS}),
    max_size=3,
    unique_by=lambda tool: tool["function"]["name"],
)
NAMED = st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": NAMES})})
ALLOWED = st.fixed_dictionaries(
    {
        "type": st.just("allowed_tools"),
        "mode": st.sampled_from(["auto", "required"]),
        "tools": st.lists(NAMED, max_size=2),
    }
)
SCHEMAS = st.fixed_dictionaries({"schema": st.dictionaries(TEXTS, VALUES, max_size=3)})
FORMATS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "json", "json_object", "json_schema", "regex", "grammar"])},
    optional={"json_schema": SCHEMAS, "regex": TEXTS, "grammar": TEXTS, "schema": VALUES},
)
LIKELY: dict[str, Any] = {
    "model": st.just("echo"),
    "messages": MESSAGES,
    "prompt": TEXTS | st.lists(TEXTS, min_size=1, max_size=3) | st.lists(st.integers(0, 260), min_size=1, max_size=5),
    "tokens": st.lists(st.integers(0, 260), min_size=1, max_size=5),
    "stop": TEXTS | st.lists(TEXTS, max_size=3),
    "stop_token_ids": st.lists(st.integers(0, 300), max_size=3),
    "logit_bias": st.dictionaries(st.integers(0, 300).map(str), st.integers(-100, 100), max_size=3),
    "stream_options": st.dictionaries(st.sampled_from(["include_usage", "continuous_usage_stats"]), st.booleans()),
    "response_format": FORMATS,
    "max_tokens": st.integers(0, 40),
    "min_tokens": st.integers(0, 40),
    "n": st.integers(1, 3),
    "top_logprobs": st.integers(0, 4),
    "content_filter": st.just("details"),
    "tools": TOOLS,
    "tool_choice": st.sampled_from(["none", "auto", "required"]) | NAMED | ALLOWED,
    "functions": st.lists(FUNCTIONS, max_size=2, unique_by=lambda function: function["name"]),
    "function_call": st.sampled_from(["none", "auto"]) | st.fixed_dictionaries({"name": NAMES}),
    "documents": st.lists(TEXTS | st.dictionaries(TEXTS, VALUES, max_size=2), max_size=2),
    "data": IMAGES | st.lists(IMAGES, max_size=2),
    "reasoning_effort": st.sampled_from(["none", "low", "high"]),
}
PLAIN = st.booleans() | NUMBERS | TEXTS


def bodies(names: list[str], required: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the required names nearly always right, and a few others, right or wrong."""
    near = {name: LIKELY.get(name, PLAIN) | VALUES for name in names}
    good = {name: LIKELY[name] for name in required}
    others = {name: value for name, value in near.items() if name not in required}
    return st.fixed_dictionaries(good, optional={**others, "unknown": VALUES}) | st.dictionaries(
        st.sampled_from(names) | TEXTS, VALUES, max_size=5
    )


def few(body: dict[str, Any], keep: frozenset[str], required: set[str]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in required or name in keep or name == "unknown"}


def app() -> Any:
    config = Config(home=Path("/"), admin_key=KEY, max_body_bytes=65536, max_choices=8)
    return create_app(config, [EchoProvider(context_length=256)])


APP = app()


async def post(path: str, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request; a stream's whole text."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "method": "POST", "path": path, "query_string": b"", "root_path": ""},
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
    }
    await APP(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


async def check(path: str, body: bytes) -> int:
    status, headers, answer = await post(path, body)
    assert status in STATUSES, answer
    if headers[b"content-type"].startswith(b"text/event-stream"):
        events = answer.decode().removesuffix("\n\n").split("\n\n")
        assert events[-1] == "data: [DONE]"
        assert not any("error" in json.loads(event.removeprefix("data: ")) for event in events[:-1])
        return status
    document = json.loads(answer)
    if status != 200:
        assert list(document["error"])[:4] == ["message", "type", "param", "code"]
        assert document["error"]["type"] == "invalid_request_error"
        assert len(answer) < 5000
    return status


OPERATIONS: list[tuple[str, list[str], set[str]]] = [
    ("/v1/chat/completions", list(parameters(CHAT, 8)), {"model", "messages"}),
    ("/v1/completions", list(parameters(COMPLETIONS, 8)), {"model", "prompt"}),
    ("/tokenize", list(TOKENIZE), {"prompt"}),
    ("/detokenize", list(DETOKENIZE), {"tokens"}),
]


@pytest.mark.parametrize(("path", "names", "required"), OPERATIONS)
def test_no_json_body_makes_a_500(path: str, names: list[str], required: set[str]) -> None:
    seen: set[int] = set()

    @settings(max_examples=120)
    @given(bodies(names, required), st.frozensets(st.sampled_from(names), max_size=4))
    def run(body: dict[str, Any], keep: frozenset[str]) -> None:
        encoded = json.dumps(few(body, keep, required)).encode()
        seen.add(asyncio.run(check(path, encoded)))

    run()
    assert {200, 400} <= seen


def test_no_tools_make_a_500() -> None:
    """Everything about calls at once, through a provider that calls what it is told to."""
    names = ["tool_choice", "parallel_tool_calls", "stream", "strict", "n", "max_tokens", "include_reasoning", "stop"]
    seen: set[tuple[int, bool]] = set()

    @settings(max_examples=200)
    @given(MESSAGES, TOOLS, st.fixed_dictionaries({}, optional={name: LIKELY.get(name, PLAIN) for name in names}))
    def run(messages: Any, tools: Any, others: dict[str, Any]) -> None:
        body = {"model": "echo", "messages": messages, "tools": tools, **others}
        seen.add((asyncio.run(check("/v1/chat/completions", json.dumps(body).encode())), bool(tools)))

    run()
    assert {(200, True), (200, False), (400, True)} <= seen


@pytest.mark.parametrize("path", [path for path, _, _ in OPERATIONS])
def test_no_bytes_make_a_500(path: str) -> None:
    valid = b'{"model":"echo","prompt":"x","tokens":[1],"messages":[{"role":"user","content":"x"}],"stream":true}'

    @settings(max_examples=80)
    @given(st.binary(max_size=60), st.integers(0, len(valid)), st.integers(0, 8))
    def run(noise: bytes, at: int, cut: int) -> None:
        asyncio.run(check(path, valid[:at] + noise + valid[at + cut :]))
        asyncio.run(check(path, noise))

    run()


@pytest.mark.full
@pytest.mark.parametrize("operation", [CHAT, COMPLETIONS])
def test_every_pair_of_parameters(operation: Operation) -> None:
    """Each pair of parameters together, with values that are likely right."""
    path, names, required = next(entry for entry in OPERATIONS if entry[0].endswith(f"v1/{operation}"))
    for first in names:
        for second in names:
            keep = {first, second} | required
            strategies = {name: LIKELY.get(name, PLAIN) for name in keep}

            @settings(max_examples=10)
            @given(st.fixed_dictionaries(strategies))
            def run(body: dict[str, Any]) -> None:
                asyncio.run(check(path, json.dumps(body).encode()))

            run()
