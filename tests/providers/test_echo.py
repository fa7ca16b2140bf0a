from __future__ import annotations

import math
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unrouted import unrouted

from hodios.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall
from hodios.gateway import Gateway
from hodios.providers.echo import END_ID, MODEL_ID, START_ID, EchoProvider
from hodios.types import Grammar, Request, Sampling, Tool


async def events_of(provider: EchoProvider | None = None, **values: Any) -> list[Event]:
    """Through the gateway, so that the event grammar is checked as well."""
    values.setdefault("prompts", None if "messages" in values else ("Hello",))
    asked = Request(id="x", model=MODEL_ID, **values)
    async with aclosing(Gateway([provider or EchoProvider(context_length=4096)]).generate(asked)) as events:
        return unrouted([event async for event in events])


def texts(events: list[Event], *, is_echo: bool = False) -> dict[int, str]:
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, Text) and event.is_echo == is_echo:
            found[event.index] = found.get(event.index, "") + event.text
    return found


def stops(events: list[Event]) -> list[tuple[int, str, str | int | None]]:
    return [(event.index, event.finish_reason, event.stop_reason) for event in events if isinstance(event, Stopped)]


@given(st.text(min_size=1, max_size=60))
async def test_it_says_what_it_was_asked(prompt: str) -> None:
    events = await events_of(prompts=(prompt,))
    assert isinstance(events[0], Started)
    assert texts(events) == {0: prompt}
    assert stops(events) == [(0, "stop", None)]
    last = events[-1]
    assert isinstance(last, Finish)
    assert last.usage.prompt_tokens == len(prompt.encode())
    assert last.usage.completion_tokens == len(prompt.encode()) + 1


@given(st.text(max_size=20), st.integers(1, 30))
async def test_the_text_is_a_prefix_cut_at_tokens(prompt: str, limit: int) -> None:
    events = await events_of(prompts=(prompt,), max_tokens=limit)
    raw = prompt.encode()[:limit]
    assert texts(events).get(0, "") == raw.decode(errors="replace")
    assert stops(events)[0][1] == ("length" if limit <= len(prompt.encode()) else "stop")


async def test_a_chat_repeats_its_last_message_and_reads_the_whole_template() -> None:
    messages = ({"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "Hé"}]})
    events = await events_of(messages=messages)
    assert texts(events) == {0: "Hé"}
    template = "<system\nS>\n<user\nHé>\n<assistant\n"
    assert events[0] == Started("echo", MODEL_ID, events[0].fingerprint, len(template.encode()))  # type: ignore[union-attr]


async def test_choices_and_prompts_have_their_own_indices() -> None:
    events = await events_of(prompts=("ab", (99, 100)), n=2, best_of=2)
    assert texts(events) == {0: "ab", 1: "ab", 2: "cd", 3: "cd"}
    assert sorted(stop[0] for stop in stops(events)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "text", "stop"),
    [
        ({"stop": ("ll",)}, "He", (0, "stop", "ll")),
        ({"stop": ("ll",), "include_stop": True}, "Hell", (0, "stop", "ll")),
        ({"stop": ("xx", "o")}, "Hell", (0, "stop", "o")),
        ({"stop": ("zz",)}, "Hello", (0, "stop", None)),
        ({"sampling": Sampling(stop_token_ids=(101,))}, "H", (0, "stop", 101)),
        ({"sampling": Sampling(stop_token_ids=(101,)), "include_stop": True}, "He", (0, "stop", 101)),
        ({"sampling": Sampling(min_tokens=7), "max_tokens": 9}, "HelloHe", (0, "stop", None)),
        ({"sampling": Sampling(ignore_eos=True), "max_tokens": 12}, "HelloHelloHe", (0, "length", None)),
        ({"sampling": Sampling(logit_bias=((108, -100.0),))}, "Heo", (0, "stop", None)),
        ({"sampling": Sampling(logit_bias=((108, 100.0),))}, "ll", (0, "stop", None)),
    ],
)
async def test_parameters_shape_the_answer(values: dict[str, Any], text: str, stop: tuple[Any, ...]) -> None:
    events = await events_of(**values)
    assert texts(events)[0] == text
    assert stops(events) == [stop]


async def test_echo_gives_the_prompt_with_its_logprobs() -> None:
    events = await events_of(echo=True, max_tokens=0, sampling=Sampling(logprobs=2))
    assert texts(events, is_echo=True) == {0: "Hello"}
    assert texts(events) == {}
    assert stops(events) == [(0, "length", None)]
    echoed = next(event for event in events if isinstance(event, Text))
    assert [token.logprob for token in echoed.logprobs] == [None, *[-math.log(2)] * 4]
    assert [len(token.top) for token in echoed.logprobs] == [0, 2, 2, 2, 2]
    assert echoed.logprobs[1].top[0][0] == ord("e")


async def test_tokens_of_a_broken_character_come_without_text() -> None:
    events = await events_of(prompts=("é",), sampling=Sampling(logprobs=0))
    pieces = [(event.text, event.logprobs[0].raw) for event in events if isinstance(event, Text)]
    assert pieces == [("", b"\xc3"), ("é", b"\xa9"), ("", b"<|im_end|>")]


async def test_too_long_a_prompt_is_refused_with_numbers() -> None:
    provider = EchoProvider(context_length=8)
    with pytest.raises(ContextLengthExceeded, match="at most 8"):
        await events_of(provider, prompts=("123456",), max_tokens=3)
    with pytest.raises(ContextLengthExceeded):
        await events_of(provider, prompts=("12345678",))
    assert texts(await events_of(provider, prompts=("123456",), max_tokens=2)) == {0: "12"}


async def test_what_it_cannot_do_it_refuses() -> None:
    with pytest.raises(UnsupportedParameter):
        await events_of(grammar=Grammar("json_object"))
    with pytest.raises(InvalidRequest, match="300"):
        await events_of(prompts=((300,),))


THOUGHT = "<think>Hm. é</think>"
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "}"}}\n</tool_call>'
TOOLS = (Tool("f"), Tool("g"))


