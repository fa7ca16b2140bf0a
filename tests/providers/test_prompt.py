"""Requests into token ids that fit: what is refused, and what reaches the engine."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_engine import (
    BOS,
    CARD,
    EOS,
    VOCAB_SIZE,
    ByteTokenizer,
    chat,
    collect,
    engine,
    hello,
    lines,
    provider,
    refusal,
    request,
    saying,
    texts,
    usage,
)

from hodios.engine.client import EngineClient
from hodios.errors import (
    ContextLengthExceeded,
    InvalidRequest,
)
from hodios.providers.local import LocalModel, LocalProvider
from hodios.types import Request


@pytest.fixture
def path() -> Iterator[Path]:
    folder = tempfile.mkdtemp()
    yield Path(folder) / "engine.sock"
    shutil.rmtree(folder)


async def test_a_chat(path: Path) -> None:
    async with provider(path, saying("yes")) as (local, scripted):
        assert texts(await collect(local, chat("hi"))) == {0: "yes"}
        await collect(local, chat("hi", add_generation_prompt=False, template_kwargs={"x": 1}))
        assert [bytes(submit.prompt) for submit in scripted.submits] == [b"user:hi\n>", b"user:hi\n1"]
        assert scripted.submits[0].max_tokens == 64 - 9


@pytest.mark.parametrize("start", ["", "<s>"])
async def test_a_chat_begins_with_one_bos(path: Path, start: str) -> None:
    tokenizer: Any = ByteTokenizer(add_bos=True)
    async with engine(path, saying("yes")) as scripted:
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(CARD, tokenizer, lines(tokenizer, start), client)])
        await local.start()
        await client.wait_ready()
        await collect(local, chat("x"))
        assert scripted.submits[0].prompt == [BOS, *b"user:x\n>"]
        door = local.tokenizer(CARD.id)
        assert door is not None
        ids = await door.encode_messages(
            chat("x").messages or (), add_generation_prompt=True, continue_final_message=False, template_kwargs=None
        )
        assert ids == scripted.submits[0].prompt
        await local.aclose()


async def test_without_a_chat_template(path: Path) -> None:
    async with engine(path, saying("yes")):
        tokenizer: Any = ByteTokenizer()
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(CARD, tokenizer, None, client)])
        await local.start()
        await client.wait_ready()
        failure = await refusal(local, chat("x"))
        assert isinstance(failure, InvalidRequest)
        assert failure.param == "messages"
        await local.aclose()


@pytest.mark.parametrize(("bos_id", "eos_id", "start"), [(BOS, EOS, BOS), (None, EOS, EOS)])
async def test_an_empty_prompt_starts_a_document(path: Path, bos_id: int | None, eos_id: int, start: int) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(bos_id=bos_id, eos_id=eos_id)) as (local, scripted):
        for prompt in ("", ()):
            assert usage(await collect(local, request(prompt))).prompt_tokens == 1
        assert [submit.prompt for submit in scripted.submits] == [[start], [start]]


async def test_an_empty_prompt_without_any_token_to_start_with(path: Path) -> None:
    async with provider(path, saying("x"), tokenizer=ByteTokenizer(bos_id=None, eos_id=None)) as (local, _):
        assert (await refusal(local, request(""))).param == "prompt"


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        (request((1, VOCAB_SIZE)), "prompt", f"{VOCAB_SIZE}; the ids of this model are 0 … {VOCAB_SIZE - 1}"),
        (request((-1,)), "prompt", "-1"),
        (request(stop_token_ids=(VOCAB_SIZE,)), "stop_token_ids", f"{VOCAB_SIZE}"),
        (request(logit_bias=((10**6, 1.0),)), "logit_bias", "1000000"),
        (request(max_tokens=0), "max_tokens", "echo"),
        (
            request("a" * 60, max_tokens=5),
            "max_tokens",
            "65 together; the context of tiny/bytes holds 64. Ask for at most 4",
        ),
        (request("a" * 64), "prompt", "64 tokens; the context of tiny/bytes holds 64"),
        (request("a" * 65, max_tokens=1), "prompt", "65 tokens"),
        (request("a" * 65, max_tokens=0, echo=True), "prompt", "65 tokens"),
        (chat("a" * 70), "messages", "context"),
        (chat("a" * 50, max_tokens=20), "max_tokens", "context"),
    ],
)
async def test_what_does_not_fit_is_refused(path: Path, asked: Request, param: str, words: str) -> None:
    async with provider(path, saying("x")) as (local, scripted):
        failure = await refusal(local, asked)
        assert isinstance(failure, InvalidRequest)
        assert isinstance(failure, ContextLengthExceeded) == ("context" in words or "tokens" in words)
        assert failure.param == param
        assert words in failure.message
        assert scripted.submits == []


async def test_the_longest_that_fits(path: Path) -> None:
    async with provider(path, saying("xxxxxxx")) as (local, scripted):
        await collect(local, request("a" * 60, max_tokens=4))
        await collect(local, request("a" * 63))
        await collect(local, request("a" * 64, max_tokens=0, echo=True))
        assert [submit.max_tokens for submit in scripted.submits] == [4, 1, 0]


async def test_megabytes_are_refused_untokenized(path: Path) -> None:
    tokenizer = ByteTokenizer()
    async with provider(path, saying("x"), tokenizer=tokenizer) as (local, _):
        for asked, param in ((request("a " * 10**6), "prompt"), (chat("€" * 10**6), "messages")):
            failure = await refusal(local, asked)
            assert isinstance(failure, ContextLengthExceeded)
            assert failure.param == param
        assert tokenizer.num_encoded == 0


async def test_long_texts_are_tokenized_in_a_thread(path: Path) -> None:
    threads = []

    class Watched(ByteTokenizer):
        def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
            threads.append(threading.current_thread() is threading.main_thread())
            return [1]

    greeting = hello(context_length=10**6)
    async with engine(path, saying("x"), greeting):
        tokenizer: Any = Watched()
        profile = lines(tokenizer)
        card = replace(CARD, context_length=10**6, max_output_tokens=10**6)
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(card, tokenizer, profile, client)])
        await local.start()
        await client.wait_ready()
        for size in (10, 30_000):
            await collect(local, request("a" * size))
            await collect(local, chat("a" * size))
        assert threads == [True, True, False, False]
        assert (await collect(local, request()))[0]
        await local.aclose()
