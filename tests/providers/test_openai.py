"""A chat server over real HTTP: what it is asked, and that its answers come out right or as one clean error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest
from scripted_upstream import (
    CLOCK,
    CUT,
    DONE,
    HANG,
    MODEL,
    WEATHER,
    Reply,
    ScriptedUpstream,
    ask,
    calls_of,
    chat,
    chunk,
    codes,
    document,
    event,
    said,
    stream,
    text_of,
    usage,
)

from hodios.errors import HodiosError, ProviderError, TimedOut
from hodios.events import Event, Finish, Reasoning, Started, Stopped, Text, TokenLogprob, ToolCall, Usage
from hodios.gateway import Gateway
from hodios.providers.server_events import EventReader
from hodios.types import Grammar, Range, Request, Sampling

Provide = Callable[..., Any]
RECORDED = b"".join(
    [
        b": OPENROUTER PROCESSING\n\n",
        event(chunk(role="assistant", content="")).replace(b"\n", b"\r\n"),
        event(chunk(reasoning_content="thïnk")),
        event(chunk(content="Hëllo ")),
        b'data: {"choices": [{"index": 0,\ndata:  "delta": {"content": "w\\u00f6rld "}}]}\n\n',
        event(chunk(content="😀 <think>")),
        event(chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "clock", "arguments": ""}}])),
        event(chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "get_weather", "arguments": '{"city'}}])),
        event(chunk(tool_calls=[{"index": 1, "function": {"arguments": '": "Zürich"}'}}])),
        event(chunk(finish="tool_calls")),
        event(usage()),
        DONE,
    ]
)
EXPECTED = ("Hëllo wörld 😀 <think>", [("clock", "{}"), ("get_weather", '{"city": "Zürich"}')])


async def test_a_streamed_answer(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("Hello there, wörld 😀")]
    events = await ask(await provide(), chat())
    assert isinstance(events[0], Started)
    assert (events[0].provider, events[0].model) == ("acme", MODEL)
    assert text_of(events) == "Hello there, wörld 😀"
    assert events[-2:] == [Stopped(0, "stop"), Finish(Usage(prompt_tokens=7, completion_tokens=3))]
    (asked,) = upstream.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == "Bearer sk-acme-0123456789abcdefghij"
    assert asked.body == {
        "model": "up",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_request_into_a_connection_that_was_just_closed_is_sent_once_more(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    gateway = await provide()
    upstream.replies = [said("One"), Reply(is_head_missing=True), said("Two")]
    assert [text_of(await ask(gateway, chat())) for _ in range(2)] == ["One", "Two"]
    first, closed, again = upstream.asked
    assert closed.peer == first.peer != again.peer
    assert closed.raw == again.raw


async def test_a_new_connection_that_is_closed_is_the_servers_answer(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    upstream.replies = [Reply(is_head_missing=True)]
    with pytest.raises(ProviderError, match="closed the connection without an answer"):
        await ask(await provide(), chat())
    assert len(upstream.asked) == 1


async def test_a_server_that_cannot_stream(upstream: ScriptedUpstream, provide: Provide) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    upstream.replies = [document(whole | {"usage": usage()["usage"]})]
    events = await ask(await provide({"is_streaming": False}), chat())
    assert upstream.bodies[0]["stream"] is False
    assert "stream_options" not in upstream.bodies[0]
    assert [type(event) for event in events] == [Started, Reasoning, Text, Stopped, Finish]
    assert events[3] == Stopped(0, "length")


async def test_a_server_that_does_not_stream_though_it_was_asked_to(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    upstream.replies = [document({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})]
    events = await ask(await provide(), chat())
    assert text_of(events) == "Hello"
    assert codes(events) == [("usage", "estimated_usage")]
    assert events[-1] == Finish(Usage(prompt_tokens=1, completion_tokens=2))


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
async def test_a_server_that_streams_without_saying_so(upstream: ScriptedUpstream, provide: Provide, kind: str) -> None:
    upstream.replies = [Reply(said("Hello").parts, content_type=kind)]
    assert text_of(await ask(await provide(), chat())) == "Hello"


@pytest.mark.parametrize(
    ("chunks", "text", "finish"),
    [
        pytest.param([chunk(content="a"), chunk(finish="stop")], "a", "stop", id="the end alone"),
        pytest.param([chunk(content="a"), chunk(content="b", finish="length")], "ab", "length", id="with text"),
        pytest.param([chunk(content="a", finish="stop"), chunk(content="b")], "ab", "stop", id="before the text"),
        pytest.param([chunk(content="a"), chunk(finish="eos"), chunk(finish="stop")], "a", "stop", id="twice"),
        pytest.param([chunk(content="a"), chunk(finish="content_filter")], "a", "content_filter", id="filtered"),
        pytest.param([chunk(content="a"), chunk(finish="tool_calls")], "a", "stop", id="calls that never came"),
        pytest.param([chunk(content="a"), chunk(finish="MAX_TOKENS")], "a", "length", id="in other words"),
        pytest.param([chunk(content="a")], "a", "stop", id="only told by [DONE]"),
        pytest.param([chunk(content=""), chunk(finish="stop")], "", "stop", id="nothing said"),
        pytest.param([chunk(content=None, refusal="No."), chunk(finish="stop")], "No.", "stop", id="refusal"),
        pytest.param([chunk(content=[{"type": "text", "text": "a"}], finish="stop")], "a", "stop", id="parts"),
        pytest.param([chunk(content="\ud83d"), chunk(content="\ude00", finish="stop")], "😀", "stop", id="halves"),
        pytest.param([chunk(content="a\ud83d", finish="stop")], "a�", "stop", id="half"),
        pytest.param(
            [{"choices": None}, {"choices": [None, 7]}, {}, {"choices": [{"index": 9, "delta": {"content": "x"}}]},
             {"choices": [{"delta": None}], "provider": "Z", "native_finish_reason": 1},
             chunk(content="a", finish="stop")],
            "a", "stop", id="rubbish",
        ),
    ],
)  # fmt: skip
async def test_ends_and_contents(
    upstream: ScriptedUpstream, provide: Provide, chunks: Sequence[Any], text: str, finish: str
) -> None:
    upstream.replies = [stream(*chunks, usage())]
    events = await ask(await provide(), chat())
    assert text_of(events) == text
    assert events[-2:] == [Stopped(0, finish), Finish(Usage(prompt_tokens=7, completion_tokens=3))]  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [b"", b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE]\r\n\r\n"])
async def test_streams_that_end_carelessly(upstream: ScriptedUpstream, provide: Provide, ending: bytes) -> None:
    upstream.replies = [Reply([event(chunk(content="a")), event(chunk(finish="stop")).rstrip() + b"\n\n" + ending])]
    assert text_of(await ask(await provide(), chat())) == "a"


async def test_usage_in_full(upstream: ScriptedUpstream, provide: Provide) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    early = {**chunk(content="a"), "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
    upstream.replies = [stream(early, chunk(finish="stop"), usage(7, 9, **details), {"usage": None, "choices": []})]
    events = await ask(await provide(), chat())
    assert events[-1] == Finish(Usage(prompt_tokens=7, completion_tokens=9, cached_tokens=4, reasoning_tokens=2))


async def test_reasoning_is_shown_or_left_out(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide()
    for field in ("reasoning_content", "reasoning"):
        upstream.replies = [stream(chunk(**{field: "hm"}), chunk(content="a", finish="stop"))]
        assert [each.text for each in await ask(gateway, chat()) if isinstance(each, Reasoning)] == ["hm"]
    upstream.replies = [said("<think>\nhm\n</think>\n\nYes") for _ in range(2)]
    events = await ask(gateway, chat())
    assert "".join(each.text for each in events if isinstance(each, Reasoning)) == "hm"
    assert text_of(events) == "Yes"
    events = await ask(gateway, chat(has_reasoning=False))
    assert not [each for each in events if isinstance(each, Reasoning)]
    assert text_of(events) == "Yes"


async def test_several_choices(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [
        stream(chunk(1, content="b"), chunk(0, content="a"), chunk(1, "stop"), chunk(0, "length", content="c"), usage())
    ]
    events = await ask(await provide(), chat(n=2))
    assert upstream.bodies[0]["n"] == 2
    assert (text_of(events, 0), text_of(events, 1)) == ("ac", "b")
    assert {event for event in events if isinstance(event, Stopped)} == {Stopped(0, "length"), Stopped(1, "stop")}


async def test_several_choices_from_a_server_that_knows_no_n(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: said(f"seed {asked.body.get('seed')}")
    events = await ask(await provide(parameters=("seed",)), chat(n=3, sampling=Sampling(seed=5)))
    assert sorted(text_of(events, index) for index in range(3)) == ["seed 5", "seed 6", "seed 7"]
    assert all("n" not in body for body in upstream.bodies)
    assert events[-1] == Finish(Usage(prompt_tokens=21, completion_tokens=9))


async def test_logprobs(upstream: ScriptedUpstream, provide: Provide) -> None:
    entry = {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -0.25, "bytes": None}, {"token": "c", "logprob": None}],
    }
    answer = chunk(content="a", finish="stop")
    answer["choices"][0]["logprobs"] = {"content": [entry, None, {"token": "x"}]}
    upstream.replies = [stream(answer, usage())]
    events = await ask(await provide(features=("logprobs",)), chat(sampling=Sampling(logprobs=2)))
    assert (upstream.bodies[0]["logprobs"], upstream.bodies[0]["top_logprobs"]) == (True, 2)
    top = ((-1, "b", b"b", -0.25), (-1, "a", b"a", -0.5))
    assert [event.logprobs for event in events if isinstance(event, Text)] == [
        (TokenLogprob(-1, "a", b"a", -0.5, top),)
    ]


async def test_parameters_are_sent_or_reported(upstream: ScriptedUpstream, provide: Provide) -> None:
    sampling = Sampling(
        temperature=0.5,
        top_k=7,
        min_p=0.1,
        seed=3,
        logit_bias=((5, -1.5),),
        presence_penalty=1,
        logprobs=1,
        min_tokens=2,
    )
    request = chat(sampling=sampling, max_tokens=9, user="ann", cache_salt="s", template_kwargs={"a": 1})
    upstream.replies = [said("x"), said("x")]
    events = await ask(await provide(), request)
    body = upstream.bodies[0]
    assert {name: body[name] for name in ("temperature", "seed", "logit_bias", "presence_penalty", "max_tokens")} == {
        "temperature": 0.5,
        "seed": 3,
        "logit_bias": {"5": -1.5},
        "presence_penalty": 1,
        "max_tokens": 9,
    }
    unsupported = ["min_p", "top_k", "min_tokens", "cache_salt", "chat_template_kwargs", "logprobs"]
    assert codes(events) == [(name, "unsupported_parameter") for name in unsupported]
    assert not set(unsupported) & set(body)
    gateway = await provide(parameters=("top_k", "min_p", "max_completion_tokens"), features=("logprobs",))
    events = await ask(gateway, request)
    body = upstream.bodies[1]
    assert (body["top_k"], body["min_p"], body["max_completion_tokens"], body["logprobs"]) == (7, 0.1, 9, True)
    assert "temperature" in [param for param, _ in codes(events)]
    assert not {"temperature", "max_tokens", "user"} & set(body)


async def test_what_a_server_would_do_by_itself_is_called_off(upstream: ScriptedUpstream, provide: Provide) -> None:
    ranges = {name: Range(default=Decimal(default)) for name, default in (("top_k", "40"), ("min_p", "0"), ("x", "1"))}
    ranges |= {"repetition_penalty": Range(default=Decimal("1.1")), "seed": Range(default=Decimal(0))}
    parameters = ("temperature", "top_k", "min_p", "x", "repetition_penalty")
    gateway = await provide({"ranges": ranges, "parameters": parameters, "quirks": ("says_repeat_penalty",)})
    sampled = Sampling(temperature=0.5, top_k=7, repetition_penalty=1.2)
    for sampling, expected in (
        (Sampling(), {"temperature": 1.0, "top_k": 0, "repeat_penalty": 1.0}),
        (sampled, {"temperature": 0.5, "top_k": 7, "repeat_penalty": 1.2}),
    ):
        upstream.replies = [said("Hi")]
        events = await ask(gateway, chat(sampling=sampling))
        asked = upstream.bodies[-1]
        own = ("model", "messages", "stream", "stream_options")
        assert {name: value for name, value in asked.items() if name not in own} == expected
        assert codes(events) == []


async def test_stop_strings(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide()
    upstream.replies = [said("a"), said("one two three"), said("one two three"), said("one")]
    await ask(gateway, chat(stop=("x", "y")))
    assert upstream.bodies[0]["stop"] == ["x", "y"]
    many = ("two", "5", "6", "7", "8")
    events = await ask(gateway, chat(stop=many))
    assert "stop" not in upstream.bodies[1]
    assert text_of(events) == "one "
    assert Stopped(0, "stop", "two") in events
    assert text_of(await ask(gateway, chat(stop=("two",), include_stop=True))) == "one two"
    events = await ask(await provide(parameters=()), chat(stop=("one two",)))
    assert text_of(events) == "one"
    assert Stopped(0, "stop") in events


async def test_messages_reach_every_server(upstream: ScriptedUpstream, provide: Provide) -> None:
    """Roles that all know, calls with ids; contents and arguments byte for byte."""
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{ "a":1 }'}}
    messages: tuple[dict[str, Any], ...] = (
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "assistant", "function_call": {"name": "clock", "arguments": {"b": "é"}}},
        {"role": "function", "name": "clock", "content": "one"},
        {"role": "assistant", "refusal": "No."},
        {"role": "user", "content": ""},
    )
    upstream.replies = [said("x")]
    await ask(await provide(features=("tools",)), chat(messages=messages))
    sent = upstream.bodies[0]["messages"]
    assert [message["role"] for message in sent] == [
        *("system", "user", "assistant", "tool", "assistant", "tool", "assistant", "user")
    ]
    assert sent[1] == messages[1]
    assert sent[2] == messages[2]
    assert sent[3] == messages[3]
    (older,) = sent[4]["tool_calls"]
    assert older["function"] == {"name": "clock", "arguments": '{"b": "é"}'}
    assert sent[5] == {"role": "tool", "tool_call_id": older["id"], "name": "clock", "content": "one"}
    assert sent[6]["content"] == "No."


@pytest.mark.parametrize(
    ("kind", "source", "sent"),
    [
        ("json_object", "", {"type": "json_object"}),
        ("json_schema", '{"type":"object"}', {"name": "answer", "schema": {"type": "object"}, "strict": False}),
        ("regex", "a+", {"type": "regex", "regex": "a+"}),
        ("lark", "start: /a/", {"type": "grammar", "grammar": "start: /a/"}),
    ],
)
async def test_forms_that_the_server_knows(
    upstream: ScriptedUpstream, provide: Provide, kind: Any, source: str, sent: Any
) -> None:
    upstream.replies = [said("{}" if "json" in kind else "aa")]
    gateway = await provide(features=("json_object", "json_schema", "regex", "grammar"))
    events = await ask(gateway, chat(grammar=Grammar(kind, source)))
    expected = sent if kind != "json_schema" else {"type": "json_schema", "json_schema": sent}
    assert upstream.bodies[0]["response_format"] == expected
    assert codes(events) == []


async def test_a_form_that_the_server_does_not_keep_to_is_reported(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    upstream.replies = [said("no")]
    events = await ask(await provide(features=("json_schema",)), chat(grammar=Grammar("json_object")))
    assert text_of(events) == "no"
    assert codes(events) == [("response_format", "invalid_answer")]


async def test_images_reach_a_server_unchanged(upstream: ScriptedUpstream, provide: Provide) -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 1000 + "="
    part = {"type": "image_url", "image_url": {"url": picture, "detail": "high"}}
    content = [{"type": "text", "text": "What is this?"}, part]
    upstream.script = lambda asked: said("a cat")
    gateway = await provide(features=("vision",))
    await ask(gateway, chat(messages=({"role": "user", "content": content},)))
    assert upstream.bodies[0]["messages"] == [{"role": "user", "content": content}]
    assert json.dumps(part["image_url"]["url"]).encode() in upstream.asked[0].raw  # type: ignore[index]
    await ask(gateway, chat("Look", images=(picture, "https://a.example/b.png")))
    assert upstream.bodies[1]["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": picture}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
            ],
        }
    ]


async def test_a_text_model_refuses_images(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide()
    content = [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]
    for request in (chat(images=("https://a.example/b.png",)), chat(messages=({"role": "user", "content": content},))):
        with pytest.raises(HodiosError, match="reads text only") as refused:
            await ask(gateway, request)
        assert refused.value.status == 400
    assert upstream.asked == []


@pytest.mark.parametrize("split", ["bytes", "halves", "events"])
async def test_a_recorded_stream_however_it_is_split(upstream: ScriptedUpstream, provide: Provide, split: str) -> None:
    gateway = await provide(features=("tools",))
    splits: list[list[bytes]] = {
        "bytes": [[RECORDED[at : at + 1] for at in range(len(RECORDED))]],
        "halves": [[RECORDED[:at], RECORDED[at:]] for at in range(1, len(RECORDED), 7)],
        "events": [[part + b"\n\n" for part in RECORDED.split(b"\n\n")]],
    }[split]
    for parts in splits:
        upstream.replies = [Reply(parts)]
        events = await ask(gateway, chat(tools=(WEATHER, CLOCK)))
        assert (text_of(events), calls_of(events)) == EXPECTED
        assert events[-2] == Stopped(0, "tool_calls")
        assert "".join(each.text for each in events if isinstance(each, Reasoning)) == "thïnk"


def test_every_split_of_a_recorded_stream_reads_the_same() -> None:
    def read(*chunks: bytes) -> list[bytes]:
        events = EventReader()
        return [data for part in chunks for data in events.push(part)] + events.finish()

    whole = read(RECORDED)
    assert whole[-1] == b"[DONE]"
    for at in range(len(RECORDED)):
        assert read(RECORDED[:at], RECORDED[at:]) == whole


async def test_a_stream_that_is_cut_anywhere_ends_in_one_error_or_is_whole(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    gateway = await provide({"silence_timeout_s": 30}, features=("tools",))
    end = RECORDED.index(b'"finish_reason": "tool_calls"')
    outcomes = []
    for at in range(len(RECORDED)):
        upstream.replies = [Reply([RECORDED[:at], CUT])]
        events, error = await ask_for_trouble(gateway, chat(tools=(WEATHER, CLOCK)))
        outcomes.append(error is None)
        if error is not None:
            assert isinstance(error, ProviderError)
            assert not [each for each in events if isinstance(each, ToolCall | Stopped | Finish)]
            assert EXPECTED[0].startswith(text_of(events))
        else:
            assert at > end, "an answer that was cut before its end passed for a whole one"
            assert (text_of(events), calls_of(events)) == EXPECTED
    assert any(outcomes)
    assert len(upstream.asked) == len(RECORDED), "nothing is asked twice"


async def ask_for_trouble(gateway: Gateway, request: Request) -> tuple[list[Event], HodiosError | None]:
    """What came, and what it ended in."""
    came: list[Event] = []
    try:
        async with aclosing(gateway.generate(request)) as events:
            async for each in events:
                came.append(each)
    except HodiosError as error:
        return came, error
    return came, None


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([b"data: {not json}\n\n"], "sent what is no JSON"),
        ([b"data: [1]\n\n"], "sent JSON that is no answer"),
        ([event(chunk(content="a")), b'data: "x"\n\n'], "sent JSON that is no answer"),
        ([event(chunk(content="a"))], "broke off its answer"),
        ([], "broke off its answer"),
        ([DONE], "ended its answer before it began"),
        ([event(usage()), DONE], "ended its answer before it began"),
        ([event(chunk(content="a", finish="error")), DONE], "failed in the middle of its answer"),
        ([event({"error": {"message": "boom", "code": 500}})], "answered with status 500: boom"),
        ([event(chunk(content="a")), event({"error": "boom"})], "answered with status 502: boom"),
        ([b"data: " + b"x" * (17 * 2**20)], "more than 16777216 bytes"),
    ],
)
async def test_broken_streams_are_errors_of_the_provider(
    upstream: ScriptedUpstream, provide: Provide, parts: Sequence[Any], told: str
) -> None:
    upstream.replies = [Reply(parts)]
    with pytest.raises(ProviderError, match=told):
        await ask(await provide(), chat())


ASSUMED = ("finish_reason", "assumed_finish_reason")


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([chunk(content="a"), chunk(finish="stop")], []),
        ([chunk(content="a")], [ASSUMED]),
        ([chunk(content="a"), chunk(content="b", index=1), chunk(finish="stop")], [ASSUMED]),
        ([chunk(content="a", finish="stop"), chunk(content="b", index=1, finish="length")], []),
    ],
)
async def test_who_says_that_this_was_all_and_not_why_is_believed_and_it_is_told(
    upstream: ScriptedUpstream, provide: Provide, chunks: Sequence[Any], told: list[Any]
) -> None:
    upstream.replies = [stream(*chunks, usage())]
    events = await ask(await provide(), chat(n=1 + max(each["choices"][0]["index"] for each in chunks)))
    assert codes(events) == told
    assert {event.finish_reason for event in events if isinstance(event, Stopped)} <= {"stop", "length"}


async def test_a_whole_document_that_does_not_say_why_it_ended(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide({"is_streaming": False})
    for reason, told in (("stop", []), (None, [ASSUMED])):
        message = {"role": "assistant", "content": "a"}
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        upstream.replies = [document({**usage(), "choices": choices})]
        events = await ask(gateway, chat())
        assert (text_of(events), codes(events)) == ("a", told)


async def test_whole_answers_that_are_broken(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide({"is_streaming": False})
    upstream.replies = [
        Reply([b'{"choices": [{"mess'], content_type="application/json"),
        document({"error": {"message": "no"}}),
        document([]),
        document({"choices": []}),
    ]
    for told in ("no JSON", "status 502: no", "no answer", "before it began"):
        with pytest.raises(ProviderError, match=told):
            await ask(gateway, chat())


@pytest.mark.parametrize("parts", [[HANG], [event(chunk(content="a")), HANG]])
async def test_silence_is_a_timeout_and_closes(
    upstream: ScriptedUpstream, provide: Provide, parts: Sequence[Any]
) -> None:
    upstream.replies = [Reply(parts)]
    gateway = await provide({"silence_timeout_s": 0.05, "first_byte_timeout_s": 0.05})
    with pytest.raises(TimedOut, match=r"within 0\.05 s"):
        await ask(gateway, chat())
    await upstream.gone.wait()


async def test_a_head_that_never_comes_is_a_timeout(upstream: ScriptedUpstream, provide: Provide) -> None:
    never = asyncio.Event()
    upstream.replies = [Reply([], before=never.wait)]
    with pytest.raises(TimedOut, match=r"acme did not begin to answer within 0\.05 s"):
        await ask(await provide({"first_byte_timeout_s": 0.05}), chat())


async def test_a_count_that_never_comes_holds_nothing_up(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [Reply([event(chunk(content="a", finish="stop")), HANG])]
    events = await ask(await provide({"silence_timeout_s": 0.05}), chat())
    assert text_of(events) == "a"
    assert codes(events) == [("usage", "estimated_usage")]


async def test_closing_tells_the_server(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [Reply([event(chunk(content="a")), HANG])]
    gateway = await provide()
    async with aclosing(gateway.generate(chat())) as events:
        async for each in events:
            if isinstance(each, Text):
                break
    await upstream.gone.wait()


async def test_a_client_that_is_cancelled_while_it_waits(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [Reply([b": wait\n\n", HANG])]
    task = asyncio.create_task(ask(await provide(), chat()))
    while not upstream.asked:  # noqa: ASYNC110 - the server runs in this loop
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.gone.wait()


async def test_connections_are_kept(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: said("x")
    gateway = await provide()
    for _ in range(5):
        await ask(gateway, chat())
    assert len({asked.peer for asked in upstream.asked}) == 1


async def test_many_clients_at_once(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: said(asked.body["messages"][0]["content"] * 20)
    gateway = await provide()
    answers = await asyncio.gather(*(ask(gateway, chat(f"client {number} ")) for number in range(100)))
    assert [text_of(answer) for answer in answers] == [f"client {number} " * 20 for number in range(100)]


async def test_nobody_at_the_address(provide: Provide) -> None:
    gateway = await provide({"base_url": "http://127.0.0.1:1/v1"})
    with pytest.raises(ProviderError, match="acme cannot be reached: Connect"):
        await ask(gateway, chat())


@pytest.mark.parametrize(("given", "sent"), [(None, 2000), (7, 7)])
async def test_a_server_that_needs_a_limit_gets_one(
    upstream: ScriptedUpstream, provide: Provide, given: int | None, sent: int
) -> None:
    gateway = await provide(server={"quirks": ("requires_max_tokens",)}, max_output_tokens=2000)
    upstream.replies.append(said("Hi"))
    await ask(gateway, chat(max_tokens=given))
    assert upstream.bodies[0]["max_tokens"] == sent


async def test_likely_tokens_are_not_asked_of_a_server_that_tells_none(
    upstream: ScriptedUpstream, provide: Provide
) -> None:
    gateway = await provide(server={"quirks": ("has_no_top_logprobs",)}, features=("logprobs",))
    upstream.replies.append(said("Hi"))
    events = await ask(gateway, chat(sampling=Sampling(logprobs=3)))
    assert upstream.bodies[0]["logprobs"] is True
    assert "top_logprobs" not in upstream.bodies[0]
    assert codes(events) == [("top_logprobs", "unsupported_parameter")]


async def test_a_card_says_what_may_be_given(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide(features=("logprobs",), parameters=("top_k", "max_completion_tokens"), quantization="fp8")
    card = gateway.resolve(MODEL).card
    assert {"top_k", "max_tokens", "top_logprobs", "tools", "stop", "n", "response_format"} <= set(card.parameters)
    assert not {"temperature", "seed", "data", "reasoning_effort", "documents"} & set(card.parameters)
    assert card.quantization == "fp8"


async def test_a_row_may_have_a_dialect_of_its_own(upstream: ScriptedUpstream, provide: Provide) -> None:
    gateway = await provide(dialect="completions", family="llama2")
    upstream.replies.append(stream({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}))
    assert text_of(await ask(gateway, chat())) == "Hi"
    assert upstream.asked[0].path == "/v1/completions"
    assert "[INST]" in upstream.bodies[0]["prompt"]
