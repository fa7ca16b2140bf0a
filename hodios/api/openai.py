"""`chat/completions` and `completions`: body → call → events → answer, in one piece or as a stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from hodios.api.answers import Tally, whole_answer
from hodios.api.exchange import Exchange
from hodios.api.parameters import CHAT, COMPLETIONS
from hodios.api.sse import Chunks, relay
from hodios.api.wire import Call, Reader
from hodios.config import Config
from hodios.gateway import Gateway


class Generation:
    """The handlers of the two generation routes."""

    def __init__(
        self, gateway: Gateway, config: Config, *, clock: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._gateway = gateway
        self._max_body_bytes = config.max_body_bytes
        self._silence_s = config.first_event_timeout_s
        self._chat = Reader(CHAT, config.max_choices)
        self._completions = Reader(COMPLETIONS, config.max_choices)
        self._clock = clock
        self._new_id = new_id

    async def chat(self, exchange: Exchange) -> None:
        await self._generate(exchange, self._chat, f"chat-{self._new_id()}")

    async def completions(self, exchange: Exchange) -> None:
        await self._generate(exchange, self._completions, f"cmpl-{self._new_id()}")

    async def _generate(self, exchange: Exchange, reader: Reader, answer_id: str) -> None:
        body = await exchange.body(self._max_body_bytes)
        call = reader.read(body, request_id=answer_id, caller=exchange.caller)
        seat = self._gateway.resolve(call.request.model)
        exchange.provider, exchange.model, exchange.num_attempts = seat.provider.name, seat.card.id, 1
        if call.warnings:
            exchange.report_ignored([warning.param for warning in call.warnings])
        exchange.asked_s = exchange.elapsed_s()
        await self._answer(exchange, call)

    async def _answer(self, exchange: Exchange, call: Call) -> None:
        tally = Tally(exchange, call)
        created = int(self._clock())
        try:
            async with exchange.client(), aclosing(self._gateway.generate(call.request)) as events:
                if call.is_streamed:
                    await relay(exchange, events, Chunks(call, tally, created), self._silence_s)
                    return
                answer = await whole_answer(events, call, tally, created)
        finally:
            tally.leave()
        await exchange.answer_json(answer)
