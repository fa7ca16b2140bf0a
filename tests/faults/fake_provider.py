"""A provider that fails as it is told to: in process, on the event loop's own time, for traffic in large numbers.

Faults of the wire itself are in `fake_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from virtual_time import now_s

from hodios.errors import HodiosError, InvalidRequest, Overloaded, ProviderError, TimedOut
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.providers.base import ModelHealth
from hodios.types import ModelCard, Price, Request

MODEL = "maker/model"
DOLLAR = 10**9
Script = Callable[["FakeProvider", Request], AsyncGenerator[Event, None]]


def card(name: str, dollars: float = 1.0, **values: object) -> ModelCard:
    price = Price(prompt=int(dollars * DOLLAR), completion=int(dollars * DOLLAR))
    fields = {"context_length": 100_000, "max_output_tokens": 50_000, "price": price, "provider": name, **values}
    return ModelCard(id=MODEL, **fields)  # type: ignore[arg-type]


def answer_to(request: Request) -> str:
    return f"answer to {request.id}"


@dataclass
class FakeProvider:
    """`script` answers; it may be changed at any time."""

    name: str
    script: Script
    dollars: float = 1.0
    card: ModelCard = None  # type: ignore[assignment]
    asked: list[tuple[float, str]] = field(default_factory=list)
    """(when, id of the request)"""
    num_open: int = 0
    most_open: int = 0
    num_closed_early: int = 0

    def __post_init__(self) -> None:
        self.card = self.card or card(self.name, self.dollars)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def models(self) -> Sequence[ModelCard]:
        return (self.card,)

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return [ModelHealth(model=MODEL, state="ready")]

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append((now_s(), request.id))
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        is_over = False
        script = self.script(self, request)
        try:
            async for event in script:
                yield event
            is_over = True
        except HodiosError:
            is_over = True
            raise
        finally:
            await script.aclose()
            self.num_open -= 1
            self.num_closed_early += not is_over


def good(wait_s: float = 0.1, num_pieces: int = 4, per_piece_s: float = 0.01) -> Script:
    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(wait_s)
        yield Started(provider.name, MODEL, "fp_0", 10)
        text = answer_to(request)
        size = -(-len(text) // num_pieces)
        for number in range(num_pieces):
            yield Text(0, text[number * size : (number + 1) * size], completion_tokens=number + 1)
            await asyncio.sleep(per_piece_s)
        yield Stopped(0, "stop")
        yield Finish(Usage(prompt_tokens=10, completion_tokens=num_pieces))

    return script


def failing(make: Callable[[str], HodiosError], wait_s: float = 0.005) -> Script:
    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(wait_s)
        raise make(provider.name)
        yield

    return script


def status(code: int, retry_after: int | None = None) -> Callable[[str], HodiosError]:
    """As the providers say that a server answered with this status."""

    def make(name: str) -> HodiosError:
        told = {"provider": name, "status": code}
        if code == 429 or (code == 503 and retry_after is not None):
            return Overloaded(f"{name} has no room", metadata=told, retry_after=retry_after or 1)
        if code in (400, 422):
            return InvalidRequest(f"{name} refused the request", metadata=told)
        return ProviderError(f"{name} answered with status {code}", metadata=told)

    return make


def hanging(timeout_s: float = 5.0, *, after: Sequence[Event] = ()) -> Script:
    """Says nothing more until its own timeout."""

    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        for event in after:
            yield event
        await asyncio.sleep(timeout_s)
        raise TimedOut(f"{provider.name} did not begin to answer", metadata={"provider": provider.name})

    return script


def saying(*events: Event, wait_s: float = 0.01) -> Script:
    """These events and no more, whatever the grammar says."""

    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(wait_s)
        for event in events:
            yield event

    return script


def limited(capacity: int, inner: Script, refusal: Callable[[str], HodiosError]) -> Script:
    """Refuses while it serves as many as it can."""
    serving = 0

    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        nonlocal serving
        await asyncio.sleep(0.002)
        if serving >= capacity:
            raise refusal(provider.name)
        serving += 1
        events = inner(provider, request)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()
            serving -= 1

    return script


def by_time(*parts: tuple[float, Script]) -> Script:
    """(until when, script): the first whose time is not over answers."""

    def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        now = now_s()
        return next(inner for until_s, inner in parts if now < until_s)(provider, request)

    return script


def every(number: int, odd_one: Script, others: Script) -> Script:
    """Each `number`th request gets the odd one."""
    count = 0

    def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        nonlocal count
        count += 1
        return (others if count % number else odd_one)(provider, request)

    return script
