"""What both kinds of answer are made of, and the answer in one piece: a fold over the same events that are streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, assert_never

from msgspec import structs

from hodios.api.calls import Calls
from hodios.api.exchange import Exchange
from hodios.api.explanation import cost_number, route_of
from hodios.api.filters import filter_details, filter_results
from hodios.api.logprobs import TextLogprobs, chat_logprobs
from hodios.api.prompts import num_characters, num_json_characters
from hodios.api.wire import Call, readable, warn
from hodios.errors import ProviderError
from hodios.events import (
    Event,
    Finish,
    Judged,
    Noticed,
    Reasoning,
    Started,
    Stopped,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from hodios.money import cost_of
from hodios.types import FinishReason, Judgement, Request, Route, Warning


class Tally:
    """Counts while an answer passes: characters, tokens and times. One for each request."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self._exchange = exchange
        self._prompt_characters = _prompt_characters(call.request)
        self._response_characters = 0
        self._tokens: dict[int, int] = {}
        self._started: Started | None = None
        self.noticed: list[Warning] = []
        """What the client did not get, as far as it was found out while answering."""
        self.finish_reasons: dict[int, FinishReason] = {}
        """By choice."""
        self.route: Route | None = None
        """Known at the end, as the next one."""
        self.usage: dict[str, Any] | None = None
        """The public one."""

    def add(self, event: Event) -> None:
        match event:
            case Text():
                self.text(event)
            case Reasoning():
                self.reasoning(event)
            case ToolCall():
                self.call(event)
            case Noticed():
                self.notice(event)
            case Stopped():
                self.stop(event)
            case Judged():
                self.judge(event)
            case Started():
                self.start(event)
            case Finish():
                self.finish(event)
            case _:
                assert_never(event)

    def start(self, event: Started) -> None:
        """At the first event: from now on it is known who answers, and what the prompt was. Whatever was counted before
        belongs to an answer that was given up."""
        exchange = self._exchange
        exchange.num_tool_calls = 0
        exchange.judged.clear()
        self._response_characters = 0
        self._tokens = {}
        self.noticed = []
        self.finish_reasons = {}
        exchange.provider = event.provider
        exchange.model = event.model
        exchange.first_token_s = exchange.heard_s = exchange.elapsed_s()
        exchange.num_prompt_tokens = event.prompt_tokens
        exchange.num_cached_tokens = event.cached_tokens
        self._started = event

    def text(self, event: Text) -> None:
        if not event.is_echo:
            self._response_characters += len(event.text)
            self._tokens[event.index] = event.completion_tokens

    def reasoning(self, event: Reasoning) -> None:
        self._add(event.index, len(event.text), event.completion_tokens)

    def call(self, event: ToolCall) -> None:
        self._exchange.num_tool_calls += bool(event.id)
        self._add(event.index, len(event.name) + len(event.arguments), event.completion_tokens)

    def _add(self, index: int, num_characters: int, num_tokens: int) -> None:
        self._response_characters += num_characters
        self._tokens[index] = max(num_tokens, self._tokens.get(index, 0))

    def stop(self, event: Stopped) -> None:
        self.finish_reasons[event.index] = event.finish_reason

    def judge(self, event: Judged) -> None:
        self._exchange.judged[event.index] = event.judgement

    def judgements(self, index: int) -> tuple[Judgement | None, Judgement | None]:
        """What guards say of the prompt and of a choice."""
        judged = self._exchange.judged
        return judged.get(None), judged.get(index)

    def notice(self, event: Noticed) -> None:
        """What is noticed of every choice is told once."""
        warning = structs.replace(event.warning, param=readable(event.warning.param))
        if warning not in self.noticed:
            warn(self.noticed, warning)

    def so_far(self) -> dict[str, Any]:
        """Usage in the middle of a stream."""
        assert self._started is not None
        usage = Usage(
            prompt_tokens=self._started.prompt_tokens,
            completion_tokens=sum(self._tokens.values()),
            cached_tokens=self._started.cached_tokens,
        )
        return self.fields(usage)

    def finish(self, event: Finish) -> dict[str, Any]:
        exchange = self._exchange
        exchange.heard_s = exchange.elapsed_s()
        exchange.num_prompt_tokens = event.usage.prompt_tokens
        exchange.num_cached_tokens = event.usage.cached_tokens
        exchange.num_completion_tokens = event.usage.completion_tokens
        self.route = event.route
        self.usage = self.fields(event.usage)
        return self.usage

    def leave(self) -> None:
        """Whatever happened, what was generated counts."""
        exchange = self._exchange
        exchange.num_completion_tokens = max(exchange.num_completion_tokens, sum(self._tokens.values()))
        exchange.finish_reasons = tuple(reason for _, reason in sorted(self.finish_reasons.items()))

    def fields(self, usage: Usage) -> dict[str, Any]:
        """The public `usage`. `prompt_characters` is null where the prompt came as token ids, `cost` until the end and
        where nobody has said what it costs."""
        first_token_s = self._exchange.first_token_s
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            },
            "prompt_characters": self._prompt_characters,
            "response_characters": self._response_characters,
            "cost": None if self.route is None else cost_number(cost_of(self.route.attempts)),
            "latency_ms": round(self._exchange.elapsed_s() * 1e3),
            "time_to_first_token_ms": None if first_token_s is None else round(first_token_s * 1e3),
            "queue_ms": round(usage.queue_s * 1e3),
        }


