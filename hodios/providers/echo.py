"""A provider that answers with what it was asked: one token per byte, no model behind it, the same answer every time.

It honours every parameter that makes sense for it, so the API can be proven and tried without an engine. A chat's
answer is read as Hermes models write: `<think>` at its start becomes thoughts and, with tools, `<tool_call>` calls.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from hodios.dialog.formats.hermes import HermesFormat
from hodios.dialog.pieces import CallName
from hodios.dialog.reasoning import PlainParser, ReasoningParser
from hodios.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter
from hodios.events import Event, Finish, Noticed, Started, Stopped, Text, TokenLogprob, Usage
from hodios.providers.base import ModelHealth, TokenizerDoor
from hodios.providers.reading import ChoiceReader
from hodios.types import FinishReason, ModelCard, Request, Sampling, Warning

MODEL_ID = "hodios/echo"
START_ID, END_ID = 256, 257
_CONTROL = {START_ID: b"<|im_start|>", END_ID: b"<|im_end|>"}
VOCAB_SIZE = 258
MAX_OUTPUT_TOKENS = 16384
NO_DOCUMENTS = Warning("documents", "unsupported_parameter", "documents was ignored: echo reads messages only")


class Answer(Struct, frozen=True):
    """A whole answer, known before its first token is sent."""

    tokens: tuple[int, ...]
    num_shown: int
    """So many of the tokens belong to the text; the others are the end or a stop string."""
    finish_reason: FinishReason
    stop_reason: str | int | None = None


def token_bytes(token_id: int) -> bytes:
    return _CONTROL.get(token_id) or bytes((token_id,))


def _encode(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _template(messages: Sequence[Mapping[str, Any]], *, opens_answer: bool, is_continued: bool) -> tuple[int, ...]:
    """ChatML in bytes, with the control tokens as tokens."""
    ids: list[int] = []
    for message in messages:
        ids += (START_ID, *_encode(f"{message['role']}\n{_content(message)}"), END_ID, *_encode("\n"))
    if is_continued:
        del ids[-2:]
    elif opens_answer:
        ids += (START_ID, *_encode("assistant\n"))
    return tuple(ids)


def _logprob(token_id: int, num_top: int) -> TokenLogprob:
    """The chosen token has probability 1/2, the next one 1/4, and so on."""
    ranked = [((token_id + rank) % VOCAB_SIZE, -(rank + 1) * math.log(2)) for rank in range(num_top)]
    top = tuple((other, _text(other), token_bytes(other), logprob) for other, logprob in ranked)
    return TokenLogprob(token_id, _text(token_id), token_bytes(token_id), -math.log(2), top)


def _text(token_id: int) -> str:
    return token_bytes(token_id).decode(errors="replace")


def _answer(source: Sequence[int], limit: int, request: Request) -> Answer:
    """Repeats `source` (what was said, without control tokens) up to its end, a stop or the limit."""
    sampling = request.sampling
    allowed = _allowed(source, sampling)
    tokens: list[int] = []
    text = bytearray()
    stops = [(stop.encode(), stop) for stop in request.stop]
    while len(tokens) < limit:
        is_over = not allowed or len(tokens) >= len(allowed)
        if is_over and (not allowed or (not sampling.ignore_eos and len(tokens) >= sampling.min_tokens)):
            return Answer((*tokens, END_ID), len(tokens), "stop")
        token = allowed[len(tokens) % len(allowed)]
        tokens.append(token)
        text += token_bytes(token)
        if token in sampling.stop_token_ids and len(tokens) > sampling.min_tokens:
            num_shown = len(tokens) if request.include_stop else len(tokens) - 1
            return Answer(tuple(tokens), num_shown, "stop", token)
        for encoded, stop in stops:
            if text.endswith(encoded) and len(tokens) >= sampling.min_tokens:
                num_shown = len(tokens) if request.include_stop else len(tokens) - len(encoded)
                return Answer(tuple(tokens), num_shown, "stop", stop)
    return Answer(tuple(tokens), len(tokens), "length")


def _allowed(source: Sequence[int], sampling: Sampling) -> list[int]:
    selected = {token for token, bias in sampling.logit_bias if bias >= 100}
    banned = {token for token, bias in sampling.logit_bias if bias <= -100}
    return [token for token in source if token not in banned and (not selected or token in selected)]


def _pieces(tokens: Sequence[int], num_shown: int) -> list[tuple[int, str]]:
    """(token, the text that its bytes complete); a character broken at the very end comes out as U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    shown = [
        (token, decoder.decode(token_bytes(token), position + 1 == num_shown))
        for position, token in enumerate(tokens[:num_shown])
    ]
    return shown + [(token, "") for token in tokens[num_shown:]]


