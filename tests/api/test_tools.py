"""What clients may say of tools, in every form, and what becomes of it; bad shapes are in test_wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hodios.api.parameters import CHAT, COMPLETIONS
from hodios.api.wire import Call, Reader
from hodios.errors import InvalidRequest
from hodios.types import Request, Tool

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "any": True}, "required": ["city"]}


def function(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, **values}


def tool(name: str, **values: Any) -> dict[str, Any]:
    return {"type": "function", "function": function(name, **values)}


F, G = tool("f"), tool("g")


def call_of(**values: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **values}
    return Reader(CHAT, 8).read(json.dumps(body).encode(), request_id="id-0", caller="someone")


def request_of(**values: Any) -> Request:
    return call_of(**values).request


def refused(**values: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        call_of(**values)
    assert len(caught.value.message) < 600
    return caught.value


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (function("get_weather.v-1"), Tool("get_weather.v-1")),
        (function("f", description=None, parameters=None, strict=None), Tool("f")),
        (function("f", parameters={}), Tool("f")),
        (function("f", description="D", parameters=SCHEMA, strict=True), Tool("f", "D", SCHEMA, True)),
        (function("f", parameters={"type": ["object", "null"]}), Tool("f", "", {"type": ["object", "null"]})),
        (
            function("f", parameters={"type": "object", "required": None, "properties": None}),
            Tool("f", "", {"type": "object"}),
        ),
        (
            function("f", parameters={"properties": {}, "required": []}),
            Tool("f", "", {"properties": {}, "required": []}),
        ),
        (function("f", parameters={"$defs": {"a": 1}, "anyOf": []}), Tool("f", "", {"$defs": {"a": 1}, "anyOf": []})),
        (function("x" * 128, returns={"type": "string"}), Tool("x" * 128)),
    ],
)
def test_functions_are_taken_in_both_forms(given: dict[str, Any], taken: Tool) -> None:
    call = call_of(tools=[{"type": "function", "function": given, "extra": 1}])
    assert (call.request.tools, call.request.tool_choice, call.request.tool_name) == ((taken,), "auto", "")
    assert (call.request.parallel_tool_calls, call.has_function_call) == (True, False)
    older = call_of(functions=[given])
    assert (older.request.tools, older.request.tool_choice, older.has_function_call) == ((taken,), "auto", True)
    assert not older.request.parallel_tool_calls, "a message of the older form holds one call"
    assert call.warnings == older.warnings == ()


@given(st.text(max_size=8) | st.from_regex(r"[A-Za-z0-9_.\-]{1,128}", fullmatch=True))
def test_a_name_is_taken_or_refused_by_its_place(name: str) -> None:
    if (
        name
        and name.isascii()
        and set(name) <= {*map(chr, range(128))}
        and all(c.isalnum() or c in "_.-" for c in name)
    ):
        assert request_of(tools=[tool(name)]).tools == (Tool(name),)
    else:
        assert refused(tools=[F, tool(name)]).param == "tools[1].function.name"


@pytest.mark.parametrize(
    ("choice", "mode", "name", "names"),
    [
        ("none", "none", "", ["f", "g"]),
        ("auto", "auto", "", ["f", "g"]),
        ("required", "required", "", ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, "required", "g", ["f", "g"]),
        ({"type": "function", "name": "g"}, "required", "g", ["f", "g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [G]}}, "auto", "", ["g"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            "required",
            "",
            ["f"],
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [G, F, G]}},
            "required",
            "",
            ["f", "g"],
        ),
    ],
)
def test_choices(choice: Any, mode: str, name: str, names: list[str]) -> None:
    request = request_of(tools=[F, G], tool_choice=choice)
    assert (request.tool_choice, request.tool_name) == (mode, name)
    assert [tool.name for tool in request.tools] == names


@pytest.mark.parametrize(
    ("choice", "mode", "name"), [("none", "none", ""), ("auto", "auto", ""), ({"name": "g"}, "required", "g")]
)
def test_choices_of_the_older_form(choice: Any, mode: str, name: str) -> None:
    request = request_of(functions=[function("f"), function("g")], function_call=choice)
    assert (request.tool_choice, request.tool_name, len(request.tools)) == (mode, name, 2)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"tools": [F], "functions": [function("g")]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F]}}}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function", "function": {"name": "F"}}}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [F, G]}}, "tool_choice"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"functions": [function("f")], "function_call": {"name": "g"}}, "function_call"),
        ({"functions": [function("f")], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [F], "function_call": "none"}, "function_call"),
        ({"tools": [F, G, F]}, "tools[2].function.name"),
        ({"functions": [function("f"), function("f")]}, "functions[1].name"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], param: str) -> None:
    assert refused(**values).param == param


def test_an_unknown_name_is_told_some_known_ones() -> None:
    tools = [tool(f"{letter * 100}") for letter in "abcdef"]
    message = refused(tools=tools, tool_choice={"type": "function", "name": "nope"}).message
    assert '"nope" is not among the tools' in message
    assert "aaaa" in message


@pytest.mark.parametrize(
    "values",
    [
        {"tools": []},
        {"tools": [], "tool_choice": "none"},
        {"tool_choice": "auto", "parallel_tool_calls": False},
        {"functions": [], "function_call": "auto"},
        {"tools": None, "tool_choice": None, "functions": None, "function_call": None, "parallel_tool_calls": None},
        {"tools": [], "functions": []},
    ],
)
def test_nothing_to_call_is_no_tools(values: dict[str, Any]) -> None:
    plain = request_of()
    assert structs.replace(call_of(**values, strict=True).request, given=plain.given) == plain
    assert not call_of(**values).has_function_call


def test_empty_lists_contradict_nothing() -> None:
    assert request_of(tools=[F], functions=[]).tools == (Tool("f"),)
    assert call_of(tools=[], functions=[function("f")]).has_function_call


def test_parallel_calls_can_be_forbidden() -> None:
    assert request_of(tools=[F]).parallel_tool_calls
    assert not request_of(tools=[F], parallel_tool_calls=False).parallel_tool_calls
    assert not request_of(functions=[function("f")], parallel_tool_calls=True).parallel_tool_calls


def test_raw_completions_have_no_tools() -> None:
    body = json.dumps({"model": "m", "prompt": "x", "tools": [F], "tool_choice": "required"}).encode()
    call = Reader(COMPLETIONS, 8).read(body, request_id="x", caller="")
    assert [warning.param for warning in call.warnings] == ["tools", "tool_choice"]
    assert call.request.tools == ()


@pytest.mark.parametrize(
    ("values", "kwargs"),
    [
        ({}, None),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        ({"reasoning_effort": "low", "chat_template_kwargs": {"a": 1}}, {"reasoning_effort": "low", "a": 1}),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "x"}},
            {"reasoning_effort": "x", "enable_thinking": True},
        ),
        ({"chat_template_kwargs": {}}, {}),
    ],
)
def test_reasoning_effort_is_for_the_template(values: dict[str, Any], kwargs: Any) -> None:
    assert request_of(**values).template_kwargs == kwargs


def test_reasoning_can_be_left_out() -> None:
    assert request_of().has_reasoning
    assert request_of(include_reasoning=True).has_reasoning
    assert not request_of(include_reasoning=False).has_reasoning


def test_documents_are_objects_in_the_end() -> None:
    documents = ["plain", {"title": "T", "text": "x"}, {}]
    assert request_of(documents=documents).documents == ({"text": "plain"}, {"title": "T", "text": "x"}, {})
    assert request_of(documents=[]).documents == ()


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": None, "type": None, "function": {"name": "f", "arguments": {"a": [1]}}}],
        },
        {"role": "assistant", "tool_calls": [{"function": {"name": "", "arguments": None}}], "content": ""},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": "x", "reasoning_content": "hm", "tool_calls": None, "function_call": None},
        {"role": "tool", "content": "x"},
        {"role": "tool", "content": [{"type": "text", "text": "x"}], "tool_call_id": "1", "name": "f"},
    ],
)
def test_turns_with_calls_travel_as_they_are(message: dict[str, Any]) -> None:
    assert request_of(messages=[message]).messages == (message,)