def _prompt_characters(request: Request) -> int | None:
    if request.messages is not None:
        tools = sum(
            len(tool.name) + len(tool.description) + num_json_characters(tool.parameters) for tool in request.tools
        )
        return num_characters(request.messages) + tools + sum(map(num_json_characters, request.documents))
    texts = [prompt for prompt in request.prompts or () if isinstance(prompt, str)]
    return sum(map(len, texts)) if len(texts) == len(request.prompts or ()) else None


def public_finish_reason(event: Stopped, call: Call) -> FinishReason | Literal["function_call"]:
    """Why the choice ended, in the words of the API that the client speaks."""
    is_older = call.has_function_call and event.finish_reason == "tool_calls"
    return "function_call" if is_older else event.finish_reason


def warning_fields(warnings: Sequence[Warning]) -> list[dict[str, str]]:
    return [{"param": warning.param, "code": warning.code, "message": warning.message} for warning in warnings]


class Choice:
    """One choice of an answer while it grows."""

    def __init__(self, index: int, call: Call, tally: Tally) -> None:
        self._index = index
        self._call = call
        self._tally = tally
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls = Calls()
        self._tokens: list[TokenLogprob] = []
        self._pieces: list[dict[str, list[Any]]] = []
        has_pieces = call.request.sampling.logprobs is not None and not call.request.is_chat
        self._logprobs = TextLogprobs(as_ids=call.has_token_ids) if has_pieces else None
        self._stopped: Stopped | None = None

    def text(self, event: Text) -> None:
        self._texts.append(event.text)
        if self._logprobs is not None:
            self._pieces.append(self._logprobs.piece(event))
        elif self._call.request.sampling.logprobs is not None:
            self._tokens += event.logprobs

    def reasoning(self, event: Reasoning) -> None:
        self._thoughts.append(event.text)

    def call(self, event: ToolCall) -> None:
        self._calls.add(event)

    def stop(self, event: Stopped) -> None:
        self._stopped = event

    def fields(self) -> dict[str, Any]:
        stopped = self._stopped
        fields: dict[str, Any] = {"index": self._index}
        if self._call.request.is_chat:
            fields["message"] = self._message()
        else:
            fields["text"] = "".join(self._texts)
        fields["logprobs"] = self._logprob_fields()
        fields["finish_reason"] = None if stopped is None else public_finish_reason(stopped, self._call)
        if not self._call.request.is_chat and stopped is not None and stopped.stop_reason is not None:
            fields["stop_reason"] = stopped.stop_reason
        judgements = self._tally.judgements(self._index)
        fields["content_filter_results"] = filter_results(*judgements)
        if self._call.has_filter_details:
            fields["content_filter_details"] = filter_details(*judgements)
        return fields

    def _message(self) -> dict[str, Any]:
        text = "".join(self._texts)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._calls:
            message["content"] = text or None
            message |= self._calls.fields(is_older=self._call.has_function_call)
        if thoughts := "".join(self._thoughts):
            message["reasoning_content"] = thoughts
        return message

    def _logprob_fields(self) -> dict[str, Any] | None:
        if self._call.request.sampling.logprobs is None:
            return None
        if self._call.request.is_chat:
            return {"content": chat_logprobs(self._tokens, as_ids=self._call.has_token_ids), "refusal": None}
        keys = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {key: [entry for piece in self._pieces for entry in piece[key]] for key in keys}


class Whole:
    """The answer in one piece, as far as its events have come. `tally` is told of each before it is."""

    def __init__(self, call: Call, tally: Tally, created: int) -> None:
        self._call = call
        self._tally = tally
        self._created = created
        self._started: Started | None = None
        self._choices: list[Choice] = []

    def add(self, event: Event) -> None:
        match event:
            case Text():
                self._choices[event.index].text(event)
            case Reasoning():
                self._choices[event.index].reasoning(event)
            case ToolCall():
                self._choices[event.index].call(event)
            case Stopped():
                self._choices[event.index].stop(event)
            case Started():
                self._started = event
                num_choices = self._call.request.n * len(self._call.request.prompts or ("",))
                self._choices = [Choice(index, self._call, self._tally) for index in range(num_choices)]
            case Noticed() | Judged() | Finish():
                pass
            case _:
                assert_never(event)

    def fields(self) -> dict[str, Any]:
        """Ready to be encoded. Without an end some of it is null."""
        call, tally, started = self._call, self._tally, self._started
        answer: dict[str, Any] = {
            "id": call.request.id,
            "object": "chat.completion" if call.request.is_chat else "text_completion",
            "created": self._created,
            "provider": started and started.provider,
            "model": started and started.model,
            "choices": [choice.fields() for choice in self._choices],
            "usage": tally.usage,
            "system_fingerprint": started and started.fingerprint,
        }
        if warnings := (*call.warnings, *tally.noticed):
            answer["warnings"] = warning_fields(warnings)
        if call.has_route and tally.route is not None:
            answer["route"] = route_of(tally.route)
        return answer


async def whole_answer(events: AsyncIterator[Event], call: Call, tally: Tally, created: int) -> dict[str, Any]:
    """The answer that is not streamed, ready to be encoded. Raises HodiosError."""
    whole = Whole(call, tally, created)
    async for event in events:
        if type(event) is Judged:
            tally.judge(event)
        else:
            tally.add(event)
            whole.add(event)
    if tally.usage is None:
        raise ProviderError("the answer ended before it began")
    return whole.fields()
