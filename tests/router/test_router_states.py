"""Clients, providers that change their ways, and time, in any order: nothing is lost, doubled, or left behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field

from fake_provider import MODEL, FakeProvider, answer_to, card, failing, good, hanging, limited, saying, status
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from virtual_time import VirtualLoop

from hodios.errors import HodiosError, ProviderError
from hodios.events import Event, Finish, Noticed, Started, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.router.router import LEAST_SAMPLES, Router
from hodios.router_settings import RouterSettings
from hodios.types import Request, Route, Routing, Warning

STARTED = Started("odd", MODEL, "fp_0", 10)
FINISH = Finish(Usage(prompt_tokens=10, completion_tokens=0))
WAYS = {
    "good": good(),
    "slow": good(3.0),
    "at once": good(0.0, 2, 0.0),
    "error": failing(status(500)),
    "refusal": failing(status(400)),
    "rate limit": failing(status(429, 3)),
    "overload": failing(status(503, 1)),
    "plain overload": limited(1, good(), status(503)),
    "hang": hanging(4.0),
    "hang after the start": hanging(4.0, after=(STARTED, Noticed(Warning("a", "b", "c")))),
    "empty": saying(STARTED, Stopped(0, "stop"), FINISH),
    "half a stream": saying(STARTED, Text(0, "answer", completion_tokens=1)),
    "two ends": saying(STARTED, Text(0, "answer"), Stopped(0, "stop"), FINISH, FINISH),
}
ROUTINGS = {
    "none": Routing(),
    "order": Routing(order=("p2", "p0")),
    "order alone": Routing(order=("p1",), allows_fallbacks=False),
    "only one": Routing(only=("p1",)),
    "no second": Routing(allows_fallbacks=False),
    "latency": Routing(sort="latency"),
    "fast": Routing(preferred_max_latency_s=1.0),
}


@dataclass
class Client:
    request: Request
    leaves_after: int | None
    events: list[Event] = field(default_factory=list)
    error: HodiosError | None = None
    has_left: bool = False

    async def run(self, gateway: Gateway) -> None:
        try:
            async with aclosing(gateway.generate(self.request)) as events:
                async for event in events:
                    self.events.append(event)
                    if len(self.events) == self.leaves_after:
                        self.has_left = True
                        return
        except HodiosError as error:
            self.error = error
        except asyncio.CancelledError:
            self.has_left = True

    def check(self) -> None:
        text = "".join(event.text for event in self.events if isinstance(event, Text))
        kinds = [type(event) for event in self.events]
        assert kinds.count(Started) <= 1
        assert kinds[:1] in ([], [Started])
        assert self.has_left or kinds.count(Finish) == (self.error is None)
        assert Finish not in kinds[:-1]
        if Finish in kinds:
            assert text in ("", answer_to(self.request))
        elif text != "answer":
            assert answer_to(self.request).startswith(text)
        if self.error is not None and Text in kinds:
            assert isinstance(self.error, ProviderError), "no error but one of who broke off"


class Traffic(RuleBasedStateMachine):
    @initialize(hedge_share=st.sampled_from([0.0, 0.1]), is_replica=st.booleans(), num=st.integers(1, 4))
    def begin(self, hedge_share: float, is_replica: bool, num: int) -> None:
        self.loop = VirtualLoop()
        cards = [card(f"p{at}", 1.0 if is_replica else at + 1.0, is_replica=is_replica) for at in range(num)]
        self.providers = [FakeProvider(each.provider, good(), card=each) for each in cards]
        self.records: list[tuple[str, Route, Usage | None, HodiosError | None]] = []
        self.router = Router(
            RouterSettings(timeout_s=20.0, hedge_share=hedge_share),
            clock=self.loop.time,
            rng=random.Random(0),
            record=lambda request, route, usage, error: self.records.append((request.id, route, usage, error)),
        )
        self.gateway = Gateway(self.providers, self.router)
        for seat in self.gateway.seats():
            # So that it is known from the start when to hedge.
            for _ in range(LEAST_SAMPLES):
                self.router.tracks.of(seat).stats.waits.add(0.1, 0.0)
        self.clients: list[Client] = []
        self.tasks: list[asyncio.Task[None]] = []

    @rule(at=st.integers(0, 3), way=st.sampled_from(sorted(WAYS)))
    def change(self, at: int, way: str) -> None:
        self.providers[at % len(self.providers)].script = WAYS[way]

    @rule(
        num=st.integers(1, 6),
        routing=st.sampled_from(sorted(ROUTINGS)),
        leaves_after=st.sampled_from([None, None, 1, 2, 3]),
    )
    def ask(self, num: int, routing: str, leaves_after: int | None) -> None:
        for _ in range(num):
            said = ({"role": "user", "content": "hello " * 60},)
            name = f"chat-{len(self.clients)}"
            request = Request(id=name, model=MODEL, messages=said, routing=ROUTINGS[routing])
            client = Client(request, leaves_after)
            self.clients.append(client)
            self.tasks.append(self.loop.create_task(client.run(self.gateway)))

    @rule(number=st.integers(0, 30))
    def leave(self, number: int) -> None:
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    @rule(pause_s=st.sampled_from([0.0, 0.05, 0.3, 1.0, 5.0, 35.0]))
    def wait(self, pause_s: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(pause_s))

    @invariant()
    def counts_what_is_on_its_way(self) -> None:
        for provider in getattr(self, "providers", ()):
            track = self.router.tracks.all().get((provider.name, MODEL))
            if track is not None:
                assert track.load.num_in_flight >= provider.num_open
                assert track.load.num_uncached <= track.load.num_tokens

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            for task in self.tasks:
                self.loop.run_until_complete(asyncio.wait([task]))
            self._check()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _check(self) -> None:
        for client, task in zip(self.clients, self.tasks, strict=True):
            client.has_left |= task.cancelled()
            assert task.cancelled() or task.exception() is None
            client.check()
        for provider in self.providers:
            assert provider.num_open == 0
        for track in self.router.tracks.all().values():
            assert (track.load.num_in_flight, track.load.num_tokens, track.load.num_uncached) == (0, 0, 0)
        asked = sorted((provider.name, name) for provider in self.providers for _, name in provider.asked)
        recorded = sorted((attempt.provider, name) for name, route, _, _ in self.records for attempt in route.attempts)
        # Who leaves before anybody was asked is no attempt; all others are one each.
        begun = [place for place in recorded if place in set(asked)]
        assert begun == asked
        assert len({name for name, _, _, _ in self.records}) == len(self.records)
        for name, route, usage, error in self.records:
            client = self.clients[int(name.removeprefix("chat-"))]
            assert (usage is None) or error is None
            assert client.error is error or client.has_left
            outcomes = [attempt.outcome for attempt in route.attempts]
            assert outcomes.count("answered") == (usage is not None)
            for attempt in route.attempts:
                assert 0 <= attempt.began_s <= attempt.ended_s
                assert attempt.first_token_s is None or attempt.began_s <= attempt.first_token_s <= attempt.ended_s
            if client.events and isinstance(client.events[-1], Finish):
                assert client.events[-1].route == route


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=25)
