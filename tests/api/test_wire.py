from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.api.parameters import CHAT, COMPLETIONS, Operation, parameters
from hodios.api.wire import MAX_WARNINGS, Call, Reader, decode_object, readable
from hodios.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from hodios.types import Grammar, Sampling

BASE: dict[Operation, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"model": "m", "prompt": "hi"},
}
BOTH: tuple[Operation, ...] = (CHAT, COMPLETIONS)


def read(operation: Operation, **values: Any) -> Call:
    body = {**BASE[operation], **values}
    return Reader(operation, 8).read(json.dumps(body).encode(), request_id="id-0", caller="someone")


def tool(name: str, **values: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **values}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


NOT_NUMBERS: list[Any] = ["1", True, [], {}, [1]]
NUMBERS = {
    "temperature": ((0, 2, 1.5), (-0.001, 2.001, 10**400, -(10**400))),
    "top_p": ((0.001, 1), (0, -0.0, 1.0001)),
    "min_p": ((0, 1), (-0.1, 1.1)),
    "presence_penalty": ((-2, 2), (-2.1, 2.1)),
    "frequency_penalty": ((-2, 2), (-2.1, 2.1)),
    "repetition_penalty": ((0.01, 5), (0, 0.009, 5.1)),
}
INTEGERS = {
    "top_k": ((-1, 0, 40, 3.0), (-2, 2**31, 0.5)),
    "seed": ((-(2**63), 2**64 - 1, 0), (-(2**63) - 1, 2**64, 0.5)),
    "n": ((1, 8), (0, 9, -1, 1.5)),
    "best_of": ((1, 8), (0, 9)),
    "max_tokens": ((1, 1_000_000), (0, -1, 1_000_001, 1e300, 1.5)),
    "max_completion_tokens": ((1, 1_000_000), (0, -1, 1_000_001)),
    "min_tokens": ((0, 1_000_000), (-1, 1_000_001)),
}
BOOLEANS = ("ignore_eos", "include_stop_str_in_output", "return_tokens_as_token_ids", "stream", "strict", "store")
STRINGS = ("user", "cache_salt", "prompt_cache_key", "service_tier")


