"""`chat/completions` and `completions`: body → call → events → answer, in one piece or as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from hodios.accounts.accounts import Accounts
from hodios.accounts.limits import FREE
from hodios.accounts.tab import Tab
from hodios.api.answers import Tally, whole_answer
from hodios.api.content import Content, StoredChunks
from hodios.api.exchange import Exchange
from hodios.api.generation import Generations
from hodios.api.parameters import CHAT, COMPLETIONS
from hodios.api.permits import permitted, with_policy
from hodios.api.replay import Replays, is_named
from hodios.api.sse import Chunks, relay
from hodios.api.wire import Call, Reader, forbid
from hodios.config import Config
from hodios.events import Event, Judged, Noticed, Started
from hodios.gateway import Gateway, Seat
from hodios.router.seam import SEAM_CODES


class Generation:
    """The handlers of the two generation routes."""

    def __init__(
        self,
        gateway: Gateway,
        config: Config,
        generations: Generations,
        accounts: Accounts | None = None,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._generations = generations
        self._accounts = accounts
        self._max_body_bytes = config.max_body_bytes
        self._silence_s = config.first_event_timeout_s
        self._chat = Reader(CHAT, config.max_choices)
        self._completions = Reader(COMPLETIONS, config.max_choices)
        self._clock = clock
        self._new_id = new_id
        self._replays = Replays(monotonic)

    async def chat(self, exchange: Exchange) -> None:
        await self._generate(exchange, self._chat, f"chat-{self._new_id()}")

    async def completions(self, exchange: Exchange) -> None:
        await self._generate(exchange, self._completions, f"cmpl-{self._new_id()}")

    async def _generate(self, exchange: Exchange, reader: Reader, answer_id: str) -> None:
        exchange.answer_id = answer_id
        body = await exchange.body(self._max_body_bytes)
        if exchange.admitted is not None and exchange.admitted.key.stores_content:
            exchange.content = Content(body)
        call = reader.read(body, request_id=answer_id, caller=exchange.caller)
        exchange.request, exchange.is_streamed = call.request, call.is_streamed
        exchange.report_ignored([warning.param for warning in call.warnings])
        if not is_named(exchange):
            await self._ask(exchange, call)
            return
        async with self._replays.once(exchange, reader.operation, body) as kept:
            if kept is None:
                await self._ask(exchange, call)
            else:
                await exchange.answer(kept.status, kept.body)

    async def _ask(self, exchange: Exchange, call: Call) -> None:
        if self._accounts is None or exchange.admitted is None:
            await self._answer(exchange, call)
            return
        accounts, admitted = self._accounts, exchange.admitted
        call = with_policy(call, admitted.key)
        exchange.request = call.request
        # Most keys have no limits, and of theirs this is the path of every request.
        is_limited = accounts.has_limits(admitted)
        permit = await permitted(accounts, admitted, exchange, call.request) if is_limited else FREE
        tab = Tab(accounts, admitted)
        try:
            await self._answer(exchange, call, tab)
        finally:
            accounts.leave(permit, tab.num_tokens)

    async def _answer(self, exchange: Exchange, call: Call, tab: Tab | None = None) -> None:
        exchange.asked_s = exchange.elapsed_s()
        tally = Tally(exchange, call)
        created_s = self._clock()
        created = int(created_s)
        generated = self._gateway.generate(call.request, _noting(exchange), tab)
        if call.is_strict:
            generated = _strictly(generated, is_streamed=call.is_streamed)
        try:
            with exchange.client():
                async with aclosing(generated) as events:
                    if call.is_streamed:
                        await relay(exchange, events, _chunks(exchange, call, tally, created), self._silence_s)
                        return
                    answer = await whole_answer(events, call, tally, created)
        finally:
            tally.leave()
            self._generations.complete(
                call.request.id,
                exchange,
                created_s=created_s,
                is_streamed=call.is_streamed,
                finish_reasons=tuple(reason for _, reason in sorted(tally.finish_reasons.items())),
            )
        exchange.report_ignored([warning.param for warning in tally.noticed])
        await exchange.answer_json(answer)


def _chunks(exchange: Exchange, call: Call, tally: Tally, created: int) -> Chunks:
    if exchange.content is None:
        return Chunks(call, tally, created)
    return StoredChunks(call, tally, created, exchange.content)


def _noting(exchange: Exchange) -> Callable[[Seat], None]:
    """Notes who is asked. Who answers in the end may be another of them, which its first event says."""

    def note(seat: Seat) -> None:
        exchange.provider, exchange.model = seat.provider.name, seat.card.id
        exchange.num_attempts += 1

    return note


async def _strictly(events: AsyncGenerator[Event, None], *, is_streamed: bool) -> AsyncGenerator[Event, None]:
    """`strict: true` for what is noticed while answering. Raises UnsupportedParameter; once the events of a stream are
    on their way that would break off a good answer, so from then on a notice stays one. That somebody else went on with
    the answer always is one: the client has all that it asked for."""
    held: list[Event] = []
    is_on_its_way = False
    async with aclosing(events):
        async for event in events:
            if type(event) is Noticed and not is_on_its_way and event.warning.code not in SEAM_CODES:
                forbid((event.warning,))
            if is_streamed and not is_on_its_way and isinstance(event, (Started, Judged)):
                held.append(event)
                continue
            for each in held:
                yield each
                is_on_its_way = True
            held.clear()
            yield event
