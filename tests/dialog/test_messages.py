"""Messages as clients send them: what is made uniform, what is kept, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.messages import normalize
from hodios.errors import InvalidRequest

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
    assert normalize([message]) == [{**message, "content": ""}]
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


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON), max_size=3))
def test_any_json_is_read_or_refused(messages: list[dict[str, Any]]) -> None:
    try:
        chat = normalize(messages)
    except InvalidRequest:
        return
    assert all(isinstance(message["content"], str) for message in chat)
