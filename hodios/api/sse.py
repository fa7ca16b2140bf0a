"""The streamed answer: events → server-sent events. All but the text of a chunk is encoded once per request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, assert_never

import msgspec

from hodios.api.answers import Tally, public_finish_reason, warning_fields
from hodios.api.calls import call_deltas
from hodios.api.exchange import EVENT_STREAM, Exchange, error_fields
from hodios.api.explanation import route_of
from hodios.api.filters import filter_details, filter_results
from hodios.api.logprobs import TextLogprobs, chat_logprobs
from hodios.api.outbox import Outbox
from hodios.api.wire import Call
from hodios.errors import HodiosError
from hodios.events import Event, Finish, Judged, Noticed, Reasoning, Started, Stopped, Text, ToolCall
from hodios.types import Warning

DONE = b"data: [DONE]\n\n"
COMMENT = b": hodios\n\n"
_encode = msgspec.json.Encoder().encode


class Chunks:
    """Encodes the events of one answer. A chunk is
    `head index before text after [logprobs] rest` — of which only index, text and logprobs change."""

    def __init__(self, call: Call, tally: Tally, created: int) -> None:
        self._call = call
        self._tally = tally
        self._created = created
        is_chat = call.request.is_chat
        self._before, self._after = (b',"delta":{"content":', b"}") if is_chat else (b',"text":', b"")
        self._empty = b',"delta":{}' if is_chat else b',"text":""'
        num_choices = call.request.n * len(call.request.prompts or ("",))
        self._open = dict.fromkeys(range(num_choices))
        self._text_logprobs = [TextLogprobs(as_ids=call.has_token_ids) for _ in range(num_choices)]
        self._is_plain = call.request.sampling.logprobs is None and not call.has_continuous_usage
        self._heads: list[bytes] = []
        self._frame = self._tail = b""
        self._filters: list[bytes] = []
        """By choice, as the next one: what guards say so far, and all that follows a text."""
        self._rests: list[bytes] = []
        self._has_flags = False
        self._last: Stopped | None = None
        """The last choice's end, held back so that it has whatever was noticed up to the very end."""

    def encode(self, event: Event) -> bytes:
        """The chunks for an event: none, one, or one for each choice."""
        match event:
            case Text():
                return self._text(event)
            case Reasoning():
                self._tally.reasoning(event)
                return self._delta(event.index, {"reasoning_content": event.text}) if event.text else b""
            case ToolCall():
                self._tally.call(event)
                deltas = call_deltas(event, is_older=self._call.has_function_call)
                return b"".join([self._delta(event.index, delta) for delta in deltas])
            case Noticed():
                self._tally.notice(event)
                return b""
            case Judged():
                return self._judged(event)
            case Stopped():
                return self._stopped(event)
            case Started():
                return self._start(event)
            case Finish():
                return self._finish(event)
            case _:
                assert_never(event)

    def failure(self, error: HodiosError) -> bytes:
        """What is sent instead of the rest."""
        empty: dict[str, Any] = {"delta": {}} if self._call.request.is_chat else {"text": ""}
        choices = [{"index": index, **empty, "finish_reason": "error"} for index in self._open]
        told = _encode({"error": error_fields(error), "choices": choices})
        return self._ending() + b"data: " + told + b"\n\n" + DONE

    def _start(self, event: Started) -> bytes:
        self._tally.start(event)
        call = self._call
        frame = {
            "id": call.request.id,
            "object": "chat.completion.chunk" if call.request.is_chat else "text_completion",
            "created": self._created,
            "provider": event.provider,
            "model": event.model,
        }
        self._frame = b"data: " + _encode(frame)[:-1] + b',"choices":['
        self._heads = [self._frame + b'{"index":%d' % index + self._before for index in self._open]
        self._tail = b',"system_fingerprint":' + _encode(event.fingerprint)
        self._filters = [self._filter(0)] * len(self._open)
        self._rests = [self._rest(0)] * len(self._open)
        return self._opening()

    def _judged(self, event: Judged) -> bytes:
        """Nothing is sent for it: the chunks that follow have it."""
        self._tally.judge(event)
        if not (event.judgement.flagged or self._has_flags or self._call.has_filter_details):
            return b""
        self._has_flags = True
        for index in self._open if event.index is None else (event.index,):
            found = self._filter(index)
            if found != self._filters[index]:
                self._filters[index] = found
                self._rests[index] = self._rest(index)
        return b""

    def _filter(self, index: int) -> bytes:
        judgements = self._tally.judgements(index)
        told = b',"content_filter_results":' + _encode(filter_results(*judgements))
        if self._call.has_filter_details:
            told += b',"content_filter_details":' + _encode(filter_details(*judgements))
        return told + b"}]"

    def _rest(self, index: int) -> bytes:
        rest = self._after + b',"logprobs":null,"finish_reason":null' + self._filters[index]
        return rest + (b',"usage":null' if self._call.has_usage_chunk else b"") + self._tail + b"}\n\n"

    def _opening(self) -> bytes:
        """A chat's role chunks, one per choice; and the warnings, in the very first chunk."""
        is_chat = self._call.request.is_chat
        warnings = _warnings(self._call.warnings)
        if not is_chat and not warnings:
            return b""
        delta = b',"delta":{"role":"assistant"}' if is_chat else self._empty
        chunks = []
        for index in self._open if is_chat else (0,):
            chunks.append(self._chunk(index, delta + b',"logprobs":null,"finish_reason":null', warnings))
            warnings = b""
        return b"".join(chunks)

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        return self._chunk(index, b',"delta":' + _encode(delta) + b',"logprobs":null,"finish_reason":null')

    def _chunk(self, index: int, middle: bytes, extra: bytes = b"") -> bytes:
        opening = self._frame + b'{"index":%d' % index
        return opening + middle + self._filters[index] + self._usage() + self._tail + extra + b"}\n\n"

    def _usage(self) -> bytes:
        if self._call.has_continuous_usage:
            return b',"usage":' + _encode(self._tally.so_far())
        return b',"usage":null' if self._call.has_usage_chunk else b""

    def _text(self, event: Text) -> bytes:
        self._tally.text(event)
        if self._is_plain:
            return self._heads[event.index] + _encode(event.text) + self._rests[event.index] if event.text else b""
        if not event.text and not event.logprobs:
            return b""
        logprobs = b',"logprobs":' + _encode(self._logprobs(event)) + b',"finish_reason":null'
        return self._chunk(event.index, self._before + _encode(event.text) + self._after + logprobs)

    def _logprobs(self, event: Text) -> dict[str, Any] | None:
        if self._call.request.sampling.logprobs is None:
            return None
        if self._call.request.is_chat:
            return {"content": chat_logprobs(event.logprobs, as_ids=self._call.has_token_ids), "refusal": None}
        return self._text_logprobs[event.index].piece(event)

    def _stopped(self, event: Stopped) -> bytes:
        del self._open[event.index]
        self._tally.stop(event)
        if self._open:
            return self._end(event)
        self._last = event
        return b""

    def _end(self, event: Stopped, extra: bytes = b"") -> bytes:
        reason = public_finish_reason(event, self._call)
        middle = self._empty + b',"logprobs":null,"finish_reason":' + _encode(reason)
        if not self._call.request.is_chat and event.stop_reason is not None:
            middle += b',"stop_reason":' + _encode(event.stop_reason)
        return self._chunk(event.index, middle, extra)

    def _ending(self, extra: bytes = b"") -> bytes:
        return b"" if self._last is None else self._end(self._last, _warnings(self._tally.noticed) + extra)

    def _finish(self, event: Finish) -> bytes:
        usage = self._tally.finish(event)
        route = b""
        if self._call.has_route and event.route is not None:
            route = b',"route":' + _encode(route_of(event.route))
        if not self._call.has_usage_chunk:
            return self._ending(route)
        return self._ending() + self._frame + b'],"usage":' + _encode(usage) + self._tail + route + b"}\n\n"