BAD_ON_BOTH: dict[str, list[Any]] = {
    **{name: [*bad, *NOT_NUMBERS] for name, (_, bad) in {**NUMBERS, **INTEGERS}.items()},
    **{name: [0, 1, "true", [], {}] for name in BOOLEANS},
    **{name: [1, True, [], {}, "x" * 513] for name in STRINGS},
    "model": [1, True, [], {}, "", "x" * 257],
    "stop": [1, True, {}, "", [""], [1], ["a"] * 17, [None]],
    "stop_token_ids": [1, "1", [-1], [2**31], ["1"], [True], [1.5], [0] * 1025],
    "logit_bias": [
        *([], 1, {"x": 1}, {"-1": 1}, {"01": 1}, {" 1": 1}, {"1": 101}, {"1": "1"}, {"1": None}),
        *({str(2**31): 1}, {"1": True}, {str(n): 0 for n in range(10_001)}),
    ],
    "stream_options": [1, [], "x", True],
    "metadata": [1, [], "x"],
    "models": ["m", [1], [""]],
    "routing": ["cheap", 1],
    "include_route": [1, "yes"],
    "provider": [1, [], True],
    "data": [
        *(1, True, [1], [None], "", "x", "data:", "file:///etc/passwd", "ftp://a/b.png", "http://", "https:///x", {}),
        *({"url": None}, {"url": 1}, [{"url": "x"}], {"image_url": {}}, {"image_url": {"url": "javascript:1"}}),
        *("data:image/png;base64,", "data:image/png;base64,A", "data:image/png;base64,AA=", "data:image/png,AAAA"),
        *("data:image/png;base64,AA AA", "data:image/png;base64,AAAA\n", "data:image/png;base64,=AAA", "http://a b"),
        *("data:image/svg+xml;base64,AAAA", "data:text/html;base64,AAAA", "data:image/png;base64,ÄAAA", "http://a\n"),
        *(
            "data:image/png;base64,-_-_",
            "data:image/png;charset=x;base64,AAAA",
            ["http://a"] * 65,
            "http://" + "a" * 9000,
        ),
    ],
    "content_filter": ["all", True, 1],
    "response_format": ["json", 1, [], {"type": "xml"}, {}, {"type": 1}],
}
BAD_ARGUMENTS: list[Any] = [{"name": 1}, {"arguments": 1}, {"arguments": []}, {"arguments": nested(300)}]
BAD_FUNCTIONS: list[Any] = [
    *(1, "f", [], None, {}, {"name": None}, {"name": ""}, {"name": "a b"}, {"name": "é"}, {"name": "f\n"}, {"name": 1}),
    *({"name": "x" * 129}, {"name": "f", "description": 1}, {"name": "f", "strict": "yes"}, {"name": "f", "strict": 1}),
    *({"name": "f", "parameters": value} for value in (1, "x", [], True, {"type": "string"}, {"type": ["string"]})),
    *({"name": "f", "parameters": {"properties": value}} for value in (1, [], "x", {"a": 1}, {"a": None}, {"a": []})),
    *({"name": "f", "parameters": {"required": value}} for value in (1, "a", {}, [1], [None], True)),
    *({"name": "f", "parameters": value} for value in ({"type": {}}, nested(300))),
]
BAD_IN_CHAT: dict[str, list[Any]] = {
    "messages": [
        *(*NOT_NUMBERS, "hi", [[]], [{"role": "king", "content": "x"}], [{"content": "x"}]),
        *([{"role": "user"}], [{"role": "user", "content": None}], [{"role": "user", "content": 1}]),
        *([{"role": "user", "content": []}], [{"role": "user", "content": ["x"]}]),
        *([{"role": "user", "content": [{"type": "text"}]}], [{"role": [], "content": "x"}]),
        *(
            [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]
            for url in ({"url": "data:"}, 1, {})
        ),
        *([{"role": "user", "content": [{"type": kind, kind: {}}]}] for kind in ("input_audio", "file", "video_url")),
        *([{"role": "assistant", "tool_calls": [{"function": {"name": "f", **more}}]}] for more in BAD_ARGUMENTS),
        *(
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}, **m}]}]
            for m in ({"id": 1}, {"type": "x"})
        ),
        *(
            [{"role": "assistant", "function_call": value}]
            for value in (1, {}, {"name": 1}, {"name": "f", "arguments": 1})
        ),
        *([{"role": "assistant", "content": "x", key: 1}] for key in ("refusal", "reasoning_content", "tool_call_id")),
        *([{"role": "assistant"}], [{"role": "assistant", "content": None, "tool_calls": []}]),
        *([{"role": "assistant", "tool_calls": [{"function": 1}]}], [{"role": "user", "content": "x", "name": 1}]),
    ],
    "logprobs": [0, 1, "true"],
    "top_logprobs": [-1, 21, 0.5, "1", True],
    "chat_template_kwargs": [
        *(1, [], {"messages": 1}, {"tools": []}, {"documents": []}, {"__class__": 1}, {"a b": 1}, nested(300)),
    ],
    "continue_final_message": [1, "x"],
    "add_generation_prompt": [1, "x"],
    "reasoning_effort": ["max", 1],
    "include_reasoning": [0, 1, "true", [], {}],
    "documents": [1, "x", {}, [1], [None], [[]], [nested(300)], ["x"] * 1025],
    "tools": [
        *(1, {}, "x", True, [1], ["f"], [None], [{}], [{"type": "function"}], [{"function": {"name": "f"}}]),
        *([{"type": kind, "function": {"name": "f"}}] for kind in ("web_search", "custom", "", 1, [], None)),
        *([{"type": "function", "function": function}] for function in BAD_FUNCTIONS),
        *([{"type": "function", "name": "f"}], [tool("f"), tool("g"), tool("f")], [tool(f"f{n}") for n in range(513)]),
    ],
    "tool_choice": [
        *("maybe", "any", "", 1, [], True, {}, {"type": "auto"}, {"type": "function"}, {"type": ["function"]}),
        *(
            {"type": "function", "function": value}
            for value in (1, "f", {}, {"name": 1}, {"name": ""}, {"name": "a b"})
        ),
        *({"type": "function", "name": value} for value in (1, None, "", "a b")),
        *({"type": "allowed_tools"}, {"type": "allowed_tools", "allowed_tools": 1}),
        *({"type": "allowed_tools", "mode": mode, "tools": [tool("f")]} for mode in ("none", 1, None)),
        *({"type": "allowed_tools", "mode": "auto", "tools": tools} for tools in (1, [], [1], [{}], [tool("a b")])),
    ],
    "parallel_tool_calls": [1, "x", [], {}],
    "functions": [1, {}, "x", True, [1], [[]], [tool("f")], *([function] for function in BAD_FUNCTIONS)],
    "function_call": ["required", "", 1, [], True, {}, {"name": 1}, {"name": ""}, {"name": "a b"}, tool("f")],
    "modalities": ["text", [1]],
}
BAD_IN_COMPLETIONS: dict[str, list[Any]] = {
    "prompt": [
        *(1, True, {}, [], [[]], [True], [1.5], [1, "x"], ["x", 1], [[1], [True]], [-1], [2**31], [None]),
        ["x"] * 2049,
    ],
    "logprobs": [-1, 6, True, "1", 0.5],
    "echo": [1, "true"],
    "suffix": [1, []],
}
BAD = {CHAT: {**BAD_ON_BOTH, **BAD_IN_CHAT}, COMPLETIONS: {**BAD_ON_BOTH, **BAD_IN_COMPLETIONS}}


