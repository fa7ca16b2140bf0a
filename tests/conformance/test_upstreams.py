"""Real servers that Hodios starts itself and asks for its clients: llama.cpp's, a second Hodios; whole also vLLM's."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from live_server import KEY, PATIENCE_S, start, until
from upstream_servers import (
    CONTEXT,
    MODEL,
    Upstreams,
    is_alive,
    kill,
    llama_cpp_python,
    llamacpp,
    second_hodios,
    settings_of,
    vllm,
)

from hodios.providers.remote import RemoteProvider

ORDINARY, LONG = ("llamacpp", "second"), ("llama_cpp_python", "vllm")
PARTNER = dict.fromkeys(("second", *LONG), "llamacpp") | {"llamacpp": "second"}
"""Who finishes the answers of a server that dies."""
QUESTION: Any = [{"role": "user", "content": "Name three rivers of Europe."}]
STORY: Any = [{"role": "user", "content": "Tell me a long story about a dog and a cat."}]
GREEDY: Any = {"temperature": 0, "seed": 1}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "size"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

each = pytest.mark.parametrize("name", [*ORDINARY, *(pytest.param(name, marks=pytest.mark.full) for name in LONG)])


@pytest.fixture(scope="module")
def upstreams(
    repository: Path,
    cache_home: Path,
    starter_model_path: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Upstreams]:
    """Servers started side by side: the ordinary ones, and of the others those that tests are run with."""
    cache = repository / ".cache"
    chosen = [llamacpp(starter_model_path), second_hodios(cache_home)]
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    if "llama_cpp_python" in asked:
        chosen.append(llama_cpp_python(cache, starter_model_path))
    if "vllm" in asked:
        chosen.append(vllm(cache, cache_home))
    home = tmp_path_factory.mktemp("upstreams")
    server = start(home, home / "log.txt", **settings_of(chosen))
    found = Upstreams(server, {each.name: each for each in chosen})
    try:
        for name in found.by_name:
            found.until_ready(name)
        yield found
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0, server.told()


@pytest.fixture(scope="module")
def client(upstreams: Upstreams) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{upstreams.server.url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


def warnings_of(answer: Any) -> set[str]:
    return {warning["code"] for warning in getattr(answer, "warnings", None) or ()}


def text_of(answer: Any) -> str:
    text = answer.choices[0].message.content
    assert isinstance(text, str)
    return text


@each
def test_what_it_lists_is_served(name: str, upstreams: Upstreams) -> None:
    status, report = upstreams.server.get(f"/v1/models/{MODEL}")
    assert status == 200
    assert set(report["providers"]) == set(upstreams.by_name)
    (offer,) = (offer for offer in report["offers"] if offer["provider"] == name)
    assert offer["context_length"] == CONTEXT
    assert ("logprobs" in offer["supported_parameters"]) is ("logprobs" in upstreams.by_name[name].features)


@each
def test_chat_and_its_stream_say_the_same(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    asked: Any = {"model": f"{name}/{MODEL}", "messages": QUESTION, "max_tokens": 16, **GREEDY}
    whole = client.chat.completions.create(**asked)
    assert whole.provider == name  # type: ignore[attr-defined]
    assert whole.choices[0].finish_reason == "length"
    *chunks, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text_of(whole)
    assert len(chunks) > 5, "it came in pieces"
    assert whole.usage is not None
    assert last.usage is not None
    assert whole.usage.completion_tokens == last.usage.completion_tokens
    if upstreams.by_name[name].counts_tokens:
        assert whole.usage.completion_tokens == 16
        assert "estimated_usage" not in warnings_of(whole)
    else:
        # A token is a chunk, or four characters, whichever makes more of them.
        assert whole.usage.completion_tokens == max(16, -(-len(text_of(whole)) // 4))
        assert "estimated_usage" in warnings_of(whole)


@each
def test_all_count_the_same_prompt(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    """The template is the file's own with every one of them, and the tokens are."""
    counts = set()
    for provider in {name, "second"}:
        answer = client.chat.completions.create(model=f"{provider}/{MODEL}", messages=QUESTION, max_tokens=1)
        assert answer.usage is not None
        counts.add(answer.usage.prompt_tokens)
    if upstreams.by_name[name].counts_tokens:
        assert len(counts) == 1
    else:
        assert -(-len(QUESTION[0]["content"]) // 4) in counts


@each
def test_completions(name: str, client: openai.OpenAI) -> None:
    asked: Any = {"model": f"{name}/{MODEL}", "prompt": "One, two, three, four,", "max_tokens": 8, **GREEDY}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text.lstrip().startswith("five, six")
    chunks = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text


def asked_before() -> Any:
    """Two questions about the weather and how they were answered: even a little model goes on like this."""
    messages: list[Any] = []
    for number, city in enumerate(("Rome", "Berlin")):
        function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        messages += [
            {"role": "user", "content": f"The weather in {city}?"},
            {"role": "assistant", "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": "sunny"},
            {"role": "assistant", "content": f"It is sunny in {city}."},
        ]
    return messages


@each
@pytest.mark.parametrize("stream", [False, True])
def test_tools(name: str, stream: bool, client: openai.OpenAI) -> None:
    """None of them but Hodios knows tools with this model's template: its calls are read out of its words here."""
    messages = [*asked_before(), {"role": "user", "content": "The weather in Paris?"}]
    asked: Any = {"model": f"{name}/{MODEL}", "messages": messages, "tools": [TOOL], "max_tokens": 60, **GREEDY}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            choice: Any = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    for call in choice.message.tool_calls:
        assert call.function.name == "get_weather"
        arguments = json.loads(call.function.arguments)
        jsonschema.validate(arguments, TOOL["function"]["parameters"])
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Paris"}


@each
def test_json_schema(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "shirt", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(
        model=f"{name}/{MODEL}",
        messages=[{"role": "user", "content": "Describe a shirt."}],
        response_format=form,
        max_tokens=80,
        **GREEDY,
    )
    if "json_schema" in upstreams.by_name[name].features:
        assert answer.choices[0].finish_reason == "stop"
        assert not warnings_of(answer)
    if "invalid_answer" in warnings_of(answer):
        assert "asked_again" in warnings_of(answer)
    else:
        jsonschema.validate(json.loads(text_of(answer)), SCHEMA)


@each
def test_logprobs_where_they_are_declared(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    answer = client.chat.completions.create(
        model=f"{name}/{MODEL}", messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=2, **GREEDY
    )
    logprobs = answer.choices[0].logprobs
    if "logprobs" not in upstreams.by_name[name].features:
        assert logprobs is None or not logprobs.content
        assert "unsupported_parameter" in warnings_of(answer)
        return
    assert logprobs is not None
    tokens = logprobs.content or []
    assert "".join(token.token for token in tokens) == text_of(answer)
    for token in tokens:
        assert len(token.top_logprobs) == 2
        assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0


@each
def test_a_seed_says_what_is_drawn(name: str, client: openai.OpenAI) -> None:
    def draw(seed: int) -> str:
        asked: Any = {"model": f"{name}/{MODEL}", "messages": STORY, "max_tokens": 12, "temperature": 1.5}
        return text_of(client.chat.completions.create(**asked, seed=seed))

    drawn = [draw(seed) for seed in (7, 7, 8, 9)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


@each
def test_stop_strings_end_the_answer(name: str, client: openai.OpenAI) -> None:
    asked: Any = {"model": f"{name}/{MODEL}", "messages": QUESTION, "max_tokens": 24, **GREEDY}
    whole = text_of(client.chat.completions.create(**asked))
    stop = re.findall(r"\w+", whole)[3]
    answer = client.chat.completions.create(**asked, stop=[stop])
    assert text_of(answer) == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


@each
async def test_it_tells_how_busy_it_is(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    """Under the names that the catalog has for servers of its kind."""
    provider = upstreams.asked_directly(name)
    if not upstreams.by_name[name].tells_load:
        assert await provider.loads() == {}
        return
    asked: Any = {"model": f"{name}/{MODEL}", "messages": STORY, "max_tokens": 1500, "stream": True, **GREEDY}
    await provider.start()
    try:
        with client.chat.completions.create(**asked, extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
            await until_running(provider, 1)
        await until_running(provider, 0)
    finally:
        await provider.aclose()


async def until_running(provider: RemoteProvider, num: int) -> None:
    """Metrics may be a step behind."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        loads = await provider.loads()
        if MODEL in loads and loads[MODEL].num_running == num:
            assert loads[MODEL].num_waiting == 0
            return
        assert time.monotonic() < deadline_s, loads
        await asyncio.sleep(0.05)


def broken_off(name: str, client: openai.OpenAI, upstreams: Upstreams, **more: Any) -> tuple[str, Any]:
    """What came of an answer before its server was killed, and the rest of the stream."""
    stream = client.chat.completions.create(messages=STORY, max_tokens=100, stream=True, **GREEDY, **more)
    text = ""
    while len(text) < 20:
        text += next(stream).choices[0].delta.content or ""
    kill(upstreams.main_pid(name))
    return text, stream


@each
def test_an_answer_whose_server_dies_ends_in_an_error(name: str, client: openai.OpenAI, upstreams: Upstreams) -> None:
    """And the server is started again, and answers."""
    num_restarts = upstreams.health(name)["restarts"]
    _, rest = broken_off(name, client, upstreams, model=f"{name}/{MODEL}")
    with pytest.raises(openai.APIError) as caught:
        list(rest)
    assert caught.value.body["code"] == "provider_error"  # type: ignore[index]
    upstreams.until_ready(name, num_restarts + 1)
    answer = client.chat.completions.create(model=f"{name}/{MODEL}", messages=QUESTION, max_tokens=4)
    assert answer.provider == name  # type: ignore[attr-defined]


@each
def test_an_answer_whose_server_dies_is_finished_by_another(
    name: str, client: openai.OpenAI, upstreams: Upstreams
) -> None:
    for each_of_both in (name, PARTNER[name]):
        upstreams.until_ready(each_of_both)
    order = {"provider": {"order": [name, PARTNER[name]]}}
    before, rest = broken_off(name, client, upstreams, model=MODEL, extra_body=order)
    chunks = list(rest)
    after = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert after, f"nothing came after {before!r}"
    (finish,) = (chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert finish in ("stop", "length")
    told = {code for chunk in chunks for code in warnings_of(chunk)}
    assert "continued" in told


def pauses_of(name: str, upstreams: Upstreams) -> list[str]:
    """How long it was waited before each new start, as far as it was told."""
    sentence = rf"launch/{name} ended unexpectedly; starting it again in ([\d.]+) s"
    return re.findall(sentence, upstreams.server.log.read_text())


def test_it_is_told_when_each_is_started_again(upstreams: Upstreams) -> None:
    """After both of the deaths above. The second pause is longer, unless the server has lived for a minute before."""
    for name in upstreams.by_name:
        until(lambda name=name: len(pauses_of(name, upstreams)) >= 2, upstreams.server.told)
        assert pauses_of(name, upstreams) in (["0.5", "1"], ["0.5", "0.5"])


def test_stopping_ends_everything(upstreams: Upstreams) -> None:
    """Also those that are just being started again."""
    upstreams.until_ready("llamacpp")
    pids = upstreams.all_pids()
    assert upstreams.main_pid("llamacpp") in pids
    assert upstreams.server.stop() == 0, upstreams.server.told()
    until(lambda: not any(map(is_alive, pids)), lambda: f"still there: {[pid for pid in pids if is_alive(pid)]}")
