"""What is read in one go says the same as what is read step by step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.reasoning import PlainParser, ReasoningParser
from hodios.events import Event, Noticed, Reasoning, Stopped, Text, ToolCall
from hodios.providers.draft import Draft, Reading
from hodios.providers.openai import ChatReader
from hodios.providers.plain import plain_answer
from hodios.providers.rules import Rules
from hodios.types import Request

INDEX = 3
REQUEST = Request(id="chat-1", model="m", messages=({"role": "user", "content": "Hi"},))
WORDS = st.text(alphabet=st.sampled_from(" \n\t<>/abcthink漢é\ud83d\ude00�"), max_size=24)
NOTHINGS = st.sampled_from([None, "", [], {}, 0, False])
MESSAGES = st.fixed_dictionaries(
    {"content": WORDS | st.none()},
    optional={
        "role": st.just("assistant"),
        "refusal": NOTHINGS | WORDS,
        "tool_calls": NOTHINGS | st.just([{"id": "a", "function": {"name": "f", "arguments": "{}"}}]),
        "function_call": NOTHINGS | st.just({"name": "f", "arguments": "{}"}),
        "reasoning": NOTHINGS | WORDS,
        "reasoning_content": NOTHINGS | WORDS,
        "annotations": st.just([]),
    },
)
CHOICES = st.fixed_dictionaries(
    {"message": MESSAGES},
    optional={
        "index": st.sampled_from([0, None, False, 1, "0"]),
        "finish_reason": st.sampled_from(
            [None, "", "stop", "STOP", "length", "tool_calls", "content_filter", "eos", 7]
        ),
        "stop_reason": st.sampled_from([None, "", 0, 13, "###", True]),
        "logprobs": NOTHINGS,
        "delta": NOTHINGS | st.just({"content": "else"}),
    },
)
COUNTS = st.sampled_from([0, 1, 46, -1, None, "7"])
USAGES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "prompt_tokens_details": st.none() | st.just({"cached_tokens": 5}),
        "completion_tokens_details": st.none() | st.just({"reasoning_tokens": 2}),
    },
)
DOCUMENTS = st.fixed_dictionaries({"choices": st.lists(CHOICES, max_size=2)}, optional={"usage": USAGES})


def step_by_step(document: dict[str, Any]) -> tuple[list[Event], Any]:
    """As a stream of one document is read."""
    reading = Reading(
        new_id=lambda seed, number: f"{seed}-{number}",
        parser=lambda: ReasoningParser(PlainParser()),
        has_reasoning=True,
    )
    reader = ChatReader(1, ())
    draft = Draft(INDEX, "seed", reading, Rules(REQUEST, has_native_answer=True))
    events = [event for said in reader.push(document) for event in draft.push(said)]
    for last in reader.finish():
        events += draft.end(last) if hasattr(last, "calls") else draft.push(last)  # type: ignore[arg-type] # told apart by its field
    return [*events, *draft.settle()], reader.usage


def told(events: list[Event]) -> list[Event]:
    """However a text was cut."""
    texts = [event for event in events if isinstance(event, Text)]
    whole = [Text(INDEX, "".join(text.text for text in texts), (), texts[-1].completion_tokens)] if texts else []
    return [*whole, *(event for event in events if not isinstance(event, Text))]


@given(DOCUMENTS)
def test_it_is_what_the_steps_come_to(document: dict[str, Any]) -> None:
    answer = plain_answer(document, INDEX)
    if answer is None:
        return
    events, usage = step_by_step(document)
    assert [answer.text, answer.stopped] == told(events)
    assert answer.usage == usage


def test_an_ordinary_answer_is_plain() -> None:
    document = {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello 😀"},
                "finish_reason": "length",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }
    answer = plain_answer(document, INDEX)
    assert answer is not None
    assert (answer.text, answer.stopped) == (Text(INDEX, "Hello 😀", (), 2), Stopped(INDEX, "length"))
    assert step_by_step(document)[0] == [answer.text, answer.stopped]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"content": "<think>Hm</think>Yes"}, Reasoning),
        ({"content": "Yes", "reasoning": "Hm"}, Reasoning),
        ({"content": "Yes", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, Noticed),
    ],
)
def test_more_than_text_is_left_to_the_steps(message: dict[str, Any], kind: type[Event]) -> None:
    document = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }
    assert plain_answer(document, INDEX) is None
    events, _ = step_by_step(document)
    assert any(isinstance(event, kind) for event in events)
    assert not any(isinstance(event, ToolCall) for event in events)