def bad_values() -> list[tuple[Operation, str, Any]]:
    return [
        (operation, name, value) for operation in BOTH for name, values in BAD[operation].items() for value in values
    ]


@pytest.mark.parametrize(("operation", "name", "value"), bad_values())
def test_a_bad_value_is_refused_by_name(operation: Operation, name: str, value: Any) -> None:
    body = json.dumps({**BASE[operation], name: value}).encode()
    with pytest.raises(InvalidRequest) as caught:
        Reader(operation, 8).read(body, request_id="x", caller="")
    error = caught.value
    assert error.param is not None
    assert error.param.partition("[")[0].partition(".")[0] == name
    assert name in error.message
    assert "accepted" in error.message
    assert len(error.message) < 600


def test_every_parameter_has_bad_values_here() -> None:
    for operation in BOTH:
        assert set(BAD[operation]) == set(parameters(operation, 8))


@pytest.mark.parametrize("operation", BOTH)
def test_good_values_reach_the_request(operation: Operation) -> None:
    for name, (good, _) in {**NUMBERS, **INTEGERS}.items():
        for value in good:
            read(operation, **{name: value, **({"best_of": 8} if name == "n" else {})})
    call = read(
        operation,
        temperature=0.5,
        top_p=0.9,
        min_p=0.1,
        top_k=5.0,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        seed=2**64 - 1,
        logit_bias={"5": -100, "7": 1.5},
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=[3, 4],
        max_tokens=9,
        n=2,
        best_of=3,
        stop=["a", "b", "a"],
        include_stop_str_in_output=True,
        cache_salt="salt",
        user="u",
    )
    request = call.request
    assert request.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        min_p=0.1,
        top_k=5,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        repetition_penalty=1.1,
        seed=2**64 - 1,
        logit_bias=((5, -100.0), (7, 1.5)),
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=(3, 4),
    )
    assert (request.id, request.model, request.caller, request.user) == ("id-0", "m", "someone", "u")
    assert (request.n, request.best_of, request.max_tokens) == (2, 3, 9)
    assert (request.stop, request.include_stop, request.cache_salt) == (("a", "b"), True, "salt")
    assert type(request.sampling.top_k) is int
    assert call.warnings == ()


@pytest.mark.parametrize("operation", BOTH)
def test_null_is_absent(operation: Operation) -> None:
    nulls = {name: None for name in parameters(operation, 8) if name not in BASE[operation]}
    assert read(operation, **nulls, nonsense=None) == read(operation)


@pytest.mark.parametrize("operation", BOTH)
def test_what_is_required_is_missed(operation: Operation) -> None:
    for name in BASE[operation]:
        for body in ({**BASE[operation], name: None}, {k: v for k, v in BASE[operation].items() if k != name}):
            with pytest.raises(MissingParameter) as caught:
                Reader(operation, 8).read(json.dumps(body).encode(), request_id="x", caller="")
            assert caught.value.param == name
            assert caught.value.code == "missing_parameter"