class EchoTokenizer(TokenizerDoor):
    """Bytes are tokens 0–255; 256 and 257 are ChatML's control tokens."""

    def __init__(self, context_length: int) -> None:
        self._context_length = context_length

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [END_ID] if text == _text(END_ID) else list(_encode(text))

    async def encode_messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: Mapping[str, Any] | None,
    ) -> list[int]:
        return list(_template(messages, opens_answer=add_generation_prompt, is_continued=continue_final_message))

    async def decode(self, token_ids: Sequence[int]) -> str:
        check_ids(token_ids, "tokens")
        return b"".join(map(token_bytes, token_ids)).decode(errors="replace")

    async def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        check_ids(token_ids, "tokens")
        return [_text(token_id) for token_id in token_ids]

    def info(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "EchoTokenizer",
            "bos_token": None,
            "eos_token": _text(END_ID),
            "pad_token": None,
            "model_max_length": self._context_length,
            "chat_template": (
                "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
                "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
            ),
        }


def check_ids(token_ids: Sequence[int], param: str) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < VOCAB_SIZE:
            raise InvalidRequest(
                f"{param}: {token_id} is no token; accepted: integers from 0 to {VOCAB_SIZE - 1}", param=param
            )


async def _give_way() -> None:
    await asyncio.sleep(0)


class EchoProvider:
    """`pause` is awaited before the first event and then every `pause_every` tokens; by default it lets others run."""

    name = "echo"

    def __init__(
        self, *, context_length: int = 131_072, pause: Callable[[], Awaitable[None]] = _give_way, pause_every: int = 32
    ) -> None:
        self._card = ModelCard(
            id=MODEL_ID,
            aliases=("echo",),
            author="hodios",
            name="Echo",
            context_length=context_length,
            max_output_tokens=min(MAX_OUTPUT_TOKENS, context_length),
            provider=self.name,
            architecture="echo",
            license="Apache-2.0",
            fingerprint="fp_00000000ec40",
            features=("tools", "reasoning", "logprobs"),
        )
        self._pause = pause
        self._pause_every = pause_every
        self._num_running = 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def aclose(self) -> None:
        """Nothing to give up."""

    def models(self) -> Sequence[ModelCard]:
        return (self._card,)

    def tokenizer(self, model: str) -> TokenizerDoor:
        return EchoTokenizer(self._card.context_length)

    def health(self) -> Sequence[ModelHealth]:
        return (ModelHealth(model=MODEL_ID, state="ready", stats={"num_running": float(self._num_running)}),)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        if request.grammar is not None:
            raise UnsupportedParameter("response_format: echo cannot follow a grammar", param="response_format")
        prompts, sources = _read(request)
        answers = [self._plan(prompt, source, request) for prompt, source in zip(prompts, sources, strict=True)]
        self._num_running += 1
        try:
            await self._pause()
            yield Started(self.name, MODEL_ID, self._card.fingerprint, sum(map(len, prompts)))
            if request.documents:
                yield Noticed(NO_DOCUMENTS)
            readers = [_reader(request, index) for index in range(request.n)] if request.is_chat else []
            async for event in self._tokens(prompts, answers, request):
                for shown in _shown(event, readers):
                    yield shown
            yield Finish(
                usage=Usage(
                    prompt_tokens=sum(map(len, prompts)),
                    completion_tokens=request.best_of * sum(len(answer.tokens) for answer in answers),
                    reasoning_tokens=sum(reader.reasoning_tokens for reader in readers) * request.best_of // request.n,
                )
            )
        finally:
            self._num_running -= 1

    def _plan(self, prompt: tuple[int, ...], source: tuple[int, ...], request: Request) -> Answer:
        room = self._card.context_length - len(prompt)
        limit = min(room, MAX_OUTPUT_TOKENS) if request.max_tokens is None else request.max_tokens
        if room < max(limit, 1 if request.max_tokens is None else 0):
            raise ContextLengthExceeded(
                f"the prompt has {len(prompt)} tokens and the answer may have {limit}; "
                f"accepted: at most {self._card.context_length} in all",
                param="prompt" if request.messages is None else "messages",
            )
        return _answer(source, limit, request)

    async def _tokens(
        self, prompts: Sequence[tuple[int, ...]], answers: Sequence[Answer], request: Request
    ) -> AsyncGenerator[Text | Stopped, None]:
        """Choice by choice within a prompt, one token of each in turn."""
        num_sent = 0
        for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            indices = range(at * request.n, (at + 1) * request.n)
            if request.echo:
                for index in indices:
                    yield _echoed(index, prompt, request.sampling.logprobs)
            num_top = request.sampling.logprobs
            for position, (token, text) in enumerate(_pieces(answer.tokens, answer.num_shown)):
                logprobs = () if num_top is None else (_logprob(token, num_top),)
                for index in indices:
                    num_sent += 1
                    if num_sent % self._pause_every == 0:
                        await self._pause()
                    if text or logprobs:
                        yield Text(index, text, logprobs, position + 1)
            for index in indices:
                yield Stopped(index, answer.finish_reason, answer.stop_reason)


