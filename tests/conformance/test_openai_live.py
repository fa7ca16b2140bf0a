"""OpenAI's own Python client against the real server and the real model."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from live_server import KEY, MODEL, PATIENCE_S, LiveServer

QUESTION: list[Any] = [{"role": "user", "content": "Name three rivers of Europe."}]
ALIAS = "smollm2-135m-INSTRUCT"


class City(pydantic.BaseModel):
    name: str
    country: str
    is_capital: bool


@pytest.fixture(scope="module")
def client(live_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def client_async(live_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{live_server.url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


def content(answer: Any, index: int = 0) -> str:
    text = answer.choices[index].message.content
    assert isinstance(text, str)
    return text


def streamed(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 60, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**asked)
    assert whole.model == MODEL
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 60
    with client.chat.completions.create(**asked, stream=True) as stream:
        chunks = list(stream)
    assert streamed(chunks) == content(whole)
    assert len(chunks) > 10, "it came in pieces"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {chunk.system_fingerprint for chunk in chunks} == {whole.system_fingerprint}


async def test_stream_of_the_asynchronous_client(client_async: openai.AsyncOpenAI) -> None:
    stream = await client_async.chat.completions.create(
        model=ALIAS, messages=QUESTION, max_tokens=30, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    *others, last = chunks
    assert all(chunk.usage is None for chunk in others)
    assert last.choices == []
    assert last.usage is not None
    assert 1 <= last.usage.completion_tokens <= 30
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_stream_helper_of_the_client(client: openai.OpenAI) -> None:
    """The client's own accumulator is strict about what it puts together."""
    short = {"response_format": {"type": "regex", "regex": "[a-z]{3,9} [a-z]{3,9}"}}
    with client.chat.completions.stream(
        model=MODEL, messages=QUESTION, max_tokens=40, logprobs=True, top_logprobs=2, extra_body=short
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert content(final) == text
    logprobs = final.choices[0].logprobs
    assert logprobs is not None
    assert "".join(token.token for token in logprobs.content or ()) == text


def test_completions_with_echo_and_logprobs(client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    answer = client.completions.create(model=MODEL, prompt=prompt, echo=True, logprobs=2, max_tokens=4, temperature=0)
    (choice,) = answer.choices
    logprobs = choice.logprobs
    assert logprobs is not None
    assert answer.usage is not None
    assert choice.text.startswith(prompt)
    assert "".join(logprobs.tokens or ()) == choice.text
    assert len(logprobs.tokens or ()) == answer.usage.total_tokens
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    tokens, tops = logprobs.tokens or [], logprobs.top_logprobs or []
    assert all(choice.text[at:].startswith(token) for at, token in zip(logprobs.text_offset or [], tokens, strict=True))
    for token, logprob, top in list(zip(tokens, logprobs.token_logprobs, tops, strict=True))[1:]:
        assert top[token] == logprob <= 0
        assert len(top) in (2, 3)
    alone = client.completions.create(model=MODEL, prompt=prompt, echo=True, logprobs=2, max_tokens=0)
    assert alone.choices[0].text == prompt
    scored = alone.choices[0].logprobs
    assert scored is not None
    assert scored.token_logprobs == logprobs.token_logprobs[: len(scored.token_logprobs or ())]


def test_one_alternative_tells_whether_a_token_is_the_likeliest(client: openai.OpenAI) -> None:
    """Evaluations ask whether an answer is what greedy decoding says by comparing it with the one alternative."""
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is a purple", echo=True, logprobs=1, max_tokens=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    likeliest = [max(top, key=lambda token: top[token]) for top in (logprobs.top_logprobs or ())[1:]]
    assert likeliest[-1] != logprobs.tokens[-1] == " purple"
    assert likeliest[1] == logprobs.tokens[2] == " of"


def test_prompts_of_every_form(client: openai.OpenAI, live_server: LiveServer) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "temperature": 0, "seed": 3}
    ids = [
        httpx2.post(f"{live_server.url}/tokenize", json={"prompt": text}, headers=live_server.headers).json()["tokens"]
        for text in ("One, two,", "A, B,")
    ]
    alone = [client.completions.create(prompt=text, **asked).choices[0].text for text in ("One, two,", "A, B,")]
    for prompts in (["One, two,", "A, B,"], ids):
        answer = client.completions.create(prompt=prompts, **asked)
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert [choice.text for choice in answer.choices] == alone
    assert client.completions.create(prompt=ids[0], **asked).choices[0].text == alone[0]


def test_structured_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "sizes": {"type": "array", "items": {"type": "integer"}}},
        "required": ["colour", "sizes"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe a shirt."}],
        response_format={"type": "json_schema", "json_schema": {"name": "shirt", "schema": schema, "strict": True}},
        max_tokens=200,
        seed=5,
    )
    assert answer.choices[0].finish_reason == "stop"
    shirt = json.loads(content(answer))
    assert shirt["colour"] in ("red", "green")
    assert all(type(size) is int for size in shirt["sizes"])
    anything = client.chat.completions.create(
        model=MODEL, messages=QUESTION, response_format={"type": "json_object"}, max_tokens=300, seed=6
    )
    if anything.choices[0].finish_reason == "stop":
        assert type(json.loads(content(anything))) is dict


def test_pydantic_models_are_parsed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me about Paris."}],
        response_format=City,
        max_tokens=200,
        temperature=0,
    )
    city = answer.choices[0].message.parsed
    assert isinstance(city, City)
    assert city.name