GAPS: dict[str, Any] = {
    "metadata": {"a": "b"},
    "service_tier": "priority",
    "store": True,
    "modalities": ["audio"],
    "suffix": "end",
}


@pytest.mark.parametrize("operation", BOTH)
def test_every_gap_is_reported_and_strict_refuses_it(operation: Operation) -> None:
    table = parameters(operation, 8)
    gaps = {name for name, parameter in table.items() if parameter.gap}
    assert gaps <= set(GAPS)
    for name in gaps:
        call = read(operation, **{name: GAPS[name]})
        assert [(warning.param, warning.code) for warning in call.warnings] == [(name, "unsupported_parameter")]
        assert call.request == read(operation).request
        with pytest.raises(UnsupportedParameter) as caught:
            read(operation, **{name: GAPS[name]}, strict=True)
        assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
        for neutral in table[name].neutral:
            assert read(operation, **{name: neutral}, strict=True).warnings == ()


@pytest.mark.parametrize("operation", BOTH)
def test_unknown_parameters_are_reported(operation: Operation) -> None:
    call = read(operation, foo=1, bar={"x": []})
    assert [(warning.param, warning.code) for warning in call.warnings] == [
        ("foo", "unknown_parameter"),
        ("bar", "unknown_parameter"),
    ]
    with pytest.raises(UnsupportedParameter) as caught:
        read(operation, foo=1, strict=True)
    assert caught.value.param == "foo"


def test_the_other_routes_parameters_are_reported_as_such() -> None:
    warning = read(CHAT, echo=True).warnings[0]
    assert (warning.param, warning.code) == ("echo", "unsupported_parameter")
    assert "completions" in warning.message
    assert read(COMPLETIONS, top_logprobs=3).warnings[0].code == "unsupported_parameter"


def test_unknown_names_are_made_harmless_and_few() -> None:
    call = read(CHAT, **{"a\r\nset-cookie: x": 1, "é" * 500: 1, "": 1})
    assert [warning.param for warning in call.warnings] == ["a??set-cookie??x", "?" * 100, "?"]
    many = read(CHAT, **{f"p{index}": 0 for index in range(1000)})
    assert len(many.warnings) == MAX_WARNINGS + 1


