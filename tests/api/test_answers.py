"""Calls, thoughts and notices as clients see them: one answer in two forms, whatever the provider's events are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.errors import ProviderError
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.types import Warning

STARTED = Started("scripted", "maker/model", "fp_0123456789ab", 3)
FINISH = Finish(usage=Usage(prompt_tokens=3, completion_tokens=9, reasoning_tokens=4))
TOOLS = [{"type": "function", "function": {"name": "f"}}]
FUNCTIONS = [{"name": "f"}]
CALL = (ToolCall(0, 0, "id-0", "f"), ToolCall(0, 0, arguments='{"a":'), ToolCall(0, 0, arguments=" 1}"))
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["", '"\\\n', "\u2028", "🦜", "data: [DONE]\n\n", "<tool_call>", "</think>", '{"a": "}"', "\x00", "null"]
)
OPERATIONS = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("reasoning"), TEXTS),
    st.tuples(st.just("open"), TEXTS),
    st.tuples(st.just("more"), TEXTS, st.integers(0, 3)),
    st.tuples(st.just("notice"), st.sampled_from(["tools", "messages[0]", "é\n"])),
)
CHOICES = st.lists(st.lists(OPERATIONS, max_size=8), min_size=1, max_size=3)


def played(choices: list[list[Any]], order: list[int]) -> list[Event]:
    """A script of all choices, taking turns as `order` says."""
    pending = [choice_events(index, operations) for index, operations in enumerate(choices)]
    events: list[Event] = []
    for turn in order:
        if queue := pending[turn % len(pending)]:
            events.append(queue.pop(0))
    for queue in pending:
        events += queue
    return [STARTED, *events, FINISH]


def choice_events(index: int, operations: list[Any]) -> list[Event]:
    events: list[Event] = []
    num_calls = 0
    for position, (kind, text, *rest) in enumerate(operations):
        match kind:
            case "text":
                events.append(Text(index, text, (), position))
            case "reasoning":
                events.append(Reasoning(index, text, position))
            case "open":
                events.append(ToolCall(index, num_calls, f"id-{index}-{num_calls}", f"f{num_calls}", text, position))
                num_calls += 1
            case "more" if num_calls:
                events.append(ToolCall(index, rest[0] % num_calls, arguments=text, completion_tokens=position))
            case "notice":
                events.append(Noticed(Warning(text, "left_out", f"{text} was left out")))
    events.append(Stopped(index, "tool_calls" if num_calls else "length"))
    return events


@dataclass
class Joined:
    """A choice as a client puts it together."""

    content: str = ""
    thoughts: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    function: dict[str, str] = field(default_factory=dict)
    finish_reason: str | None = None
    num_chunks: int = 0

    def add(self, part: dict[str, Any]) -> None:
        assert self.finish_reason is None, "something after the end"
        delta = part["delta"]
        assert delta == {"role": "assistant"} if self.num_chunks == 0 else "role" not in delta
        self.num_chunks += 1
        self.content += delta.get("content", "")
        self.thoughts += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            self.add_call(call)
        if older := delta.get("function_call"):
            assert list(older) == ["arguments"] if self.function else older["arguments"] == ""
            arguments = self.function.get("arguments", "") + older["arguments"]
            self.function = {**self.function, **older, "arguments": arguments}
        self.finish_reason = part["finish_reason"]
        assert self.finish_reason is None or delta == {}

    def add_call(self, call: dict[str, Any]) -> None:
        if call["index"] == len(self.calls):
            assert list(call) == ["index", "id", "type", "function"]
            assert list(call["function"]) == ["name", "arguments"]
            assert call["function"]["arguments"] == ""
            self.calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
            return
        assert list(call) == ["index", "function"]
        assert list(call["function"]) == ["arguments"]
        self.calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]

    def message(self) -> dict[str, Any]:
        has_calls = bool(self.calls or self.function)
        content = (self.content or None) if has_calls else self.content
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        message |= {"tool_calls": self.calls} if self.calls else {}
        message |= {"function_call": self.function} if self.function else {}
        return message | ({"reasoning_content": self.thoughts} if self.thoughts else {})


def joined(chunks: list[dict[str, Any]]) -> list[Joined]:
    choices: dict[int, Joined] = {}
    for chunk in chunks:
        for part in chunk["choices"]:
            choices.setdefault(part["index"], Joined()).add(part)
    return [choices[index] for index in sorted(choices)]


def comparable(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if not name.endswith("_ms")}


@pytest.mark.parametrize("older", [False, True])
def test_the_whole_answer_is_the_stream_put_together(scripted: Any, older: bool) -> None:
    call, provider = scripted()
    tools = {"functions": FUNCTIONS} if older else {"tools": TOOLS}

    @settings(max_examples=150)
    @given(CHOICES, st.lists(st.integers(0, 2), max_size=12), st.booleans())
    def run(choices: list[list[Any]], order: list[int], continuous: bool) -> None:
        provider.script = played(choices, order)
        values = {"model": "model", "n": len(choices), "foo": 1, **tools}
        options = {"include_usage": True, "continuous_usage_stats": continuous}
        whole = asyncio.run(call.chat(**values)).json()
        *chunks, last = asyncio.run(call.chat(**values, stream=True, stream_options=options)).chunks()
        parts = joined(chunks)
        assert [choice["message"] for choice in whole["choices"]] == [part.message() for part in parts]
        for choice, part in zip(whole["choices"], parts, strict=True):
            assert list(choice["message"]) == list(part.message())
            assert choice["finish_reason"] == part.finish_reason
            assert (part.finish_reason in ("tool_calls", "function_call")) == bool(part.calls or part.function)
        assert comparable(whole["usage"]) == comparable(last["usage"])
        told = [chunk for chunk in chunks if "warnings" in chunk]
        assert whole["warnings"] == [warning for chunk in told for warning in chunk["warnings"]]
        assert told[0] is chunks[0]
        assert [chunk for chunk in told[1:] if chunk is not chunks[-1]] == []
        assert chunks[-1]["choices"][0]["finish_reason"] is not None

    run()


async def test_a_call_in_an_answer_that_is_whole(scripted: Any) -> None:
    call, _ = scripted(STARTED, Reasoning(0, "Hm."), *CALL, Stopped(0, "tool_calls"), FINISH)
    document = (await call.chat(model="model", tools=TOOLS)).json()
    (choice,) = document["choices"]
    assert list(choice["message"].items()) == [
        ("role", "assistant"),
        ("content", None),
        ("refusal", None),
        ("tool_calls", [{"id": "id-0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]),
        ("reasoning_content", "Hm."),
    ]
    assert choice["finish_reason"] == "tool_calls"
    usage = document["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 4, "accepted_prediction_tokens": 0}
    assert usage["response_characters"] == len("Hm." + "f" + '{"a": 1}')


async def test_a_call_in_a_stream(scripted: Any) -> None:
    call, _ = scripted(STARTED, Reasoning(0, "Hm."), Text(0, "So"), *CALL, Stopped(0, "tool_calls"), FINISH)
    chunks = (await call.chat(model="model", tools=TOOLS, stream=True)).chunks()
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant"},
        {"reasoning_content": "Hm."},
        {"content": "So"},
        {"tool_calls": [{"index": 0, "id": "id-0", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
        {},
    ]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * 6 + ["tool_calls"]
    for chunk in chunks:
        assert list(chunk["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "content_filter_results"]


async def test_the_older_form_has_one_function_call(scripted: Any) -> None:
    second = (ToolCall(0, 1, "id-1", "g"), ToolCall(0, 1, arguments="{}"))
    call, _ = scripted(STARTED, *CALL, *second, Stopped(0, "tool_calls"), FINISH)
    document = (await call.chat(model="model", functions=FUNCTIONS)).json()
    (choice,) = document["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "function_call")
    assert "tool_calls" not in choice["message"]
    assert [warning["code"] for warning in document["warnings"]] == ["further_calls"]
    chunks = (await call.chat(model="model", functions=FUNCTIONS, stream=True)).chunks()
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a":'}},
        {"function_call": {"arguments": " 1}"}},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
    assert [warning["code"] for warning in chunks[-1]["warnings"]] == ["further_calls"]


async def test_text_beside_calls_stays_content_and_no_calls_are_no_field(scripted: Any) -> None:
    call, _ = scripted(STARTED, Text(0, "So: "), *CALL, Stopped(0, "tool_calls"), FINISH)
    message = (await call.chat(model="model", tools=TOOLS)).json()["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("So: ", 1)
    call, _ = scripted(STARTED, Reasoning(0, "Hm."), Stopped(0, "length"), FINISH)
    message = (await call.chat(model="model", tools=TOOLS)).json()["choices"][0]["message"]
    assert list(message.items())[1:] == [("content", ""), ("refusal", None), ("reasoning_content", "Hm.")]


NOTICE = Noticed(Warning("tools", "repaired", "a call was repaired"))
EARLY = (STARTED, NOTICE, Text(0, "x", completion_tokens=1), Stopped(0, "stop"), FINISH)
LATE = (STARTED, Text(0, "x", completion_tokens=1), NOTICE, Stopped(0, "stop"), FINISH)
LAST = (STARTED, Text(0, "x", completion_tokens=1), Stopped(0, "stop"), NOTICE, NOTICE, FINISH)


@pytest.mark.parametrize("script", [EARLY, LATE, LAST])
@pytest.mark.parametrize("is_chat", [True, False])
async def test_what_is_noticed_is_told(scripted: Any, script: Any, is_chat: bool) -> None:
    call, _ = scripted(*script)
    send = call.chat if is_chat else call.complete
    told = [{"param": "tools", "code": "repaired", "message": "a call was repaired"}]
    answer = await send(model="model")
    assert (answer.json()["warnings"], answer.headers["x-hodios-ignored"]) == (told, "tools")
    streamed = await send(model="model", stream=True)
    assert [chunk.get("warnings") for chunk in streamed.chunks()[:-1]] == [None] * (len(streamed.chunks()) - 1)
    assert streamed.chunks()[-1]["warnings"] == told
    assert "x-hodios-ignored" not in streamed.headers


async def test_both_kinds_of_warning_are_in_one_list_and_one_header(scripted: Any) -> None:
    call, _ = scripted(*EARLY)
    answer = await call.chat(model="model", foo=1)
    assert [warning["param"] for warning in answer.json()["warnings"]] == ["foo", "tools"]
    assert answer.headers["x-hodios-ignored"] == "foo, tools"


async def test_a_notice_with_an_odd_name_is_harmless(scripted: Any) -> None:
    odd = Noticed(Warning("a\r\nset-cookie: é", "x", "y"))
    call, _ = scripted(STARTED, odd, Stopped(0, "stop"), FINISH)
    assert (await call.chat(model="model")).headers["x-hodios-ignored"] == "a??set-cookie???"


async def test_many_notices_stay_few(scripted: Any) -> None:
    many = [Noticed(Warning(f"p{number}", "x", "y")) for number in range(1000)]
    call, _ = scripted(STARTED, *many, Stopped(0, "stop"), FINISH)
    assert len((await call.chat(model="model")).json()["warnings"]) == 65


@pytest.mark.parametrize(("script", "streamed_status"), [(EARLY, 400), (LATE, 200), (LAST, 200)])
@pytest.mark.parametrize("is_chat", [True, False])
async def test_strict_refuses_what_is_noticed_in_time(
    scripted: Any, script: Any, streamed_status: int, is_chat: bool
) -> None:
    call, provider = scripted(*script)
    send = call.chat if is_chat else call.complete
    answer = await send(model="model", strict=True)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, "tools", "unsupported_parameter")
    streamed = await send(model="model", strict=True, stream=True)
    assert streamed.status == streamed_status
    if streamed_status == 200:
        assert [warning["code"] for warning in streamed.chunks()[-1]["warnings"]] == ["repaired"]
    assert provider.num_open == 0


async def test_strict_changes_nothing_else(scripted: Any) -> None:
    call, _ = scripted(STARTED, Text(0, "x"), *CALL, Stopped(0, "tool_calls"), FINISH)
    for stream in (False, True):
        plain, strict = [
            await call.chat(model="model", tools=TOOLS, stream=stream, strict=value) for value in (False, True)
        ]
        if stream:
            assert [c["choices"] for c in plain.chunks()] == [c["choices"] for c in strict.chunks()]
        else:
            assert plain.json()["choices"] == strict.json()["choices"]


async def test_a_failure_after_the_last_end_keeps_that_end(scripted: Any) -> None:
    call, _ = scripted(STARTED, *CALL, Stopped(0, "tool_calls"), NOTICE, ProviderError("it broke"))
    *_, end, error = (await call.chat(model="model", tools=TOOLS, stream=True)).chunks()
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert [warning["code"] for warning in end["warnings"]] == ["repaired"]
    assert (error["error"]["message"], error["choices"]) == ("it broke", [])


async def test_a_failure_within_a_call_is_an_event(scripted: Any) -> None:
    call, _ = scripted(STARTED, *CALL[:2], ProviderError("it broke"))
    error = (await call.chat(model="model", tools=TOOLS, stream=True)).chunks()[-1]
    assert error["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert (await call.chat(model="model", tools=TOOLS)).status == 502


async def test_calls_are_counted_by_model(scripted: Any) -> None:
    second = (ToolCall(0, 1, "id-1", "g", "{}"),)
    call, _ = scripted(STARTED, *CALL, *second, Stopped(0, "tool_calls"), FINISH)
    assert "hodios_tool_calls_total{" not in (await call("GET", "/metrics")).body.decode()
    await call.chat(model="model", tools=TOOLS)
    await call.chat(model="model", tools=TOOLS, stream=True)
    await call.chat(model="model", tools=TOOLS, parallel_tool_calls=False)
    metrics = (await call("GET", "/metrics")).body.decode()
    assert 'hodios_tool_calls_total{model="maker/model",provider="scripted"} 5.0' in metrics


async def test_tokens_of_calls_and_thoughts_count_while_they_come(scripted: Any) -> None:
    script = (
        Reasoning(0, "a", 2),
        ToolCall(0, 0, "i", "f", "", 5),
        ToolCall(0, 0, arguments="{}", completion_tokens=7),
    )
    call, _ = scripted(STARTED, *script, Stopped(0, "tool_calls"), FINISH)
    options = {"continuous_usage_stats": True}
    chunks = (await call.chat(model="model", tools=TOOLS, stream=True, stream_options=options)).chunks()
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 2, 5, 7, 7]
    assert [chunk["usage"]["response_characters"] for chunk in chunks] == [0, 1, 2, 4, 4]


async def test_prompt_characters_count_what_the_client_wrote(scripted: Any) -> None:
    call, _ = scripted(STARTED, Stopped(0, "stop"), FINISH)
    messages = [
        {"role": "user", "content": "héy"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}] * 2},
        {"role": "assistant", "function_call": {"name": "f", "arguments": {"é": 1}}, "content": None},
        {"role": "tool", "content": [{"type": "text", "text": "22"}]},
    ]
    tools = [{"type": "function", "function": {"name": "f", "description": "Dé", "parameters": {"type": "object"}}}]
    counted = len("héy") + 2 * len('f{"a":1}') + len('f{"é":1}') + len("22")
    for values, more in (
        ({}, 0),
        ({"tools": tools}, len('fDé{"type":"object"}')),
        ({"documents": ["x"]}, len('{"text":"x"}')),
    ):
        usage = (await call.chat(model="model", messages=messages, **values)).json()["usage"]
        assert usage["prompt_characters"] == counted + more


@pytest.mark.parametrize("stream", [True, False])
async def test_reasoning_that_was_not_asked_for_is_never_shown(scripted: Any, stream: bool) -> None:
    call, _ = scripted(STARTED, Reasoning(0, "secret"), Stopped(0, "stop"), FINISH)
    answer = await call.chat(model="model", include_reasoning=False, stream=stream)
    assert b"secret" not in answer.body
    assert b"thoughts that nobody asked for" in answer.body
