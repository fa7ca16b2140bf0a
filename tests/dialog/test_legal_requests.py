"""Whatever a client may legally send, no published template refuses it, and nothing that was said is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from conversations import CONVERSATIONS, JSON_VALUES, TOOLS, FileTokens, clock
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.dialog.families import FAMILIES
from hodios.dialog.profile import Profile
from hodios.errors import InvalidRequest

NUM_GROUPS = 8
NUM_EXAMPLES, NUM_EXAMPLES_IN_FULL = 20, 1000
DROP_WHAT_STANDS_BESIDE_CALLS = {"mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506"}
"""These show of the turns between a question and the result of a call nothing but the call."""
DOCUMENTS = st.lists(st.fixed_dictionaries({"title": st.text(max_size=5), "text": st.text(max_size=5)}), max_size=1)
SCHEMA = st.none() | st.just('{"type": "object"}')


@pytest.fixture(scope="module")
def profiles(published_profiles: dict[str, Profile]) -> dict[str, Profile]:
    built_in = [name for name, family in FAMILIES.items() if family.template]
    local = {f"family {name}": Profile.for_tokenizer(FileTokens({}), clock, name) for name in built_in}
    remote = {f"remote {name}": Profile.for_family(name, clock) for name in built_in}
    return published_profiles | local | remote


def numbered(chat: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The chat with a word in each text that tells it from all others, and (message, word)."""
    chat = copy.deepcopy(chat)
    words = []
    for index, message in enumerate(chat):
        content = message.get("content")
        word = f"q{index}q"
        if isinstance(content, str):
            message["content"] = content + word
        elif content:
            content[-1]["text"] += word
        else:
            continue
        words.append((index, word))
    return chat, words


def check(
    profiles: dict[str, Profile], group: int, chat: list[dict[str, Any]], tools: list[Any], options: dict[str, Any]
) -> None:
    chat, words = numbered(chat)
    before = copy.deepcopy(chat)
    for name in list(profiles)[group::NUM_GROUPS]:
        text = profiles[name].render(chat, tools=tools, **options).text
        assert "\uf000" not in text
        for index, word in words:
            is_dropped = chat[index]["role"] == "assistant" and name in DROP_WHAT_STANDS_BESIDE_CALLS
            assert is_dropped or word in text or name.endswith("mistral-v2"), f"{name} does not show {chat[index]}"
    assert chat == before


OPTIONS = st.fixed_dictionaries(
    {"add_generation_prompt": st.booleans(), "is_parallel": st.booleans(), "documents": DOCUMENTS, "schema": SCHEMA},
    optional={"kwargs": st.fixed_dictionaries({}, optional={"enable_thinking": st.booleans(), "unknown": JSON_VALUES})},
)


@pytest.mark.parametrize("group", range(NUM_GROUPS))
@settings(max_examples=NUM_EXAMPLES)
@given(chat=CONVERSATIONS, tools=TOOLS, options=OPTIONS)
def test_a_sample(
    group: int, chat: list[dict[str, Any]], tools: list[Any], options: dict[str, Any], profiles: dict[str, Profile]
) -> None:
    check(profiles, group, chat, tools, options)


@pytest.mark.full
@pytest.mark.parametrize("group", range(NUM_GROUPS))
@settings(max_examples=NUM_EXAMPLES_IN_FULL)
@given(chat=CONVERSATIONS, tools=TOOLS, options=OPTIONS)
def test_many(
    group: int, chat: list[dict[str, Any]], tools: list[Any], options: dict[str, Any], profiles: dict[str, Profile]
) -> None:
    check(profiles, group, chat, tools, options)


CALL = {"function": {"name": "f", "arguments": '{"a": 1}'}}
ODD: dict[str, list[dict[str, Any]]] = {
    "nothing but a system message": [{"role": "system", "content": "q"}],
    "nothing but an answer": [{"role": "assistant", "content": "q"}],
    "nothing but a result": [{"role": "tool", "content": "q"}],
    "a call before any question": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "q"}],
    "a call without a result": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [CALL, CALL]},
        {"role": "user", "content": "q"},
    ],
    "a question instead of an answer to a result": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "q"},
        {"role": "user", "content": "q"},
    ],
    "a system message after a call": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "q", "tool_calls": [CALL]},
        {"role": "system", "content": "q"},
        {"role": "tool", "content": "q"},
    ],
    "more results than calls": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "function_call": CALL["function"]},
        {"role": "function", "name": "f", "content": "q"},
        {"role": "function", "name": "f", "content": None},
    ],
    "empty turns": [{"role": role, "content": ""} for role in ("user", "assistant", "system", "user", "tool", "user")],
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("num_tools", [0, 1])
def test_odd_conversations(name: str, num_tools: int, profiles: dict[str, Profile]) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}] * num_tools
    for profile in profiles.values():
        for add_generation_prompt in (True, False):
            profile.render(ODD[name], tools=tools, add_generation_prompt=add_generation_prompt)


@pytest.mark.parametrize("content", ["so far", [{"type": "text", "text": "so "}, {"type": "text", "text": "far"}]])
def test_any_model_goes_on_with_an_answer(content: Any, profiles: dict[str, Profile]) -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": content},
    ]
    options = {"add_generation_prompt": False, "continue_final_message": True}
    ends = {name: profile.render(chat, **options).text[-6:] for name, profile in profiles.items()}
    assert set(ends.values()) == {"so far" if isinstance(content, str) else "so \nfar"[-6:]}


@pytest.fixture
def first(profiles: dict[str, Profile]) -> Callable[..., str]:
    return lambda chat, **options: profiles["family chatml"].render(chat, **options).text


def test_nesting_without_end_is_refused(first: Callable[..., str]) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="deep"):
        first([{"role": "user", "content": "x"}], kwargs={"deep": deep})