@given(st.text())
def test_readable_names_fit_a_header(name: str) -> None:
    assert readable(name).isascii()
    assert readable(name).isprintable()
    assert 0 < len(readable(name)) <= 100


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{} x",
        b"\xff",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":1,}',
        b"{'a':1}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(body)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "value",
    [
        *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, '"\\ud800"', '"\\udc00"'),
        *('["x", "\\ud800"]', '{"\\udfff": 1}', '{"a": {"b": [NaN]}}'),
    ],
)
def test_what_json_lacks_is_refused_with_the_parameters_name(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(b'{"model": "m", "temperature": ' + value.encode() + b"}")
    assert caught.value.param == "temperature"


def test_the_last_of_two_equal_names_counts() -> None:
    body = b'{"model":"a","prompt":"x","model":"b"}'
    assert Reader(COMPLETIONS, 8).read(body, request_id="x", caller="").request.model == "b"


@pytest.mark.parametrize(
    ("operation", "values", "param"),
    [
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        (COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
        (COMPLETIONS, {"max_completion_tokens": 0}, "max_completion_tokens"),
        (CHAT, {"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"top_logprobs": 2, "logprobs": False}, "top_logprobs"),
        (CHAT, {"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        (CHAT, {"n": 3, "best_of": 2}, "best_of"),
        (COMPLETIONS, {"n": 1, "best_of": 2, "stream": True}, "best_of"),
        (COMPLETIONS, {"n": 8, "prompt": ["x"] * 257}, "n"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_what_does_not_go_together_is_refused(operation: Operation, values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(operation, **values)
    assert caught.value.param == param


def test_what_goes_together_is_taken() -> None:
    assert read(CHAT, max_tokens=5, max_completion_tokens=5).request.max_tokens == 5
    assert read(CHAT, max_completion_tokens=7).request.max_tokens == 7
    assert read(COMPLETIONS, max_tokens=0, echo=True).request.max_tokens == 0
    assert read(CHAT, best_of=3, n=3, stream=True).is_streamed
    continued = read(CHAT, continue_final_message=True).request
    assert (continued.continue_final_message, continued.add_generation_prompt) == (True, False)
    assert read(CHAT).request.add_generation_prompt


def test_logprobs_of_both_routes() -> None:
    assert read(CHAT).request.sampling.logprobs is None
    assert read(CHAT, logprobs=False).request.sampling.logprobs is None
    assert read(CHAT, logprobs=True).request.sampling.logprobs == 0
    assert read(CHAT, logprobs=True, top_logprobs=20).request.sampling.logprobs == 20
    assert read(COMPLETIONS, logprobs=0).request.sampling.logprobs == 0
    assert read(COMPLETIONS, logprobs=5).request.sampling.logprobs == 5


def test_stream_options() -> None:
    call = read(CHAT, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True, "x": 1})
    assert (call.is_streamed, call.has_usage_chunk, call.has_continuous_usage) == (True, True, True)
    assert [warning.param for warning in call.warnings] == ["stream_options.x"]
    assert read(CHAT, stream=True, stream_options={"include_obfuscation": False}).warnings == ()
    assert read(CHAT, stream=True, stream_options={"include_obfuscation": True}).warnings


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("x", ("x",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_prompts(prompt: Any, prompts: Any) -> None:
    request = read(COMPLETIONS, prompt=prompt).request
    assert request.prompts == prompts
    assert not request.is_chat


def test_messages_travel_as_they_are() -> None:
    messages = [
        {"role": "developer", "content": "d", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "t", "extra": 1}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "r"},
        {"role": "function", "name": "f", "content": None},
        {"role": "assistant", "refusal": "no"},
    ]
    request = read(CHAT, messages=messages).request
    assert request.messages == tuple(messages)
    assert request.prompts is None
    assert request.is_chat


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "grammar"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar("json_object")),
        ({"type": "json"}, Grammar("json_object")),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}, "schema"),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "schema"),
        ({"type": "json_object", "schema": SCHEMA}, "schema"),
        ({"type": "regex", "regex": "a+"}, Grammar("regex", "a+")),
        ({"type": "regex", "pattern": "a+"}, Grammar("regex", "a+")),
        ({"type": "grammar", "grammar": "start: /a/"}, Grammar("lark", "start: /a/")),
    ],
)
@pytest.mark.parametrize("operation", BOTH)
def test_response_formats(operation: Operation, value: Any, grammar: Any) -> None:
    found = read(operation, response_format=value).request.grammar
    if grammar == "schema":
        assert found is not None
        assert found.kind == "json_schema"
        assert json.loads(found.source) == SCHEMA
    else:
        assert found == grammar


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": []}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": "x"}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}, "response_format.json_schema.strict"),
        ({"type": "json_schema", "json_schema": {"schema": {}, "name": 1}}, "response_format.json_schema.name"),
        ({"type": "regex"}, "response_format.regex"),
        ({"type": "regex", "regex": ""}, "response_format.regex"),
        ({"type": "regex", "pattern": 1}, "response_format.pattern"),
        ({"type": "grammar"}, "response_format.grammar"),
        ({}, "response_format.type"),
        ({"type": ["text"]}, "response_format.type"),
    ],
)
def test_bad_response_formats_are_named(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(CHAT, response_format=value)
    assert caught.value.param == param


def test_messages_name_the_place() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(
            CHAT,
            messages=[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": 1}]}],
        )
    assert caught.value.param == "messages[1].content[0].text"
    with pytest.raises(UnsupportedParameter) as unsupported:
        read(CHAT, messages=[{"role": "user", "content": [{"type": "input_audio"}]}])
    assert unsupported.value.param == "messages[0].content[0].type"


def test_the_message_of_an_error_says_it_all() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(CHAT, temperature=3)
    assert caught.value.message == "temperature: 3 is out of range; accepted: a number from 0 to 2"
