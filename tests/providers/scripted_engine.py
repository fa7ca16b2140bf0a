"""A tokenizer whose tokens are bytes, and an engine worker that says what a script tells it, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from unrouted import unrouted

from hodios.dialog.detokenizer import Detokenizer
from hodios.dialog.guard import Rendered
from hodios.dialog.profile import Profile
from hodios.engine.client import EngineClient
from hodios.engine.messages import Abort, FromClient, Hello, Output, Refused, Stats, Step, Submit, TokenAlternatives
from hodios.errors import (
    HodiosError,
)
from hodios.events import Event, Finish, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.providers.base import Provider
from hodios.providers.local import LocalModel, LocalProvider
from hodios.types import ModelCard, Request, Sampling

WORDS = (
    b"STOP",
    b"hello",
    b" world",
    b"\xe2\x82",
    b"\xac",
    b"\xf0\x9f\x99",
    b"\x82",
    b"a\xe2",
    b"\x82\xacb",
    b"ST",
    b"OP",
)
BOS, EOS, IM_END = 256, 257, 258
FIRST_WORD = 259
VOCAB_SIZE = FIRST_WORD + len(WORDS)
_SPECIAL = {BOS: b"<s>", EOS: b"</s>", IM_END: b"<|im_end|>"}

STATS = Stats(num_waiting=0, num_running=1, free_blocks=7, cached_blocks=0, num_blocks=8)
CARD = ModelCard(id="tiny/bytes", aliases=("bytes",), context_length=64, max_output_tokens=64, quantization="Q4_1")


class ByteTokenizer:
    """The interface of `hodios.dialog.tokenizer.Tokenizer`; encodes to single bytes and control tokens only."""

    vocab_size = VOCAB_SIZE
    is_sentence_piece = False
    adds_space = False
    markup = frozenset(text.decode() for text in _SPECIAL.values())

    def __init__(self, *, bos_id: int | None = BOS, eos_id: int | None = EOS, add_bos: bool = False) -> None:
        self.bos_id, self.eos_id, self.add_bos = bos_id, eos_id, add_bos
        self.eos_ids = frozenset(() if eos_id is None else (eos_id, IM_END))
        self.num_encoded = 0
        self.chat_templates: dict[str, str] = {}
        self.special_tokens: dict[str, str] = {"bos_token": "<s>"}

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        self.num_encoded += 1
        data, ids = text.encode(), []
        while data:
            special = next((id for id, name in _SPECIAL.items() if parse_special and data.startswith(name)), None)
            ids.append(data[0] if special is None else special)
            data = data[1 if special is None else len(_SPECIAL[special]) :]
        return [self.bos_id, *ids] if add_special and self.add_bos and self.bos_id is not None else ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        detokenizer = self.detokenizer(skip_special=skip_special)
        return detokenizer.push(ids) + detokenizer.flush()

    def encode_rendered(self, rendered: Rendered) -> list[int]:
        return self.encode(rendered.text, add_special=False)

    def detokenizer(
        self, *, skip_special: bool = True, at_start: bool = False, shown: frozenset[int] = frozenset()
    ) -> Detokenizer:
        return Detokenizer(self, skip_special=skip_special, strip_space=False, shown=shown)

    def has_token(self, text: str) -> bool:
        return self.token_id(text) is not None

    def token_id(self, text: str) -> int | None:
        return next((id for id, name in _SPECIAL.items() if name == text.encode()), None)

    control_id = token_id

    def token_bytes(self, id: int) -> bytes:
        return bytes((id,)) if id < 256 else _SPECIAL.get(id) or WORDS[id - FIRST_WORD]

    def token_text(self, id: int) -> str:
        return self.token_bytes(id).decode(errors="replace")

    def is_special(self, id: int) -> bool:
        return id in _SPECIAL


def lines(tokenizer: ByteTokenizer, start: str = "") -> Profile:
    """A chat as one line for each message, as little as a template can do."""
    turns = "{% for message in messages %}{{ message['role'] }}:{{ message['content'] }}\n{% endfor %}{{ x }}"
    end = "{% if add_generation_prompt %}>{% endif %}"
    tokenizer.chat_templates = {"default": start + turns + end}
    return Profile.for_tokenizer(tokenizer, lambda: datetime(2026, 1, 2, tzinfo=UTC))


def hello(**fields: object) -> Hello:
    known = {
        "type": "Hello",
        "engine_version": "1",
        "weights_hash": "w",
        "representation": "int8",
        "is_exact": False,
        "vocab_size": VOCAB_SIZE,
        "context_length": 64,
        "num_blocks": 8,
        "block_size": 32,
        "max_sequences": 4,
        "max_queue": 64,
        "load_s": 0.1,
        "pid": 1,
    }
    return msgspec.convert({**known, **fields}, Hello)


Script = Callable[[Submit], Iterable[Sequence[Output | Refused | None]]]
"""For each submission the frames to send, each with one `Output` or more; None in a frame breaks the connection."""


class ScriptedEngine:
    """Plays a script for each submission, a frame at a time, and keeps what it was told."""

    def __init__(self, path: Path, script: Script, greeting: Hello | None = None) -> None:
        self._path, self._script, self._greeting = path, script, greeting or hello()
        self.submits: list[Submit] = []
        self.aborts: asyncio.Queue[Abort] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __aenter__(self) -> ScriptedEngine:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        decoder = msgspec.msgpack.Decoder(FromClient)
        _send(writer, self._greeting)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                match decoder.decode(await reader.readexactly(size)):
                    case Submit() as submit:
                        self.submits.append(submit)
                        task = asyncio.create_task(self._play(submit, writer))
                        self._tasks.add(task)
                    case Abort() as abort:
                        self.aborts.put_nowait(abort)
        writer.close()

    async def _play(self, submit: Submit, writer: asyncio.StreamWriter) -> None:
        for frame in self._script(submit):
            await self.may_go_on.wait()
            outputs = [message for message in frame if isinstance(message, Output)]
            if outputs:
                _send(writer, Step(outputs=outputs, stats=STATS))
            for message in frame:
                if isinstance(message, Refused):
                    _send(writer, message)
                elif message is None:
                    writer.transport.abort()
            await asyncio.sleep(0)


def _send(writer: asyncio.StreamWriter, message: Hello | Step | Refused) -> None:
    payload = msgspec.msgpack.encode(message)
    writer.write(len(payload).to_bytes(4, "big") + payload)


def alternatives(token: int, num_top: int | None = 0, logprob: float | None = -1.0) -> TokenAlternatives:
    ids = [token, *range(num_top or 0)][: num_top or 0]
    return TokenAlternatives(token, logprob, ids, [-1.0 - rank for rank in range(len(ids))])


def continuation(
    submit: Submit, index: int, tokens: Sequence[int], *, ends_with: str = "length", logprob: float = -1.0
) -> list[Output]:
    """One output a token; the reason comes with the last one. A last token that is an end token is the stop token."""
    wants = submit.sampling.logprobs
    ends = {*submit.eos_ids, *submit.sampling.stop_token_ids}
    outputs = []
    for position, token in enumerate(tokens):
        is_last = position == len(tokens) - 1
        is_stop = is_last and token in ends
        outputs.append(
            Output(
                id=submit.id,
                index=index,
                tokens=[token],
                logprobs=None if wants is None else [alternatives(token, wants, logprob)],
                finish_reason=None if not is_last else "stop" if is_stop else ends_with,  # type: ignore[arg-type]
                stop_token=token if is_stop else None,
            )
        )
    return outputs or [Output(id=submit.id, index=index, tokens=[], finish_reason="length")]


@contextlib.asynccontextmanager
async def engine(path: Path, script: Script, greeting: Hello | None = None) -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(path, script, greeting) as scripted, asyncio.timeout(20):
        yield scripted


Frames = Iterable[Sequence[Output | Refused | None]]


def frames_of(*continuations: Sequence[Output]) -> Frames:
    """Step by step, all continuations side by side."""
    longest = max(map(len, continuations))
    return [[outputs[step] for outputs in continuations if step < len(outputs)] for step in range(longest)]


def saying(*texts: str) -> Script:
    """Continuation `i` says `texts[i]`, a byte a token, and then ends."""
    return lambda submit: frames_of(
        *(
            continuation(submit, index, [*texts[index % len(texts)].encode(), EOS][: submit.max_tokens])
            for index in range(submit.n)
        )
    )


@contextlib.asynccontextmanager
async def provider(
    path: Path,
    script: Script,
    *,
    greeting: Hello | None = None,
    tokenizer: ByteTokenizer | None = None,
    context_length: int = 64,
) -> AsyncIterator[tuple[LocalProvider, ScriptedEngine]]:
    card = replace(CARD, context_length=context_length, max_output_tokens=context_length)
    async with engine(path, script, greeting or hello(context_length=context_length)) as scripted:
        tokenizer = tokenizer or ByteTokenizer()
        parts: Any = tokenizer, lines(tokenizer)
        client = EngineClient(path, name=CARD.id, sleep=lambda _: asyncio.sleep(0))
        local = LocalProvider([LocalModel(card, *parts, client)])
        await local.start()
        await client.wait_ready()
        yield local, scripted
        await local.aclose()


def request(*prompts: str | tuple[int, ...], **fields: Any) -> Request:
    sampling = {name: fields.pop(name) for name in list(fields) if name in Sampling.__struct_fields__}
    asked: dict[str, Any] = {"prompts": prompts or ("hi",), "sampling": Sampling(**sampling), **fields}
    return Request(id="cmpl-1", model=CARD.id, **asked)


def chat(*contents: str, **fields: Any) -> Request:
    messages = tuple({"role": "user", "content": content} for content in contents)
    return Request(id="chat-1", model=CARD.id, messages=messages, **fields)


async def collect(local: Provider, asked: Request) -> list[Event]:
    """Through the gateway, which checks the grammar of the events."""
    return unrouted([event async for event in Gateway([local]).generate(asked)])


def texts(events: Sequence[Event], *, is_echo: bool = False) -> dict[int, str]:
    answer: dict[int, str] = {}
    for event in events:
        if isinstance(event, Text) and event.is_echo == is_echo:
            answer[event.index] = answer.get(event.index, "") + event.text
    return answer


def ends(events: Sequence[Event]) -> dict[int, Stopped]:
    return {event.index: event for event in events if isinstance(event, Stopped)}


def usage(events: Sequence[Event]) -> Usage:
    assert isinstance(events[-1], Finish)
    return events[-1].usage


async def refusal(local: Provider, asked: Request) -> HodiosError:
    with pytest.raises(HodiosError) as failure:
        await collect(local, asked)
    return failure.value
