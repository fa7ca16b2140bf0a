"""Messages as clients send them: what is made uniform, what is kept, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.messages import normalize, tool_definitions
from hodios.errors import InvalidRequest
from hodios.types import Tool

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "x"]), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        ("Hi", "Hi"),
        ([], ""),
        ([{"type": "text", "text": "a"}], "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}], "a\n\nb"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
    ],
)
def test_content_becomes_text(content: object, text: str) -> None:
    assert normalize([{"role": "user", "content": content}]) == [{"role": "user", "content": text}]


def test_absent_content_is_empty_and_all_else_is_kept() -> None:
    calls = [{"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    message = {"role": "assistant", "tool_calls": calls, "name": "n", "extra": 1}
    parsed = [{"id": "x", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    assert normalize([message]) == [{**message, "content": "", "tool_calls": parsed}]
    assert message == {"role": "assistant", "tool_calls": calls, "name": "n", "extra": 1}


@pytest.mark.parametrize(
    ("sent", "role"),
    [("developer", "system"), ("function", "tool"), ("system", "system"), ("tool", "tool"), ("ipython", "ipython")],
)
def test_roles_that_models_know(sent: str, role: str) -> None:
    assert normalize([{"role": sent, "content": "x"}])[0]["role"] == role


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "messages[1].content[0]",
            "unsupported",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[1].content[0]", "unsupported"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text", "invalid"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages[1].content[0].text", "invalid"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]", "invalid"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0]", "invalid"),
        ({"role": "user", "content": 7}, "messages[1].content", "invalid"),
        ({"role": "user", "content": {"type": "text", "text": "x"}}, "messages[1].content", "invalid"),
        ({"role": 3, "content": "x"}, "messages[1].role", "invalid"),
        ({"content": "x"}, "messages[1].role", "invalid"),
        ("x", "messages[1]", "invalid"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(message: Any, param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        normalize([{"role": "user", "content": "fine"}, message])
    assert refusal.value.param == param
    assert param in refusal.value.message
    assert refusal.value.code is not None
    assert refusal.value.code.startswith(code)


def test_no_messages_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        normalize([])


class TestCalls:
    def normalized(self, *messages: dict[str, Any]) -> list[dict[str, Any]]:
        return normalize([{"role": "user", "content": "q"}, *messages])[1:]

    def call(self, id: Any = None, name: str = "f", **function: Any) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, **function}}

    @pytest.mark.parametrize(
        ("sent", "arguments"),
        [
            ('{"a": {"b": [1, "é"]}}', {"a": {"b": [1, "é"]}}),
            ({"a": 1}, {"a": 1}),
            ("", {}),
            (None, {}),
            ("{}", {}),
            ("no JSON", "no JSON"),
            ('{"a": ', '{"a": '),
            ("[1]", "[1]"),
            ("null", "null"),
            ([1, "é"], '[1, "é"]'),
            ("[" * 100_000, "[" * 100_000),
        ],
    )
    def test_arguments_are_objects_where_they_can_be(self, sent: object, arguments: object) -> None:
        message = {"role": "assistant", "content": None, "tool_calls": [self.call("x", arguments=sent)]}
        assert self.normalized(message) == [
            {"role": "assistant", "content": "", "tool_calls": [self.call("x", arguments=arguments)]}
        ]

    @pytest.mark.parametrize("calls", [None, []])
    def test_no_calls(self, calls: object) -> None:
        message = {"role": "assistant", "content": "a", "tool_calls": calls, "function_call": None}
        assert self.normalized(message) == [{"role": "assistant", "content": "a"}]

    def test_missing_ids_are_the_same_each_time_and_their_own(self) -> None:
        message = {"role": "assistant", "tool_calls": [self.call(), self.call(""), self.call("x")]}
        first, again = (self.normalized(message, message) for _ in range(2))
        assert first == again
        ids = [call["id"] for turn in first for call in turn["tool_calls"]]
        assert len(set(ids)) == 5
        assert all(ids)

    def test_ids_are_made_as_the_format_makes_them(self) -> None:
        chat = normalize([{"role": "assistant", "tool_calls": [self.call()]}], lambda seed, number: "abcdefghi")
        assert chat[0]["tool_calls"][0]["id"] == "abcdefghi"

    def test_results_find_their_calls(self) -> None:
        calls = {"role": "assistant", "tool_calls": [self.call("1", "f"), self.call("2", "g"), self.call(None, "f")]}
        results = [
            {"role": "tool", "content": "a", "tool_call_id": "2"},
            {"role": "tool", "content": "b", "name": "f"},
            {"role": "tool", "content": "c"},
            {"role": "tool", "content": "d"},
        ]
        calling, *found = self.normalized(calls, *results)
        ids = [call["id"] for call in calling["tool_calls"]]
        assert [(result["tool_call_id"], result["name"]) for result in found[:3]] == [
            ("2", "g"),
            (ids[0], "f"),
            (ids[2], "f"),
        ]
        assert found[3]["tool_call_id"] not in ids
        assert found[3]["name"] == "tool"

    def test_a_second_result_of_one_call(self) -> None:
        result = {"role": "tool", "content": "a", "tool_call_id": "1"}
        found = self.normalized({"role": "assistant", "tool_calls": [self.call("1", "f")]}, result, result)[1:]
        assert [(message["tool_call_id"], message["name"]) for message in found] == [("1", "f")] * 2

    def test_the_form_of_one_function(self) -> None:
        chat = self.normalized(
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
            {"role": "function", "name": "f", "content": "22"},
        )
        id = chat[0]["tool_calls"][0]["id"]
        assert chat == [
            {"role": "assistant", "content": "", "tool_calls": [self.call(id, arguments={"a": 1})]},
            {"role": "tool", "name": "f", "content": "22", "tool_call_id": id},
        ]

    def test_a_refusal_is_what_was_said(self) -> None:
        assert self.normalized({"role": "assistant", "content": None, "refusal": "No."}) == [
            {"role": "assistant", "content": "No."}
        ]

    @pytest.mark.parametrize("calls", [{}, "x", ["x"], [{}], [{"function": {}}], [{"function": {"name": 1}}]])
    def test_calls_that_are_none(self, calls: object) -> None:
        with pytest.raises(InvalidRequest, match=r"messages\[1\].tool_calls"):
            self.normalized({"role": "assistant", "tool_calls": calls})


class TestTools:
    EMPTY = {"type": "object", "properties": {}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("tool", "function"),
        [
            (Tool("f"), {"name": "f", "description": "", "parameters": EMPTY}),
            (Tool("f", "d", {"type": "object"}), {"name": "f", "description": "d", "parameters": EMPTY}),
            ({"type": "function", "function": {"name": "f"}}, {"name": "f", "description": "", "parameters": EMPTY}),
            ({"name": "f", "description": None}, {"name": "f", "description": "", "parameters": EMPTY}),
            (
                {"function": {"name": "f", "parameters": {"$ref": "#/x"}, "return": {"type": "number"}}},
                {
                    "name": "f",
                    "description": "",
                    "parameters": {"type": "object", "$ref": "#/x", "properties": {}},
                    "return": {"type": "number"},
                },
            ),
        ],
    )
    def test_all_have_what_templates_ask_for(self, tool: Any, function: dict[str, Any]) -> None:
        assert tool_definitions([tool]) == [{"type": "function", "function": function}]

    def test_what_was_sent_stays_as_it_is(self) -> None:
        sent = {"type": "function", "function": {"name": "f", "parameters": {}}}
        tool_definitions([sent])
        assert sent == {"type": "function", "function": {"name": "f", "parameters": {}}}


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON), max_size=3))
def test_any_json_is_read_or_refused(messages: list[dict[str, Any]]) -> None:
    try:
        chat = normalize(messages)
    except InvalidRequest:
        return
    assert all(isinstance(message["content"], str) for message in chat)
