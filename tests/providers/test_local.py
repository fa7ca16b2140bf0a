"""The local provider over the real client and a scripted engine."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_engine import (
    BOS,
    CARD,
    EOS,
    IM_END,
    VOCAB_SIZE,
    ByteTokenizer,
    Frames,
    chat,
    collect,
    continuation,
    ends,
    engine,
    frames_of,
    hello,
    provider,
    refusal,
    request,
    saying,
    texts,
    usage,
)

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient
from hodios.engine.messages import Abort, Output, Refused, Submit
from hodios.errors import (
    HodiosError,
    InsufficientQuota,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProviderError,
    SetupError,
)
from hodios.events import Event, Started, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.providers.local import LocalModel, LocalProvider, fingerprint, load_local_model
from hodios.store.records import KeyRecord
from hodios.types import Attempt, Grammar, ModelCard, Request, Sampling


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


async def test_a_completion(path: Path) -> None:
    async with provider(path, saying("hello €")) as (local, scripted):
        events = await collect(local, request("abc", max_tokens=20, caller="key1", cache_salt="s"))
        (card,) = local.models()
        assert card.fingerprint.startswith("fp_")
        assert len(card.fingerprint) == 15
        assert events[0] == Started("local", CARD.id, card.fingerprint, 3, 0)
        assert texts(events) == {0: "hello €"}
        assert ends(events) == {0: Stopped(0, "stop")}
        assert usage(events) == Usage(prompt_tokens=3, completion_tokens=10)
        (submit,) = scripted.submits
        assert submit.prompt == [97, 98, 99]
        assert submit.max_tokens == 20
        assert submit.eos_ids == [EOS, IM_END]
        assert submit.caller == "key1"
        assert submit.prompt_logprobs is None


async def test_everything_for_the_engine_reaches_it(path: Path) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, seed=7, stop_token_ids=(5,), logit_bias=((3, 1.5),), logprobs=3)
    grammar = Grammar("regex", "a+")
    async with provider(path, saying("ok")) as (local, scripted):
        asked = replace(request("abc", grammar=grammar, n=2, echo=True), sampling=sampling)
        await collect(local, asked)
        (submit,) = scripted.submits
        assert (submit.sampling, submit.grammar, submit.n, submit.prompt_logprobs) == (sampling, grammar, 2, 3)


async def test_salts_of_different_callers_never_meet(path: Path) -> None:
    async with provider(path, saying("ok")) as (local, scripted):
        pairs = [
            ("", ""),
            ("", "1"),
            ("1", ""),
            ("a", "b"),
            ("ab", ""),
            ("", "ab"),
            ("1:", "a"),
            ("1", ":a"),
            ("", "0:"),
        ]
        for caller, salt in pairs:
            await collect(local, request(caller=caller, cache_salt=salt))
        assert len({submit.salt for submit in scripted.submits}) == len(pairs)


async def test_nothing_runs_before_the_first_event_is_asked_for(path: Path) -> None:
    async with provider(path, saying("x")) as (local, scripted):
        await local.generate(request()).aclose()
        await collect(local, request())
        assert len(scripted.submits) == 1


class Payer:
    """Of one request after the other: what was reserved for prompts, and what they came to."""

    def __init__(self, error: HodiosError | None = None) -> None:
        self.key = KeyRecord(id="k", prefix="", digest=b"", created_at_s=0.0)
        self.error = error
        self.reserved: list[int | None] = []
        self.charged: list[int] = []

    async def reserve(
        self, number: int, card: ModelCard, request: Request, num_prompt_tokens: int | None = None
    ) -> None:
        self.reserved.append(num_prompt_tokens)
        if self.error is not None:
            raise self.error

    def progress(self, number: int, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> bool:
        return True

    def settle(self, number: int, attempt: Attempt) -> None:
        self.charged.append(attempt.prompt_tokens)


async def paid(local: LocalProvider, asked: Request, payer: Any) -> list[Event]:
    return [event async for event in Gateway([local]).generate(asked, tab=payer)]


async def test_as_many_prompt_tokens_are_reserved_as_are_charged(path: Path) -> None:
    rng = random.Random(7)

    def text() -> str:
        return "".join(rng.choice(["a", "é", "€", "🙂", "<s>", "\n"]) for _ in range(rng.randrange(1, 200)))

    payer = Payer()
    async with provider(path, saying("x"), context_length=10_000) as (local, scripted):
        for _ in range(15):
            raw: list[Any] = [text() if rng.random() < 0.7 else (1, 2, 3) for _ in range(rng.randrange(1, 4))]
            await paid(local, request(*raw, n=2), payer)
            await paid(local, chat(*(text() for _ in range(rng.randrange(1, 4)))), payer)
        assert payer.reserved == payer.charged
        assert sum(payer.charged) == sum(len(submit.prompt) for submit in scripted.submits) > 1000


async def test_what_is_not_paid_is_read_and_not_generated(path: Path) -> None:
    payer = Payer(InsufficientQuota("spent"))
    async with provider(path, saying("x")) as (local, scripted):
        with pytest.raises(InsufficientQuota):
            await paid(local, request("abc"), payer)
        assert payer.reserved == [3]
        with pytest.raises(InvalidRequest):
            await paid(local, request("abc" * 50), payer)
        assert payer.reserved == [3], "what cannot be answered is not paid"
        assert scripted.submits == []


async def test_closing_stops_the_engine(path: Path) -> None:
    def endless(submit: Submit) -> Frames:
        while True:
            yield [Output(id=submit.id, index=index, tokens=[97]) for index in range(submit.n)]

    async with provider(path, endless) as (local, scripted):
        events = Gateway([local]).generate(request("a", "b", n=2))
        async for event in events:
            if isinstance(event, Text) and event.completion_tokens >= 3:
                break
        await events.aclose()
        aborts = {(await scripted.aborts.get()).id, (await scripted.aborts.get()).id}
        assert aborts == {submit.id for submit in scripted.submits}
        scripted.may_go_on.clear()
        waiting = asyncio.create_task(collect(local, request("c")))
        while len(scripted.submits) < 3:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await scripted.aborts.get() == Abort(scripted.submits[2].id)


async def test_failures_of_the_engine(path: Path) -> None:
    messages: dict[int, Sequence[Output | Refused | None]] = {
        ord("e"): [Output(id=0, index=0, tokens=[], finish_reason="error", error="the grammar died")],
        ord("f"): [Refused(id=0, reason="full", message="256 requests wait")],
        ord("i"): [Refused(id=0, reason="invalid", message="bad schema", param="response_format")],
        ord("k"): [None],
    }

    def script(submit: Submit) -> Frames:
        yield [message and replace(message, id=submit.id) for message in messages[submit.prompt[0]]]

    async with provider(path, script) as (local, _):
        failure = await refusal(local, request("e"))
        assert (type(failure), failure.message) == (ProviderError, "the grammar died")
        failure = await refusal(local, request("f"))
        assert isinstance(failure, Overloaded)
        assert failure.retry_after
        failure = await refusal(local, request("i"))
        assert (type(failure), failure.param) == (InvalidRequest, "response_format")
        failure = await refusal(local, request("k"))
        assert (type(failure), failure.code, failure.retry_after) == (Overloaded, "engine_restarted", 1)


async def test_a_model_that_is_not_there(path: Path) -> None:
    tokenizer: Any = ByteTokenizer()
    client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
    local = LocalProvider([LocalModel(CARD, tokenizer, None, client)])
    with pytest.raises(ModelNotFound):
        await anext(local.generate(replace(request(), model="other")))
    assert local.tokenizer("other") is None
    await local.start()
    failure = await refusal(local, request())
    assert isinstance(failure, Overloaded)
    assert failure.retry_after
    assert [(health.model, health.state) for health in local.health()] == [(CARD.id, "loading")]
    assert [card.id for card in local.models()] == [CARD.id]
    async with engine(path, saying("x")):
        await client.wait_ready()
        await collect(local, request())
        (health,) = local.health()
        assert (health.state, health.message, health.num_restarts) == ("ready", "", 0)
        assert health.stats["free_blocks"] == 7
    await local.aclose()
    await local.aclose()
    assert [health.state for health in local.health()] == ["failed"]
    assert isinstance(await refusal(local, request()), ProviderError)


async def test_the_card_tells_what_the_engine_serves(path: Path) -> None:
    async with provider(path, saying("x"), greeting=hello(context_length=32)) as (local, _):
        (card,) = local.models()
        assert (card.context_length, card.max_output_tokens) == (32, 32)
        assert (await refusal(local, request("a" * 32))).param == "prompt"
    changes = [{"weights_hash": "v"}, {"representation": "f32"}, {"engine_version": "2"}]
    assert len({fingerprint(CARD, hello(**change)) for change in [{}, *changes]}) == 4
    assert fingerprint(CARD, hello()) == fingerprint(CARD, hello(pid=2, load_s=9.0))


async def test_the_tokenizer_door(path: Path) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(add_bos=True)) as (local, _):
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert await door.encode("ab", add_special_tokens=True) == [BOS, 97, 98]
        assert await door.encode("ab", add_special_tokens=False) == [97, 98]
        assert await door.decode([97, IM_END, 0xFF]) == "a<|im_end|>\ufffd"
        assert await door.decode([]) == ""
        assert await door.token_strings([97, EOS]) == ["a", "</s>"]
        assert await door.decode([97] * 30_000) == "a" * 30_000
        for wrong in ([VOCAB_SIZE], [0, -1]):
            with pytest.raises(InvalidRequest, match="tokens"):
                await door.decode(wrong)
            with pytest.raises(InvalidRequest, match="tokens"):
                await door.token_strings(wrong)
        info = door.info()
        assert {"tokenizer_class", "bos_token", "eos_token", "pad_token", "model_max_length", "chat_template"} <= set(
            info
        )
        assert (info["bos_token"], info["eos_token"], info["model_max_length"]) == ("<s>", "</s>", 64)


async def test_a_crowd(path: Path) -> None:
    """64 requests at once, some left early: everybody gets their own answer, and all the others are aborted."""
    dice = random.Random(5)

    def script(submit: Submit) -> Frames:
        text = bytes(submit.prompt) * 4
        return frames_of(*(continuation(submit, index, text) for index in range(submit.n)))

    async def ask(local: LocalProvider, number: int) -> bool:
        prompt, n = f"[{number} €]", dice.randint(1, 3)
        if number % 4 == 3:
            events = local.generate(request(prompt, n=n))
            await anext(events)
            await events.aclose()
            return True
        stop = (f"]{prompt[:3]}",) if number % 4 == 1 else ()
        expected = prompt[:-1] if stop else prompt * 4
        return texts(await collect(local, request(prompt, n=n, stop=stop))) == dict.fromkeys(range(n), expected)

    async with provider(path, script) as (local, _):
        assert all(await asyncio.gather(*(ask(local, number) for number in range(64))))
        assert local.health()[0].state == "ready"


def saved_tokenizer(folder: Path, **metadata: object) -> Path:
    """A SentencePiece vocabulary of bytes and a few words, as `Tokenizer.save` writes it."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "hi", "▁hi"]
    types = [2, 3, 3, *[6] * 256, *[1] * 5]
    tokenizer = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": pieces,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.scores": [-float(number) for number in range(len(pieces))],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            **metadata,
        }
    )
    tokenizer.save(folder / "tokenizer.json")
    return folder / "tokenizer.json"


