"""`GET generation?id=`: past requests, each with what it cost and how it found its answer. Keeps the newest in memory,
and finds older ones in the log.

A request is shown to whoever made it, and to the operator; to anybody else it does not exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hodios.accounts.content_queue import ContentQueue
from hodios.api.auth import ADMIN
from hodios.api.content import content_fields
from hodios.api.exchange import CLIENT_GONE, Exchange, error_fields
from hodios.api.explanation import cost_number, milliseconds, route_of
from hodios.api.filters import filter_summary
from hodios.api.request_log import KeptRoute
from hodios.api.usage_entries import from_store, timestamp
from hodios.errors import HodiosError, MissingParameter, NotFound
from hodios.events import Usage
from hodios.money import cost_of
from hodios.store.records import LoggedRequest
from hodios.store.reports import Reports
from hodios.types import FinishReason, Judgement, Request, Route

_LOOK_AGAIN_S = 0.25
_MORE_LOOKS = 3


class Generated(Struct, kw_only=True):
    """One past request. The router tells of it first, then whoever has answered."""

    id: str
    caller: str
    wanted: str
    """The model as the client named it."""
    created_s: float
    route: Route
    usage: Usage | None
    error: HodiosError | None
    request_id: str = ""
    is_streamed: bool = False
    finish_reasons: tuple[FinishReason, ...] = ()
    latency_s: float | None = None
    first_token_s: float | None = None
    judged: Mapping[int | None, Judgement] = {}
    """What guards made of it."""
    has_content: bool = False
    """Whether what was asked and answered is stored."""


class Generations:
    """The newest `most_kept` requests that somebody was asked for, and their route. `clock` gives Unix seconds; without
    a `log` nobody knows of older ones, and without `contents` of what was asked and answered."""

    def __init__(
        self,
        most_kept: int,
        *,
        clock: Callable[[], float] = time.time,
        log: Reports | None = None,
        contents: ContentQueue | None = None,
        has_neighbours: bool = False,
    ) -> None:
        """`has_neighbours`: other processes write into the log."""
        self._most_kept = most_kept
        self._has_neighbours = has_neighbours
        self._log = log
        self._contents = contents
        self._clock = clock
        self._all: dict[str, Generated] = {}
        self._by_request_id: dict[tuple[str, str], str] = {}

    def record(self, request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
        """As `router.Record`."""
        if not self._most_kept:
            return
        self._all[request.id] = Generated(
            id=request.id,
            caller=request.caller,
            wanted=request.model,
            created_s=self._clock(),
            route=route,
            usage=usage,
            error=error,
        )
        if len(self._all) > self._most_kept:
            oldest = self._all.pop(next(iter(self._all)))
            key = (oldest.caller, oldest.request_id)
            if self._by_request_id.get(key) == oldest.id:
                del self._by_request_id[key]

    def complete(
        self,
        answer_id: str,
        exchange: Exchange,
        *,
        created_s: float,
        is_streamed: bool,
        finish_reasons: tuple[FinishReason, ...],
    ) -> None:
        """What only whoever answered knows."""
        generated = self._all.get(answer_id)
        if generated is None:
            return
        generated.request_id = exchange.request_id
        generated.created_s = created_s
        generated.is_streamed = is_streamed
        generated.finish_reasons = finish_reasons
        generated.latency_s = exchange.elapsed_s()
        generated.first_token_s = exchange.first_token_s
        generated.judged = exchange.judged
        generated.has_content = exchange.content is not None
        self._by_request_id[generated.caller, generated.request_id] = generated.id

    async def one(self, exchange: Exchange) -> None:
        """The handler. Raises NotFound, and Overloaded where the log cannot be read."""
        name = exchange.query("id")
        if not name:
            raise MissingParameter("id: is missing; accepted: the id of an answer, or its x-request-id", param="id")
        answer_id = self._by_request_id.get((exchange.caller, name), name)
        generated = self._all.get(answer_id)
        if generated is not None and exchange.caller in (generated.caller, ADMIN):
            content = await self._content(generated.id) if generated.has_content else None
            await exchange.answer_json({"data": {**_fields(generated), "content": content}})
            return
        logged = await self._logged(name)
        if logged is None or exchange.caller not in (logged.key_id, ADMIN):
            raise NotFound(f"id: {name[:100]!r} is no request that was made with this key", param="id")
        content = await self._content(logged.request_id)
        await exchange.answer_json({"data": {**_fields_logged(logged), "content": content}})

    async def _content(self, request_id: str) -> dict[str, Any] | None:
        return None if self._contents is None else content_fields(await from_store(self._contents.of(request_id)))

    async def _logged(self, name: str) -> LoggedRequest | None:
        """Another process may have answered it just now, and is about to log it."""
        if self._log is None or "\0" in name:
            return None
        logged = await from_store(self._log.request(name))
        num_more = _MORE_LOOKS if self._has_neighbours else 0
        while logged is None and num_more:
            num_more -= 1
            await asyncio.sleep(_LOOK_AGAIN_S)
            logged = await from_store(self._log.request(name))
        return logged


def _fields(generated: Generated) -> dict[str, Any]:
    """In OpenRouter's fields, and more."""
    route, usage = generated.route, generated.usage
    last = route.attempts[-1] if route.attempts else None
    shown = [attempt for attempt in route.attempts if attempt.first_token_s is not None]
    num_prompt = usage.prompt_tokens if usage else max((attempt.prompt_tokens for attempt in shown), default=0)
    num_completion = usage.completion_tokens if usage else sum(attempt.completion_tokens for attempt in shown)
    cost = cost_number(cost_of(route.attempts))
    latency_ms, first_ms = milliseconds(generated.latency_s), milliseconds(generated.first_token_s)
    return {
        "id": generated.id,
        "request_id": generated.request_id,
        "model": last.model if last else generated.wanted,
        "requested_model": generated.wanted,
        "provider_name": last.provider if last else None,
        "created_at": timestamp(generated.created_s),
        "streamed": generated.is_streamed,
        "cancelled": usage is None and generated.error is None,
        "finish_reason": generated.finish_reasons[0] if generated.finish_reasons else None,
        "finish_reasons": list(generated.finish_reasons),
        "error": error_fields(generated.error) if generated.error else None,
        "tokens_prompt": num_prompt,
        "tokens_completion": num_completion,
        "native_tokens_prompt": num_prompt,
        "native_tokens_completion": num_completion,
        "native_tokens_reasoning": usage.reasoning_tokens if usage else None,
        "native_tokens_cached": usage.cached_tokens if usage else None,
        "total_cost": cost,
        "usage": cost,
        "latency": latency_ms,
        "time_to_first_token": first_ms,
        "generation_time": None if latency_ms is None or first_ms is None else latency_ms - first_ms,
        "queue_time": milliseconds(usage.queue_s) if usage else None,
        "route": route_of(route),
        "content_filter": filter_summary(generated.judged),
    }