def test_several_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, n=4, seed=9, temperature=1.5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [content(answer, index) for index in range(4)]
    assert len(set(texts)) > 1
    again = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, n=4, seed=9, temperature=1.5)
    assert [content(again, index) for index in range(4)] == texts
    other = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, n=4, seed=10, temperature=1.5)
    assert [content(other, index) for index in range(4)] != texts
    collected = [""] * 4
    for chunk in client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=12, n=4, seed=9, temperature=1.5, stream=True
    ):
        collected[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert collected == texts


def test_stop_strings(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 40, "temperature": 0, "seed": 2}
    whole = content(client.chat.completions.create(**asked))
    stop = whole[len(whole) // 2 :][:6]
    answer = client.chat.completions.create(**asked, stop=["\0never", stop])
    assert content(answer) == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    with client.chat.completions.create(**asked, stop=stop, stream=True) as stream:
        assert streamed(stream) == content(answer)


def test_a_repeated_prompt_is_found_in_the_cache(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": f"{uuid.uuid4()} " + "Tell me about rivers. " * 40}]

    def cached_tokens(**extra: Any) -> int:
        usage = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=2, extra_body=extra).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens or 0

    assert cached_tokens() < 64, "no more than the template's beginning"
    assert cached_tokens() > 100
    assert cached_tokens(cache_salt="another") == 0


def test_models(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(ALIAS).id == MODEL


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=2.5)
    assert (bad.value.status_code, bad.value.param, bad.value.code) == (400, "temperature", "invalid_value")
    assert bad.value.type == "invalid_request_error"
    assert "2.5" in bad.value.message
    assert bad.value.request_id
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="word " * 9000, max_tokens=1)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="SmolLM2-136M", messages=QUESTION)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert MODEL in missing.value.message
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="wrong").chat.completions.create(model=MODEL, messages=QUESTION)
    assert unknown.value.code == "invalid_api_key"
    assert unknown.value.type == "authentication_error"


def test_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=2,
        extra_body={"foo": 1, "min_p": 0.1},
        extra_headers={"x-request-id": "of-mine"},
    )
    assert raw.headers["x-request-id"] == raw.request_id == "of-mine"
    assert raw.headers["x-hodios-provider"] == "local"
    assert raw.headers["x-hodios-attempts"] == "1"
    assert raw.headers["x-hodios-ignored"] == "foo"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert float(raw.headers["x-hodios-overhead-ms"]) >= 0
    answer = raw.parse()
    assert answer._request_id == "of-mine"
    assert [warning["param"] for warning in (answer.model_extra or {})["warnings"]] == ["foo"]


async def test_a_seeded_answer_is_the_same_alone_and_in_a_crowd(client_async: openai.AsyncOpenAI) -> None:
    """Tokens are the same; in float32 the last digits of log-probabilities need not be (sums in another order)."""

    async def ask(number: int) -> tuple[str, list[str], list[float]]:
        answer = await client_async.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Tell me something about the number {number}. " * (1 + number % 5)}],
            max_tokens=20 + number,
            seed=number,
            logprobs=True,
            temperature=1.1,
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        tokens = logprobs.content or ()
        return content(answer), [token.token for token in tokens], [token.logprob for token in tokens]

    alone = await ask(7)
    crowd = await asyncio.gather(*(ask(number) for number in range(16)))
    assert crowd[7][:2] == alone[:2]
    assert crowd[7][2] == pytest.approx(alone[2], abs=1e-4)
    assert all(math.isfinite(logprob) for _, _, logprobs in crowd for logprob in logprobs)
    assert len({text for text, _, _ in crowd}) > 8


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        " leading and trailing  \n\n\tspaces \r\n",
        "naïve café 北京 🦜👩‍👩‍👧 \u200d\ufeff é 12345 ½",
        "def f(x):\n    return x ** 2  # ok",
        "<|im_start|>user\nhi<|im_end|>",
        "",
    ],
)
def test_tokenizer_round_trip(live_server: LiveServer, text: str) -> None:
    with httpx2.Client(base_url=live_server.url, headers=live_server.headers, timeout=PATIENCE_S) as http:
        encoded = http.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
        assert encoded["count"] == len(encoded["tokens"]) == len(encoded["token_strs"])
        assert http.post("/detokenize", json={"tokens": encoded["tokens"]}).json() == {"prompt": text}


def test_tokenizer_for_evaluations(live_server: LiveServer) -> None:
    """What lm-evaluation-harness does with a remote tokenizer: its tokens are those that are counted and scored."""
    with httpx2.Client(base_url=live_server.url, headers=live_server.headers, timeout=PATIENCE_S) as http:
        info = http.get("/tokenizer_info").json()
        assert (info["eos_token"], info["model_max_length"]) == ("<|im_end|>", 2048)
        assert "<|im_start|>" in info["chat_template"]
        context, continuation = "The quick brown fox", " jumps over the lazy dog"
        ids = http.post("/tokenize", json={"prompt": context + continuation, "add_special_tokens": False}).json()
        num_context = http.post("/tokenize", json={"prompt": context, "add_special_tokens": False}).json()["count"]
        scored = http.post(
            "/v1/completions",
            json={
                "model": MODEL,
                "prompt": [ids["tokens"]],
                "max_tokens": 1,
                "logprobs": 1,
                "echo": True,
                "temperature": 0,
            },
        ).json()
        logprobs = scored["choices"][0]["logprobs"]
        assert "".join(logprobs["tokens"][num_context : ids["count"]]) == continuation
        assert len(logprobs["tokens"]) == ids["count"] + 1
        assert -40 < sum(logprobs["token_logprobs"][num_context : ids["count"]]) < 0
        chat = http.post("/tokenize", json={"messages": QUESTION}).json()["count"]
        answer = http.post("/v1/chat/completions", json={"model": MODEL, "messages": QUESTION, "max_tokens": 1}).json()
        assert answer["usage"]["prompt_tokens"] == chat