async def test_a_prepared_model_is_loaded(path: Path) -> None:
    template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %} {{ strftime_now('%Y') }}"
    )
    tokenizer_path = saved_tokenizer(path.parent, **{"tokenizer.chat_template": template})
    model = await load_local_model(CARD, tokenizer_path, path, clock=lambda: datetime(1999, 12, 31))
    local = LocalProvider([model])

    def script(submit: Submit) -> Frames:
        euro = [3 + byte for byte in "€".encode()]
        return [[output] for output in continuation(submit, 0, [263, *euro, 263, 2])]

    async with engine(path, script, hello(vocab_size=264)) as scripted:
        await local.start()
        await model.client.wait_ready()
        events = await collect(local, chat("hi"))
        assert texts(events) == {0: " hi€ hi"}
        assert ends(events) == {0: Stopped(0, "stop")}
        (submit,) = scripted.submits
        assert submit.prompt[0] == 1
        assert 1 not in submit.prompt[1:]
        assert submit.eos_ids == [2]
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert await door.decode(submit.prompt[1:]) == "hi 1999"
        assert door.info()["chat_template"] == template
        assert texts(await collect(local, request("hi", echo=True)), is_echo=True) == {0: "hi"}
    await local.aclose()


async def test_a_base_model_cannot_chat(path: Path) -> None:
    tokens = [*map(chr, range(0x21, 0x7F)), "<|endoftext|>"]
    fields: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [*[1] * (len(tokens) - 1), 3],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": len(tokens) - 1,
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
    }
    model = await load_local_model(CARD, saved_tokenizer(path.parent, **fields), path)
    local = LocalProvider([model])
    async with engine(path, lambda submit: [continuation(submit, 0, [64])], hello(vocab_size=95)):
        await local.start()
        await model.client.wait_ready()
        failure = await refusal(local, chat("x"))
        assert isinstance(failure, InvalidRequest)
        assert failure.param == "messages"
        assert texts(await collect(local, request("x"))) == {0: "a"}
        door = local.tokenizer(CARD.id)
        assert door is not None
        assert door.info()["chat_template"] is None
    await local.aclose()


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "no JSON"])
async def test_a_tokenizer_file_that_is_none(path: Path, content: str) -> None:
    file = path.parent / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(SetupError):
        await load_local_model(CARD, file, path)