def _fields_logged(logged: LoggedRequest) -> dict[str, Any]:
    """As `_fields`, as far as the log has it."""
    kept = msgspec.json.decode(logged.route, type=KeptRoute)
    cost = cost_number(logged.cost)
    latency_ms, first_ms = milliseconds(logged.latency_s), milliseconds(logged.first_token_s)
    return {
        "id": logged.request_id,
        "request_id": kept.request_id,
        "model": logged.model or logged.wanted_model,
        "requested_model": logged.wanted_model,
        "provider_name": logged.provider,
        "created_at": timestamp(logged.at_s),
        "streamed": logged.is_streamed,
        "cancelled": logged.status == CLIENT_GONE,
        "finish_reason": logged.finish_reason,
        "finish_reasons": list(kept.finish_reasons),
        "error": {"code": logged.error_code} if logged.error_code else None,
        "tokens_prompt": logged.prompt_tokens,
        "tokens_completion": logged.completion_tokens,
        "native_tokens_prompt": logged.prompt_tokens,
        "native_tokens_completion": logged.completion_tokens,
        "native_tokens_reasoning": kept.reasoning_tokens,
        "native_tokens_cached": logged.cached_tokens,
        "total_cost": cost,
        "usage": cost,
        "latency": latency_ms,
        "time_to_first_token": first_ms,
        "generation_time": None if latency_ms is None or first_ms is None else latency_ms - first_ms,
        "queue_time": kept.queue_ms,
        "route": {
            "policy": kept.policy,
            "candidates": [{**msgspec.structs.asdict(each), "pricing": {}} for each in kept.candidates],
            "attempts": kept.attempt_fields(),
        },
        "content_filter": kept.filtered,
    }