def _warnings(warnings: Sequence[Warning]) -> bytes:
    return b',"warnings":' + _encode(warning_fields(warnings)) if warnings else b""


class KeepAlive:
    """While entered, sends a comment whenever nothing was sent for `interval_s`; the first one brings the headers."""

    def __init__(self, exchange: Exchange, interval_s: float) -> None:
        self._exchange = exchange
        self._interval_s = interval_s
        self._num_seen = exchange.num_writes
        self._comment: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(interval_s, self._tick)

    async def __aenter__(self) -> KeepAlive:
        return self

    def _tick(self) -> None:
        exchange = self._exchange
        if exchange.num_writes == self._num_seen and not exchange.is_writing and self._comment is None:
            self._comment = self._loop.create_task(self._send())
        self._num_seen = exchange.num_writes + (self._comment is not None)
        self._timer = self._loop.call_later(self._interval_s, self._tick)

    async def _send(self) -> None:
        if not self._exchange.has_started:
            await start_stream(self._exchange)
        await self._exchange.write(COMMENT)
        self._comment = None

    @property
    def is_sending(self) -> bool:
        return self._comment is not None

    async def settle(self) -> None:
        """Let a comment that is being sent go out before anything else does."""
        if self._comment is not None:
            await self._comment

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if isinstance(error, asyncio.CancelledError) and self._comment is not None:
            self._comment.cancel()
        await self.settle()


async def start_stream(exchange: Exchange) -> None:
    exchange.out_headers.append((b"x-accel-buffering", b"no"))
    await exchange.start(200, EVENT_STREAM)


async def relay(exchange: Exchange, events: AsyncIterator[Event], chunks: Chunks, interval_s: float) -> None:
    """Send the whole stream. Headers wait for the first event. Raises what the provider raises."""
    exchange.epilogue = chunks.failure
    ending = b""
    async with KeepAlive(exchange, interval_s) as keep_alive, Outbox(exchange) as outbox:
        async for event in events:
            data = chunks.encode(event)
            if keep_alive.is_sending:
                await keep_alive.settle()
            if not exchange.has_started:
                await start_stream(exchange)
            if type(event) is Finish:
                ending = data
            elif data:
                await outbox.put(data)
    await exchange.write(ending + DONE, is_last=True)