async def chat(message: str, **values: Any) -> list[Event]:
    return await events_of(messages=({"role": "user", "content": message},), **values)


def calls(events: list[Event]) -> list[tuple[int, int, str, str]]:
    names = {(e.index, e.number): e.name for e in events if isinstance(e, ToolCall) and e.id}
    slices = {
        key: [e.arguments for e in events if isinstance(e, ToolCall) and (e.index, e.number) == key] for key in names
    }
    return [(*key, name, "".join(slices[key])) for key, name in names.items()]


async def test_thoughts_and_calls_are_read() -> None:
    events = await chat(THOUGHT + "So: " + CALL + CALL, tools=TOOLS, n=2, best_of=2)
    assert calls(events) == [(index, number, "f", '{"a": "}"}') for number in (0, 1) for index in (0, 1)]
    assert len({event.id for event in events if isinstance(event, ToolCall)} - {""}) == 4
    assert {index: text.strip() for index, text in texts(events).items()} == {0: "So:", 1: "So:"}
    assert stops(events) == [(0, "tool_calls", None), (1, "tool_calls", None)]
    thoughts = [event.text for event in events if isinstance(event, Reasoning) and event.index == 0]
    assert "".join(thoughts) == "Hm. é"
    usage = next(event.usage for event in events if isinstance(event, Finish))
    assert 0 < usage.reasoning_tokens <= 2 * len(THOUGHT.encode())
    again = await chat(THOUGHT + "So: " + CALL + CALL, tools=TOOLS, n=2, best_of=2)
    assert again == events


async def test_without_tools_a_call_is_text_and_thoughts_can_be_hidden() -> None:
    for values in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        assert texts(await chat(CALL, **values)) == {0: CALL}
    events = await chat(THOUGHT + "x", has_reasoning=False)
    assert texts(events) == {0: "x"}
    assert not any(isinstance(event, Reasoning) for event in events)
    assert texts(await events_of(prompts=(THOUGHT + CALL,))) == {0: THOUGHT + CALL}


@pytest.mark.parametrize(
    ("message", "name", "call"),
    [
        ('{"b": [1]}', "", ("f", '{"b": [1]}')),
        ("no object", "g", ("g", "{}")),
        ("[1]", "g", ("g", "{}")),
        ("[" * 5000, "", ("f", "{}")),
        (CALL, "g", ("f", '{"a": "}"}')),
    ],
)
async def test_a_required_call_is_made(message: str, name: str, call: tuple[str, str]) -> None:
    provider = EchoProvider()
    messages = ({"role": "user", "content": message},)
    events = await events_of(provider, messages=messages, tools=TOOLS, tool_choice="required", tool_name=name)
    assert calls(events) == [(0, 0, *call)]
    assert stops(events) == [(0, "tool_calls", None)]


@given(st.text(max_size=40), st.integers(1, 60))
async def test_whatever_is_said_keeps_the_grammar_of_events(text: str, limit: int) -> None:
    for message in (
        text,
        f"<think>{text}",
        f"{CALL}{text}",
        f'<tool_call>{{"name": "f", "arguments": {text}}}</tool_call>',
    ):
        events = await chat(message, tools=TOOLS, max_tokens=limit, sampling=Sampling(logprobs=1))
        assert (stops(events)[0][1] == "tool_calls") <= bool(calls(events))


@given(st.text(max_size=40) | st.builds("<tool_call>{}</tool_call>".format, st.text(max_size=20)))
async def test_required_is_kept_whatever_is_said(text: str) -> None:
    assert calls(await chat(text, tools=TOOLS, tool_choice="required"))


async def test_documents_are_not_read_and_that_is_said() -> None:
    assert [e.warning.param for e in await chat("x", documents=({},)) if isinstance(e, Noticed)] == ["documents"]


async def test_it_counts_what_is_running() -> None:
    provider = EchoProvider()
    asked = Request(id="x", model=MODEL_ID, prompts=("ab",))
    events = provider.generate(asked)
    await anext(events)
    assert provider.health()[0].stats == {"num_running": 1.0}
    await events.aclose()
    assert provider.health()[0].stats == {"num_running": 0.0}


@given(st.text(max_size=40))
async def test_the_tokenizer_goes_there_and_back(text: str) -> None:
    door = EchoProvider().tokenizer(MODEL_ID)
    tokens = await door.encode(text, add_special_tokens=True)
    assert await door.decode(tokens) == text
    assert len(await door.token_strings(tokens)) == len(tokens)


async def test_the_tokenizer_knows_the_template() -> None:
    door = EchoProvider().tokenizer(MODEL_ID)
    messages = [{"role": "user", "content": "x"}]
    options: dict[str, Any] = {"template_kwargs": None}
    whole = await door.encode_messages(messages, add_generation_prompt=True, continue_final_message=False, **options)
    assert await door.decode(whole) == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    assert whole.count(START_ID) == 2
    open_end = await door.encode_messages(messages, add_generation_prompt=False, continue_final_message=True, **options)
    assert await door.decode(open_end) == "<|im_start|>user\nx"
    assert await door.encode(door.info()["eos_token"], add_special_tokens=False) == [END_ID]
    with pytest.raises(InvalidRequest):
        await door.decode([258])
