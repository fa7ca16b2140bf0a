"""The two generation routes over the echo provider: shapes, order of fields, and one answer in two forms."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from hodios.errors import Overloaded, ProviderError, TimedOut
from hodios.events import Finish, Started, Stopped, Text, TokenLogprob, Usage
from hodios.types import CATEGORIES

FILTERS = (
    '{"hate":{"filtered":false},"self_harm":{"filtered":false},"sexual":{"filtered":false},"violence":{"filtered":false},'
    '"jailbreak":{"filtered":false,"detected":false},"profanity":{"filtered":false,"detected":false}}'
)
USAGE_FIELDS = [
    *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
    *("prompt_characters", "response_characters", "cost", "latency_ms", "time_to_first_token_ms", "queue_ms"),
]
STARTED = Started("scripted", "maker/model", "fp_0123456789ab", 3, 2)
FINISH = Finish(usage=Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=2, queue_s=0.25))


async def test_a_chat_has_its_fields_in_order(call: Any) -> None:
    answer = await call.chat()
    document = answer.json()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert list(document) == ["id", "object", "created", "provider", "model", "choices", "usage", "system_fingerprint"]
    assert re.fullmatch(r"chat-[0-9a-f]{32}", document["id"])
    assert document["object"] == "chat.completion"
    assert (document["provider"], document["model"]) == ("echo", "hodios/echo")
    assert re.fullmatch(r"fp_[0-9a-f]{12}", document["system_fingerprint"])
    (choice,) = document["choices"]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason", "content_filter_results"]
    assert list(choice["message"].items()) == [("role", "assistant"), ("content", "Hello"), ("refusal", None)]
    assert (choice["logprobs"], choice["finish_reason"]) == (None, "stop")
    assert list(choice["content_filter_results"]) == list(CATEGORIES)
    assert FILTERS.encode() in answer.body
    usage = document["usage"]
    assert list(usage) == USAGE_FIELDS
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (usage["prompt_characters"], usage["response_characters"], usage["cost"]) == (5, 5, 0)
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0, "accepted_prediction_tokens": 0}


async def test_a_completion_has_its_fields_in_order(call: Any) -> None:
    document = (await call.complete(stop="lo")).json()
    assert list(document) == ["id", "object", "created", "provider", "model", "choices", "usage", "system_fingerprint"]
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", document["id"])
    assert document["object"] == "text_completion"
    (choice,) = document["choices"]
    assert list(choice) == ["index", "text", "logprobs", "finish_reason", "stop_reason", "content_filter_results"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("Hel", "stop", "lo")


async def test_details_of_the_filters_on_request(call: Any) -> None:
    details = {"guards": [], "not_evaluated": list(CATEGORIES)}
    choice = (await call.chat(content_filter="details")).json()["choices"][0]
    assert list(choice)[-2:] == ["content_filter_results", "content_filter_details"]
    assert choice["content_filter_details"] == details
    for chunk in (await call.chat(content_filter="details", stream=True)).chunks():
        assert chunk["choices"][0]["content_filter_details"] == details


async def test_warnings_are_in_body_and_header(call: Any) -> None:
    answer = await call.chat(foo=1, store=True)
    assert answer.headers["x-hodios-ignored"] == "foo, store"
    document = answer.json()
    assert list(document)[-1] == "warnings"
    assert [list(warning) for warning in document["warnings"]] == [["param", "code", "message"]] * 2
    assert [warning["code"] for warning in document["warnings"]] == ["unknown_parameter", "unsupported_parameter"]
    for streamed in (await call.chat(foo=1, stream=True), await call.complete(foo=1, stream=True)):
        first, *others = streamed.chunks()
        assert [warning["param"] for warning in first["warnings"]] == ["foo"]
        assert not any("warnings" in chunk for chunk in others)
        assert streamed.headers["x-hodios-ignored"] == "foo"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
async def test_strict_refuses_what_would_be_ignored(call: Any, path: str) -> None:
    body = {"model": "echo", "foo": 1, "strict": True}
    body |= {"messages": [{"role": "user", "content": "x"}]} if "chat" in path else {"prompt": "x"}
    answer = await call("POST", path, body)
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", "foo")


async def test_a_stream_of_chat_chunks(call: Any) -> None:
    answer = await call.chat(messages=[{"role": "user", "content": "aé"}], stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    chunks = answer.chunks()
    for chunk in chunks:
        assert list(chunk) == ["id", "object", "created", "provider", "model", "choices", "system_fingerprint"]
        assert chunk["object"] == "chat.completion.chunk"
        (choice,) = chunk["choices"]
        assert list(choice) == ["index", "delta", "logprobs", "finish_reason", "content_filter_results"]
    assert len({json.dumps({**chunk, "choices": 0}) for chunk in chunks}) == 1
    deltas = [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    assert deltas == [({"role": "assistant"}, None), ({"content": "a"}, None), ({"content": "é"}, None), ({}, "stop")]
    assert answer.data()[-1] == "[DONE]"


async def test_a_stream_of_completion_chunks(call: Any) -> None:
    chunks = (await call.complete(prompt="ab", stream=True, stop="b", include_stop_str_in_output=True)).chunks()
    for chunk in chunks[:-1]:
        assert chunk["object"] == "text_completion"
        fields = ["index", "text", "logprobs", "finish_reason", "content_filter_results"]
        assert list(chunk["choices"][0]) == fields
    texts = [(chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    assert texts == [("a", None), ("b", None), ("", "stop")]
    assert chunks[-1]["choices"][0]["stop_reason"] == "b"


async def test_usage_comes_last_when_asked_for(call: Any) -> None:
    chunks = (await call.chat(stream=True, stream_options={"include_usage": True})).chunks()
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert list(chunks[-1]["usage"]) == USAGE_FIELDS
    whole = (await call.chat()).json()["usage"]
    for field in ("prompt_tokens", "completion_tokens", "prompt_characters", "response_characters"):
        assert chunks[-1]["usage"][field] == whole[field]


async def test_continuous_usage_grows(call: Any) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = (await call.complete(stream=True, prompt="abc", stream_options=options)).chunks()
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 3, 4]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {3}


async def test_no_chunk_is_without_choices_unless_asked(call: Any) -> None:
    assert all(chunk["choices"] for chunk in (await call.chat(stream=True)).chunks())


def joined(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Choices put together from a stream."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"text": "", "logprobs": None, "finish_reason": None})
            choice["text"] += part.get("text", part.get("delta", {}).get("content", ""))
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
            if part["logprobs"] is not None:
                entries = {key: value for key, value in part["logprobs"].items() if value is not None}
                choice["logprobs"] = choice["logprobs"] or {key: [] for key in entries}
                for key, value in entries.items():
                    choice["logprobs"][key] += value
    return choices


HOSTILE = 'a"\\\n\r\t\x00\x1f\u2028\u2029é🦜👩\u200d👩\u200d👧{{ }}<|im_end|>data: [DONE]\n\n\ufffd'


SHARED: list[dict[str, Any]] = [
    {},
    {"n": 3},
    {"stop": ["👩", "x"]},
    {"max_tokens": 21},
]
CHATS = [{"messages": [{"role": "user", "content": HOSTILE}], **values} for values in SHARED] + [
    {"messages": [{"role": "user", "content": HOSTILE}], "logprobs": True, **values}
    for values in ({}, {"top_logprobs": 3}, {"top_logprobs": 2, "return_tokens_as_token_ids": True, "n": 2})
]
TEXTS = [{"prompt": HOSTILE, **values} for values in SHARED] + [
    {"prompt": HOSTILE, "logprobs": 3},
    {"prompt": HOSTILE, "logprobs": 0},
    {"prompt": HOSTILE, "logprobs": 2, "return_tokens_as_token_ids": True, "n": 2},
    {"prompt": HOSTILE, "echo": True, "logprobs": 2},
    {"prompt": HOSTILE, "echo": True, "max_tokens": 0, "logprobs": 0},
    {"prompt": [HOSTILE, "b", [97, 195]], "n": 2, "logprobs": 1},
    {"prompt": [195, 40, 255, 97]},
]


@pytest.mark.parametrize(("chat", "values"), [(True, chat) for chat in CHATS] + [(False, text) for text in TEXTS])
async def test_the_whole_answer_is_the_stream_put_together(call: Any, chat: bool, values: dict[str, Any]) -> None:
    send = call.chat if chat else call.complete
    whole = (await send(**values)).json()
    parts = joined((await send(**values, stream=True)).chunks())
    assert len(whole["choices"]) == len(parts)
    for choice in whole["choices"]:
        part = parts[choice["index"]]
        assert part["text"] == (choice["message"]["content"] if chat else choice["text"])
        assert part["finish_reason"] == choice["finish_reason"]
        logprobs = choice["logprobs"]
        assert part["logprobs"] == (logprobs and {k: v for k, v in logprobs.items() if v is not None})


async def test_chat_logprobs(call: Any) -> None:
    choice = (await call.chat(logprobs=True, top_logprobs=2, max_tokens=1)).json()["choices"][0]
    assert list(choice["logprobs"]) == ["content", "refusal"]
    (entry,) = choice["logprobs"]["content"]
    assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
    assert (entry["token"], entry["bytes"]) == ("H", [72])
    assert [top["token"] for top in entry["top_logprobs"]] == ["H", "I"]
    bare = (await call.chat(logprobs=True, max_tokens=1)).json()["choices"][0]["logprobs"]["content"]
    assert bare[0]["top_logprobs"] == []
    ids = (await call.chat(logprobs=True, top_logprobs=1, max_tokens=1, return_tokens_as_token_ids=True)).json()
    assert ids["choices"][0]["logprobs"]["content"][0]["token"] == "token_id:72"


async def test_completion_logprobs_with_echo(call: Any) -> None:
    choice = (await call.complete(prompt="Hé", echo=True, max_tokens=1, logprobs=1)).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"] == "HéH"
    assert list(logprobs) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
    assert logprobs["tokens"] == ["H", "bytes:\\xc3", "bytes:\\xa9", "H"]
    assert logprobs["text_offset"] == [0, 1, 1, 2]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert list(logprobs["top_logprobs"][3]) == ["H"]
    only_chosen = (await call.complete(max_tokens=1, logprobs=0)).json()["choices"][0]["logprobs"]
    assert only_chosen["top_logprobs"] == [{"H": only_chosen["token_logprobs"][0]}]


async def test_several_prompts_and_choices(call: Any) -> None:
    choices = (await call.complete(prompt=["ab", [99]], n=2)).json()["choices"]
    assert [(choice["index"], choice["text"]) for choice in choices] == [(0, "ab"), (1, "ab"), (2, "c"), (3, "c")]


async def test_prompt_characters_are_unknown_for_token_ids(call: Any) -> None:
    assert (await call.complete(prompt=["éa", "b"])).json()["usage"]["prompt_characters"] == 3
    assert (await call.complete(prompt=[97])).json()["usage"]["prompt_characters"] is None


async def test_usage_and_fingerprint_come_from_the_provider(scripted: Any) -> None:
    call, provider = scripted(STARTED, Text(0, "x", completion_tokens=2), Stopped(0, "length"), FINISH)
    document = (await call.chat(model="MODEL")).json()
    assert (document["model"], document["provider"]) == ("maker/model", "scripted")
    assert document["system_fingerprint"] == "fp_0123456789ab"
    assert document["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert document["usage"]["queue_ms"] == 250
    assert provider.requests[0].model == "maker/model"
    assert provider.requests[0].caller == "admin"


async def test_impossible_tokens_have_a_finite_logprob(scripted: Any) -> None:
    token = TokenLogprob(
        5, "x", b"x", float("-inf"), ((6, "y", b"y", 0.0), (7, "y", b"y", -1.0), (5, "x", b"x", float("-inf")))
    )
    script = (STARTED, Text(0, "x", (token,), 1), Stopped(0, "stop"), FINISH)
    call, _ = scripted(*script)
    logprobs = (await call.complete(model="model", logprobs=2)).json()["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"] == [-9999.0]
    assert logprobs["top_logprobs"] == [{"y": 0.0, "x": -9999.0}]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ProviderError("it broke", metadata={"provider": "p"}), 502, "provider_error"),
        (Overloaded("full", retry_after=3), 503, "overloaded"),
        (TimedOut("too slow"), 504, "timeout"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_event_keeps_its_status(
    scripted: Any, error: Any, status: int, kind: str, stream: bool
) -> None:
    call, provider = scripted(error)
    answer = await call.chat(model="model", stream=stream)
    assert answer.status == status
    assert (answer.error["type"], answer.error["code"]) == (kind, kind)
    assert answer.headers["x-hodios-provider"] == "scripted"
    assert answer.headers["x-hodios-attempts"] == "1"
    assert answer.headers.get("retry-after") == ("3" if status == 503 else None)
    assert provider.num_open == 0


async def test_a_failure_in_the_middle_of_a_whole_answer_keeps_its_status(scripted: Any) -> None:
    call, _ = scripted(STARTED, Text(0, "x"), ProviderError("it broke"))
    assert (await call.chat(model="model")).status == 502


async def test_a_failure_in_the_middle_of_a_stream_is_an_event(scripted: Any) -> None:
    call, provider = scripted(STARTED, Text(1, "x"), Stopped(0, "stop"), ProviderError("it broke"))
    for answer in (
        await call.chat(model="model", stream=True, n=2),
        await call.complete(model="model", stream=True, n=2),
    ):
        assert answer.status == 200
        last = answer.chunks()[-1]
        assert list(last) == ["error", "choices"]
        assert last["error"] == {
            "message": "it broke",
            "type": "provider_error",
            "param": None,
            "code": "provider_error",
        }
        assert [(choice["index"], choice["finish_reason"]) for choice in last["choices"]] == [(1, "error")]
    assert provider.num_open == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_broken_provider_is_a_provider_error(scripted: Any, stream: bool) -> None:
    call, _ = scripted(STARTED, STARTED)
    answer = await call.chat(model="model", stream=stream)
    error = answer.chunks()[-1]["error"] if stream else answer.error
    assert error["code"] == "provider_error"


async def test_an_unknown_model_is_a_404_with_the_closest_ids(call: Any) -> None:
    answer = await call.chat(model="hodios/ecko")
    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")
    assert "hodios/echo" in answer.error["message"]


async def test_too_long_a_prompt_says_so(call: Any) -> None:
    answer = await call.complete(prompt="x" * 5000)
    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("prefix", ["/v1", "/v3/openai", "/v1/openai", ""])
async def test_the_routes_answer_under_every_prefix(call: Any, prefix: str) -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    assert (await call("POST", f"{prefix}/chat/completions", chat)).status == 200
    assert (await call("POST", f"{prefix}/completions", {"model": "echo", "prompt": "x"})).status == 200
    assert (await call("GET", f"{prefix}/models")).status == 200
    assert (await call("GET", f"{prefix}/models/hodios/echo")).status == 200
    answer = await call("POST", f"{prefix}/embeddings", {})
    assert (answer.status, answer.error["code"]) == (501, "not_available")
    answer = await call("POST", f"{prefix}/moderations", {"input": "x"})
    assert (answer.status, answer.error["code"]) == (501, "not_available"), "no guard runs here that reads prompts"