def _read(request: Request) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Prompts as token ids, and what of each is to be said again: the last message, or the whole raw prompt."""
    if request.messages is not None:
        ids = _template(
            request.messages,
            opens_answer=request.add_generation_prompt,
            is_continued=request.continue_final_message,
        )
        return [ids], [_encode(_said(request, _content(request.messages[-1])))]
    prompts: list[tuple[int, ...]] = []
    for prompt in request.prompts or ():
        if not isinstance(prompt, str):
            check_ids(prompt, "prompt")
        prompts.append(_encode(prompt) if isinstance(prompt, str) else prompt)
    return prompts, [tuple(token for token in prompt if token < START_ID) for prompt in prompts]


def _said(request: Request, message: str) -> str:
    """The message; where a call is required and it has none, a call, whose arguments the message may be."""
    if request.tool_choice != "required" or _has_call(message, request):
        return message
    try:
        arguments = message if isinstance(json.loads(message), dict) else "{}"
    except (ValueError, RecursionError):
        arguments = "{}"
    name = request.tool_name or request.tools[0].name
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def _has_call(message: str, request: Request) -> bool:
    parser = HermesFormat().parser(request.tools, is_trusted=False)
    return any(isinstance(piece, CallName) for piece in (*parser.push(message), *parser.finish()))


def _reader(request: Request, index: int) -> ChoiceReader:
    has_tools = request.tools and request.tool_choice != "none"
    hermes = HermesFormat()
    # What a client wrote may be no call at all.
    parser = hermes.parser(request.tools, is_trusted=False) if has_tools else PlainParser()
    return ChoiceReader(
        ReasoningParser(parser),
        new_id=lambda number: hermes.new_id(f"{request.id}/{index}", number),
        has_reasoning=request.has_reasoning,
    )


def _shown(event: Text | Stopped, readers: Sequence[ChoiceReader]) -> Sequence[Event]:
    if not readers:
        return (event,)
    reader = readers[event.index]
    return reader.push(event) if isinstance(event, Text) else reader.stop(event)


def _echoed(index: int, prompt: tuple[int, ...], num_top: int | None) -> Text:
    logprobs: tuple[TokenLogprob, ...] = ()
    if num_top is not None and prompt:
        first = TokenLogprob(prompt[0], _text(prompt[0]), token_bytes(prompt[0]), None)
        logprobs = (first, *[_logprob(token, num_top) for token in prompt[1:]])
    text = b"".join(map(token_bytes, prompt)).decode(errors="replace")
    return Text(index, text, logprobs, is_echo=True)
