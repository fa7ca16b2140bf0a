"""Tools and forms of answers at servers that know them, that know them badly, and that know nothing of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from scripted_upstream import (
    CLOCK,
    WEATHER,
    Reply,
    ScriptedUpstream,
    ask,
    called,
    calls_of,
    chat,
    chunk,
    codes,
    completion,
    said,
    stream,
    text_of,
    usage,
)

from hodios.errors import HodiosError, InvalidRequest, UnsupportedParameter
from hodios.events import Finish, Noticed, Stopped, ToolCall, Usage
from hodios.types import Grammar, Tool

Provide = Callable[..., Any]
TOOLS = (WEATHER, CLOCK)
PARIS = '{"city": "Paris"}'
SCHEMA = Grammar("json_schema", '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}')


def tagged(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


# Native tools


async def test_native_tools_are_passed_on(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: called(("get_weather", PARIS), text="Let me look.")
    gateway = await provide(features=("tools",))
    events = await ask(gateway, chat(tools=TOOLS))
    assert text_of(events) == "Let me look."
    assert calls_of(events) == [("get_weather", PARIS)]
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["id0"]
    assert events[-2] == Stopped(0, "tool_calls")
    assert codes(events) == []
    body = upstream.bodies[0]
    assert "tool_choice" not in body
    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "get_weather", "description": WEATHER.description, "parameters": WEATHER.parameters},
    }
    await ask(gateway, chat(tools=TOOLS, tool_choice="required", tool_name="get_weather", parallel_tool_calls=False))
    body = upstream.bodies[1]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert body["parallel_tool_calls"] is False
    await ask(gateway, chat(tools=TOOLS, tool_choice="required"))
    assert upstream.bodies[2]["tool_choice"] == "required"


async def test_calls_that_nobody_wanted_are_left_out(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: called(("clock", {}), text="Hm.")
    gateway = await provide(features=("tools",))
    for request in (chat(tools=TOOLS, tool_choice="none"), chat()):
        events = await ask(gateway, request)
        assert calls_of(events) == []
        assert events[-2] == Stopped(0, "stop")
        assert codes(events) == [("tool_choice", "left_out_calls")]


@pytest.mark.parametrize(
    ("name", "arguments", "mended"),
    [
        ("get_weather", '{"city": "Paris", "days": "3"}', '{"city": "Paris", "days": 3}'),
        ("functions.get_weather", PARIS, PARIS),
        ("Get_Weather", "{'city': 'Paris'}", PARIS),
        ("get_weather", json.dumps(PARIS), PARIS),
        ("get_weather", '{"city": "Paris"', PARIS),
    ],
)
async def test_what_can_only_mean_one_thing_is_mended(
    upstream: ScriptedUpstream, provide: Provide, name: str, arguments: str, mended: str
) -> None:
    upstream.replies = [called((name, arguments), text="x")]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert calls_of(events) == [("get_weather", mended)]
    assert codes(events) == [("tools", "mended_call")]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        (
            "get_wether",
            PARIS,
            "there is no tool 'get_wether'; the tools are get_weather, clock; did you mean get_weather?",
        ),
        ("get_weather", '{"days": 3}', "'city' is a required property"),
        ("get_weather", '{"city": "Par', "the arguments of get_weather are not a JSON object"),
        ("", PARIS, "there is no tool ''"),
    ],
)
async def test_a_call_that_cannot_be_made_is_asked_for_again(
    upstream: ScriptedUpstream, provide: Provide, name: str, arguments: str, told: str
) -> None:
    upstream.replies = [called((name, arguments)), called(("get_weather", PARIS))]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert calls_of(events) == [("get_weather", PARIS)]
    assert codes(events) == [("model", "asked_again")]
    assert events[-1] == Finish(Usage(prompt_tokens=14, completion_tokens=6))
    again = json.dumps(upstream.bodies[1]["messages"][1:], ensure_ascii=False)
    assert told in json.loads(again)[-1]["content"]


async def test_what_does_not_get_better_is_reported(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: called(("get_weather", '{"town": 1}'), ("clock", "{}"), ("clock", "noon"))
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert len(upstream.asked) == 2
    assert calls_of(events) == [("get_weather", '{"town": 1}'), ("clock", "{}")]
    assert codes(events) == [("model", "asked_again"), ("tools", "left_out_call"), ("tools", "invalid_call")]
    assert events[-2] == Stopped(0, "tool_calls")


async def test_nothing_is_asked_again_that_was_shown(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [called(("get_wether", PARIS), text="Let me look.")]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert codes(events) == [("tools", "invalid_call")]
    assert calls_of(events) == [("get_wether", PARIS)]


async def test_whole_calls_survive_one_that_was_cut_off(upstream: ScriptedUpstream, provide: Provide) -> None:
    calls = [
        {"index": 0, "id": "a", "function": {"name": "clock", "arguments": "{}"}},
        {"index": 1, "id": "b", "function": {"name": "get_weather", "arguments": '{"city": "P"'}},
    ]
    upstream.replies = [stream(chunk(tool_calls=calls), chunk(finish="length"), usage())]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert calls_of(events) == [("clock", "{}")]
    assert codes(events) == [("tools", "left_out_call"), ("tools", "invalid_call")]
    assert events[-2] == Stopped(0, "tool_calls")
    upstream.replies = [stream(chunk(tool_calls=calls[1:]), chunk(finish="length"), usage())]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS))
    assert calls_of(events) == []
    assert events[-2] == Stopped(0, "length")


async def test_ids_are_never_the_same(upstream: ScriptedUpstream, provide: Provide) -> None:
    calls = [{"index": number, "id": "x", "function": {"name": "clock", "arguments": "{}"}} for number in range(2)]
    calls.append({"index": 2, "function": {"name": "clock", "arguments": "{}"}})
    upstream.script = lambda asked: stream(chunk(tool_calls=calls), chunk(finish="tool_calls"), usage())
    gateway = await provide(features=("tools",))
    ids = [[each.id for each in await ask(gateway, chat(tools=TOOLS)) if isinstance(each, ToolCall)] for _ in range(2)]
    assert len(set(ids[0])) == 3
    assert ids[0] == ids[1]


async def test_a_required_call_is_asked_for_again(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide(features=("tools",))
    request = chat(tools=TOOLS, tool_choice="required", tool_name="clock")
    upstream.replies = [said("It is noon."), called(("clock", {}))]
    events = await ask(gateway, request)
    assert (text_of(events), calls_of(events)) == ("", [("clock", "{}")])
    upstream.replies = [said("It is noon."), said("I said noon.")]
    events = await ask(gateway, request)
    assert text_of(events) == "I said noon."
    assert codes(events) == [("model", "asked_again"), ("tool_choice", "no_tool_call")]
    upstream.replies = [called(("get_weather", PARIS)), called(("clock", {}))]
    events = await ask(gateway, request)
    assert calls_of(events) == [("clock", "{}")]
    assert "only clock may be called now" in json.dumps(upstream.bodies[-1])


async def test_a_required_call_of_an_answer_that_was_cut_off(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("Let me think", finish="length")]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS, tool_choice="required"))
    assert text_of(events) == "Let me think"
    assert codes(events) == [("tool_choice", "no_tool_call")]
    assert events[-2] == Stopped(0, "length")


async def test_several_choices_are_mended_but_not_asked_again(upstream: ScriptedUpstream, provide: Provide) -> None:
    def call(index: int, name: str) -> dict[str, Any]:
        return chunk(index, tool_calls=[{"index": 0, "id": "a", "function": {"name": name, "arguments": "{}"}}])

    ends = [chunk(index, "tool_calls") for index in range(2)]
    upstream.replies = [stream(call(0, "clock"), call(1, "cloak"), *ends, usage())]
    events = await ask(await provide(features=("tools",)), chat(tools=TOOLS, n=2))
    assert (calls_of(events, 0), calls_of(events, 1)) == ([("clock", "{}")], [("cloak", "{}")])
    assert codes(events) == [("tools", "invalid_call")]


# Tools in words


async def test_tools_are_put_into_words(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said(f"Let me look.\n{tagged('get_weather', PARIS)}")]
    messages = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Weather in Paris?"})
    gateway = await provide(family="hermes")
    events = await ask(gateway, chat(messages=messages, tools=TOOLS))
    assert text_of(events).strip() == "Let me look."
    assert calls_of(events) == [("get_weather", PARIS)]
    assert events[-2] == Stopped(0, "tool_calls")
    assert codes(events) == []
    body = upstream.bodies[0]
    assert not {"tools", "tool_choice"} & set(body)
    system, user = body["messages"]
    assert system["content"].startswith("Be kind.\n\nYou are a function calling AI model.")
    assert json.dumps(WEATHER.description) in system["content"]
    assert user == messages[1]
    (event,) = [each for each in events if isinstance(each, ToolCall)]
    assert event.id.startswith("call_")


async def test_turns_with_calls_are_put_into_words(upstream: ScriptedUpstream, provide: Provide) -> None:
    calls = [
        {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": f'{{"city": "{city}"}}'}}
        for id, city in (("a", "Paris"), ("b", "Rome"))
    ]
    messages = (
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "22"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "warm"}]},
        {"role": "user", "content": [{"type": "text", "text": "And?"}]},
    )
    upstream.script = lambda asked: said("Fine.")
    gateway = await provide(family="hermes")
    for request in (chat(messages=messages), chat(messages=messages, tools=TOOLS, tool_choice="none")):
        assert text_of(await ask(gateway, request)) == "Fine."
        sent = upstream.bodies[-1]["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "user", "user"]
        assert all(set(message) <= {"role", "content"} for message in sent)
        assert sent[1]["content"] == (
            f"Looking.\n{tagged('get_weather', PARIS)}\n{tagged('get_weather', PARIS.replace('Paris', 'Rome'))}"
        )
        assert sent[2]["content"] == (
            '<tool_response>\n{"name": "get_weather", "content": 22}\n</tool_response>\n'
            '<tool_response>\n{"name": "get_weather", "content": "warm"}\n</tool_response>'
        )
        assert sent[3] == messages[4]


@pytest.mark.parametrize("family", ["hermes", "llama3", "mistral-v3", "vicuna", ""])
async def test_every_format_is_read_back(upstream: ScriptedUpstream, provide: Provide, family: str) -> None:
    gateway = await provide(family=family)
    upstream.replies = [said("plain")]
    assert text_of(await ask(gateway, chat(tools=TOOLS))) == "plain"
    told = upstream.bodies[0]["messages"][0]
    assert (told["role"], "get_weather" in told["content"]) == ("system", True)
    written = {
        "llama3": '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        "mistral-v3": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]',
    }
    upstream.replies = [said(written.get(family, tagged("get_weather", PARIS)))]
    assert calls_of(await ask(gateway, chat(tools=TOOLS))) == [("get_weather", PARIS)]


async def test_choices_are_put_into_words_and_held_to(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide(family="hermes")
    upstream.replies = [said("It is noon."), said(tagged("clock", "{}"))]
    events = await ask(gateway, chat(tools=TOOLS, tool_choice="required"))
    assert calls_of(events) == [("clock", "{}")]
    assert text_of(events) == ""
    first, second = (body["messages"] for body in upstream.bodies)
    assert "In this turn you must use at least one of the tools" in first[0]["content"]
    assert second[:-2] == first
    assert second[-2:] == [
        {"role": "assistant", "content": "It is noon."},
        {"role": "user", "content": "That is not right: you must call one of the tools now, and you called none. "
         "Answer again."},
    ]  # fmt: skip
    upstream.replies = [said("No."), said("Never.")]
    events = await ask(gateway, chat(tools=TOOLS, tool_choice="required", tool_name="clock"))
    assert "you must use the tool clock and no other" in upstream.bodies[2]["messages"][0]["content"]
    assert codes(events) == [("model", "asked_again"), ("tool_choice", "no_tool_call")]
    upstream.replies = [said(tagged("clock", "{}"))]
    events = await ask(gateway, chat(tools=TOOLS, tool_choice="none"))
    assert text_of(events) == tagged("clock", "{}")
    assert calls_of(events) == []


async def test_a_bad_call_in_words_is_asked_for_again(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said(tagged("get_wether", PARIS)), said(tagged("get_weather", PARIS))]
    events = await ask(await provide(family="hermes"), chat(tools=TOOLS))
    assert calls_of(events) == [("get_weather", PARIS)]
    answer, complaint = upstream.bodies[1]["messages"][-2:]
    assert answer == {"role": "assistant", "content": tagged("get_wether", PARIS)}
    assert "did you mean get_weather?" in complaint["content"]


async def test_choices_in_words_are_asked_one_by_one(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: said(tagged("clock", "{}"))
    events = await ask(await provide(family="hermes"), chat(tools=TOOLS, n=3))
    assert len(upstream.asked) == 3
    assert [calls_of(events, index) for index in range(3)] == [[("clock", "{}")]] * 3
    assert len({event.id for event in events if isinstance(event, ToolCall)}) == 3


async def test_images_stay_where_tools_are_put_into_words(upstream: ScriptedUpstream, provide: Provide) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    upstream.replies = [said("x")]
    gateway = await provide(features=("vision",), family="hermes")
    await ask(gateway, chat(messages=({"role": "user", "content": [part]},), tools=TOOLS, images=("https://a.b/c",)))
    assert upstream.bodies[0]["messages"][1]["content"] == [
        part,
        {"type": "image_url", "image_url": {"url": "https://a.b/c"}},
    ]


# Forms of answers in words


@pytest.mark.parametrize(
    ("grammar", "answer", "told"),
    [
        (SCHEMA, '{"n": 1}', f"<schema>\n{SCHEMA.source}\n</schema>"),
        (Grammar("json_object"), '{"a": [1]}', "Answer with one JSON object"),
        (Grammar("regex", "[0-9]{3}"), "123", "<regex>\n[0-9]{3}\n</regex>"),
    ],
)
async def test_forms_are_put_into_words(
    upstream: ScriptedUpstream, provide: Provide, grammar: Grammar, answer: str, told: str
) -> None:
    upstream.replies = [said(answer)]
    events = await ask(await provide(), chat(grammar=grammar))
    assert text_of(events) == answer
    assert codes(events) == []
    assert told in upstream.bodies[0]["messages"][0]["content"]
    assert "response_format" not in upstream.bodies[0]


async def test_json_mode_helps_with_schemas(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said('{"n": 1}')]
    await ask(await provide(features=("json_object",)), chat(grammar=SCHEMA))
    assert upstream.bodies[0]["response_format"] == {"type": "json_object"}
    assert SCHEMA.source in upstream.bodies[0]["messages"][0]["content"]


async def test_what_stands_around_the_answer_is_cut_off(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said('Here you are:\n```json\n{"n": 1}\n```\nAnything else?')]
    events = await ask(await provide(), chat(grammar=SCHEMA))
    assert text_of(events) == '{"n": 1}'
    assert codes(events) == [("response_format", "mended_answer")]


async def test_an_answer_of_another_form_is_asked_for_again(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said('{"n": "one"}'), said('{"n": 1}')]
    events = await ask(await provide(), chat(grammar=SCHEMA))
    assert text_of(events) == '{"n": 1}'
    assert codes(events) == [("model", "asked_again")]
    answer, complaint = upstream.bodies[1]["messages"][-2:]
    assert answer["content"] == '{"n": "one"}'
    assert "at $.n: 'one' is not of type 'integer'" in complaint["content"]


async def test_an_answer_that_never_fits_is_reported(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("no"), said("never")]
    events = await ask(await provide(), chat(grammar=Grammar("regex", "[0-9]+")))
    assert text_of(events) == "never"
    assert codes(events) == [("model", "asked_again"), ("response_format", "invalid_answer")]


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said('{"n":', finish="length")]
    events = await ask(await provide(), chat(grammar=SCHEMA))
    assert text_of(events) == '{"n":'
    assert events[-2] == Stopped(0, "length")


@pytest.mark.parametrize(
    ("grammar", "told"),
    [
        (Grammar("lark", "start: /a/"), "cannot follow a grammar"),
        (Grammar("regex", "(?=a)b"), "cannot be honoured"),
        (Grammar("json_schema", '{"properties":{"a":{"type":"int"}}}'), r"not valid at properties/a/type: 'int'"),
    ],
)
async def test_forms_that_cannot_be_asked_for(
    upstream: ScriptedUpstream, provide: Provide, grammar: Grammar, told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told) as refused:
        await ask(await provide(), chat(grammar=grammar))
    assert refused.value.param == "response_format"
    assert upstream.asked == []


async def test_raw_completions_have_no_form(upstream: ScriptedUpstream, provide: Provide) -> None:
    with pytest.raises(UnsupportedParameter, match="response_format"):
        await ask(await provide(), completion("Once", grammar=SCHEMA))
    upstream.replies = [stream({"choices": [{"index": 0, "text": "no", "finish_reason": "stop"}]}, usage())]
    events = await ask(await provide(features=("json_schema",)), completion("Once", grammar=SCHEMA))
    assert upstream.bodies[0]["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA.source)
    assert codes(events) == [("response_format", "invalid_answer")]


async def test_an_error_of_the_second_round_keeps_its_status(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("no"), Reply([], 429, {"Retry-After": "3"})]
    with pytest.raises(HodiosError) as refused:
        await ask(await provide(), chat(grammar=SCHEMA))
    assert (refused.value.status, refused.value.retry_after) == (503, 3)


async def test_tools_and_a_form_together(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide(family="hermes")
    upstream.replies = [said(tagged("clock", "{}")), said('{"n": 3}')]
    events = await ask(gateway, chat(tools=TOOLS, grammar=SCHEMA))
    assert (text_of(events), calls_of(events)) == ("", [("clock", "{}")])
    events = await ask(gateway, chat(tools=TOOLS, grammar=SCHEMA))
    assert (text_of(events), calls_of(events)) == ('{"n": 3}', [])


async def test_notices_say_what_happened(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [called(("get_weather", '{"city": "Paris", "days": "3"}'))]
    events = await ask(await provide(features=("tools",)), chat(tools=(Tool("get_weather", "", WEATHER.parameters),)))
    (notice,) = [event for event in events if isinstance(event, Noticed)]
    assert notice.warning.message == "a call was mended: the arguments of get_weather: $.days was a string"
