"""Clients of providers that fail in every way there is, as long as one of three is well. Time is virtual."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from fake_provider import (
    MODEL,
    FakeProvider,
    Script,
    answer_to,
    by_time,
    every,
    failing,
    good,
    hanging,
    limited,
    saying,
    status,
)
from msgspec import structs
from virtual_time import now_s, virtually

from hodios.errors import HodiosError, ProviderError
from hodios.events import Event, Finish, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.gateway import Gateway
from hodios.router.router import Router
from hodios.router_settings import RouterSettings
from hodios.types import Request, Route

STARTED = Started("bad", MODEL, "fp_0", 10)
NOTHING = Finish(Usage(prompt_tokens=10, completion_tokens=0))
ENDED = (Stopped(0, "stop"), Finish(Usage(prompt_tokens=10, completion_tokens=5)))
BREACHES: dict[str, Sequence[Event]] = {
    "nothing at all": (),
    "a start alone": (STARTED,),
    "an empty answer": (STARTED, Stopped(0, "stop"), NOTHING),
    "text before the start": (Text(0, "early"),),
    "two starts": (STARTED, STARTED),
    "a choice that nobody asked for": (STARTED, Text(7, "x")),
    "an end before the start": ENDED,
    "a call without a name": (STARTED, ToolCall(0, 0, arguments="{}")),
    "a thought nobody asked for": (STARTED, Reasoning(3, "hm")),
    "empty text and no end": (STARTED, Text(0, ""), Text(0, "")),
}
FAULTS: dict[str, Script] = {
    **{f"status {code}": failing(status(code)) for code in (400, 401, 404, 422, 500, 502, 503, 529)},
    "status 429": failing(status(429, 5)),
    "status 503 with a time to wait": failing(status(503, 1)),
    "a reset at once": failing(lambda name: ProviderError(f"{name} closed the connection"), 0.0),
    "a reset after a second": failing(lambda name: ProviderError(f"{name} closed the connection"), 1.0),
    "silence": hanging(),
    "silence after the start": hanging(after=(STARTED,)),
    "silence after empty text": hanging(after=(STARTED, Text(0, ""))),
    **{what: saying(*events) for what, events in BREACHES.items()},
    "every other one": every(2, failing(status(500)), good()),
    "every tenth one": every(10, hanging(2.0), good()),
    "now and then for ten seconds": by_time(
        (5, good()), (15, failing(status(502))), (40, good()), (50, hanging()), (1e9, good())
    ),
    "more than a few at a time": limited(2, good(), status(503)),
    "more than a few at a time, politely": limited(2, good(), status(503, 1)),
    "more than a few a second": every(3, failing(status(429, 1)), good()),
    "slow": good(wait_s=3.0),
    "drop by drop": good(num_pieces=12, per_piece_s=1.0),
}


class Clients:
    """Who ask `gateway`, and what became of it."""

    def __init__(self, providers: Sequence[FakeProvider], seed: int = 0, **settings: Any) -> None:
        self.providers = providers
        self.records: list[tuple[Request, Route, HodiosError | None]] = []
        self.router = Router(
            RouterSettings(**{"timeout_s": 60.0, **settings}),
            clock=now_s,
            rng=random.Random(seed),
            record=lambda request, route, usage, error: self.records.append((request, route, error)),
        )
        self.gateway = Gateway(providers, self.router)
        self.ends: Counter[str] = Counter()
        self.trouble: list[str] = []
        self._rng = random.Random(seed + 1)
        self._num = 0

    async def ask(self, patience_s: float | None = None, **values: Any) -> list[Event]:
        """One request; the events of its answer, as far as they came."""
        self._num += 1
        said = ({"role": "user", "content": "hello"},)
        request = Request(**{"id": f"chat-{self._num}", "model": MODEL, "messages": said, **values})
        seen: list[Event] = []
        try:
            async with asyncio.timeout(patience_s), aclosing(self.gateway.generate(request)) as events:
                async for event in events:
                    seen.append(event)
        except TimeoutError:
            self._note("late", f"{now_s():.2f} s: {request.id} is late")
            return seen
        except HodiosError as error:
            self._note("failed", f"{now_s():.2f} s: {error!r}")
            return seen
        text = "".join(event.text for event in seen if isinstance(event, Text))
        is_whole = text == answer_to(request) and isinstance(seen[-1], Finish)
        self._note("answered" if is_whole else "wrong", f"{request.id}: {text!r}")
        return seen

    def _note(self, end: str, told: str) -> None:
        self.ends[end] += 1
        if end != "answered":
            self.trouble.append(told)

    async def crowd(self, num_requests: int, num_at_once: int, pause_s: float = 0.05, **values: Any) -> None:
        """Each of so many clients asks again when it has its answer."""
        left = iter(range(num_requests))

        async def work() -> None:
            for _ in left:
                await asyncio.sleep(self._rng.expovariate(1 / pause_s))
                await self.ask(**values)

        await asyncio.gather(*(work() for _ in range(num_at_once)))

    async def stream(self, per_s: float, until_s: float, patience_s: float) -> None:
        """Requests come by themselves, however long the answers take."""
        async with asyncio.TaskGroup() as tasks:
            while now_s() < until_s:
                await asyncio.sleep(self._rng.expovariate(per_s))
                tasks.create_task(self.ask(patience_s))

    def check(self) -> None:
        """What always holds when all is over."""
        for provider in self.providers:
            assert provider.num_open == 0
        for track in self.router.tracks.all().values():
            load = track.load
            assert (load.num_in_flight, load.num_tokens, load.num_uncached) == (0, 0, 0)
        assert len(self.records) == self.ends.total()
        num_asked = sum(len(provider.asked) for provider in self.providers)
        assert sum(len(route.attempts) for _, route, _ in self.records) == num_asked

    @property
    def success(self) -> float:
        return self.ends["answered"] / self.ends.total()

    @property
    def num_ejections(self) -> dict[str, int]:
        return {name: track.breaker.num_ejections for (name, _), track in self.router.tracks.all().items()}


def three(bad: Script, dollars: Sequence[float] = (1.0, 1.0, 3.0)) -> list[FakeProvider]:
    """Two that are bad and cheap, one that is well."""
    scripts = (bad, bad, good())
    return [FakeProvider(f"p{at}", scripts[at], dollars[at]) for at in range(3)]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_good_provider_among_three_is_enough(fault: str) -> None:
    async def run() -> Clients:
        clients = Clients(three(FAULTS[fault]))
        await clients.crowd(1000, 16)
        return clients

    clients = virtually(run())
    clients.check()
    assert clients.ends.total() == 1000
    assert clients.success >= 0.999, clients.trouble[:5]


@pytest.mark.parametrize("fault", ["status 500", "silence", "an empty answer", "every other one"])
@pytest.mark.parametrize("policy", ["price", "latency", "throughput", "perf", "perf_avg"])
def test_no_policy_insists_on_who_is_out_of_order(policy: str, fault: str) -> None:
    async def run() -> Clients:
        clients = Clients(three(FAULTS[fault]), policy=policy)
        await clients.crowd(300, 16)
        return clients

    clients = virtually(run())
    clients.check()
    assert clients.success >= 0.999, clients.trouble[:5]


OUTAGES = {
    "a little silence": hanging(1.0),
    **{
        name: FAULTS[name]
        for name in ("status 500", "status 503", "a reset at once", "an empty answer", "a call without a name")
    },
}


@pytest.mark.parametrize("fault", OUTAGES)
def test_who_fails_five_times_is_ejected_and_back_within_35_s_of_its_recovery(fault: str) -> None:
    """The cheapest one, which is asked first, fails from second 10 on and is well again at the second given."""

    async def run(recovery_s: float) -> tuple[Clients, FakeProvider]:
        bad = FakeProvider("bad", by_time((10, good()), (recovery_s, OUTAGES[fault]), (1e9, good())), 1.0)
        clients = Clients([bad, FakeProvider("well", good(), 5.0)], policy="price")
        while now_s() < recovery_s + 60:
            await clients.ask()
            await asyncio.sleep(0.5)
        return clients, bad

    for recovery_s in (20, 38):
        clients, bad = virtually(run(recovery_s))
        clients.check()
        assert clients.success == 1.0, clients.trouble
        during = [when for when, _ in bad.asked if 10 <= when < recovery_s]
        assert len(during) == 5, "asked until it was ejected, and then no more"
        after = [when for when, _ in bad.asked if when >= recovery_s]
        assert after[0] <= recovery_s + 35
        assert len(after) > 40, "it is asked first again"
        assert clients.num_ejections["bad"] == 1


def test_who_stays_ill_is_probed_less_and_less() -> None:
    async def run() -> tuple[Clients, FakeProvider]:
        bad = FakeProvider("bad", FAULTS["status 502"], 1.0)
        clients = Clients([bad, FakeProvider("well", good(), 5.0)])
        while now_s() < 3600:
            await clients.ask()
            await asyncio.sleep(1.0)
        return clients, bad

    clients, bad = virtually(run())
    clients.check()
    assert clients.success == 1.0
    probes = [when for when, _ in bad.asked][4:]
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(probes)]
    assert gaps[:3] == pytest.approx([31, 61, 91], abs=2)
    assert gaps[-1] == pytest.approx(301, abs=2)


@pytest.mark.parametrize("refusal", [status(503), status(503, 1)])
@pytest.mark.parametrize("is_replica", [True, False])
def test_nobody_is_ejected_for_being_full(refusal: Callable[[str], HodiosError], is_replica: bool) -> None:
    """Three of the same price, of whom one has room for four; the others take all that comes."""

    async def run() -> Clients:
        scripts = [limited(4, good(), refusal), good(), good()]
        providers = [FakeProvider(f"p{at}", script, 1.0) for at, script in enumerate(scripts)]
        for provider in providers:
            provider.card = structs.replace(provider.card, is_replica=is_replica)
        clients = Clients(providers)
        await clients.crowd(2000, 48, pause_s=0.01)
        return clients

    clients = virtually(run())
    clients.check()
    assert clients.success >= 0.999
    assert sum(clients.num_ejections.values()) == 0
    full = clients.providers[0]
    assert full.most_open > 4
    num_served = len([1 for _, route, _ in clients.records if route.attempts[-1].provider == "p0"])
    assert num_served > 100, "and what room it has is used"
    assert len(full.asked) < 2 * num_served, "without asking in vain more often than not"


def test_nobody_is_ejected_when_all_are_full() -> None:
    async def run() -> Clients:
        clients = Clients([FakeProvider(f"p{at}", limited(4, good(), status(503, 1)), 1.0) for at in range(3)])
        await clients.stream(120, 10, 60)
        return clients

    clients = virtually(run())
    clients.check()
    assert sum(clients.num_ejections.values()) == 0
    # Twelve at a time, 0.14 s each.
    assert clients.ends["answered"] > 0.85 * 10 * 12 / 0.14
    assert clients.ends["failed"] > 0


@pytest.mark.parametrize("per_s", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_a_server_that_becomes_slow_is_noticed(per_s: float) -> None:
    """linkerd's scenario: eleven servers at 167 ms, one of them at 2 s for half of a minute, and clients who leave
    after one."""

    async def run() -> Clients:
        well, slow = good(0.167, 1, 0.0), good(2.0, 1, 0.0)
        providers = [FakeProvider(f"p{at}", well) for at in range(11)]
        providers[0].script = by_time((15, well), (45, slow), (1e9, well))
        clients = Clients(providers)
        await clients.stream(per_s, 60, 1.0)
        return clients

    clients = virtually(run())
    clients.check()
    assert clients.success >= 0.999, clients.trouble
    assert sum(clients.num_ejections.values()) == 0
    shares = Counter(route.attempts[0].provider for _, route, _ in clients.records)
    assert max(shares.values()) < 2 * clients.ends.total() / 11


def test_retries_do_not_become_a_storm() -> None:
    """Where everybody fails, nobody is asked much more often than clients ask."""

    async def run() -> Clients:
        clients = Clients([FakeProvider(f"p{at}", FAULTS["status 502"], 1.0) for at in range(5)])
        await clients.stream(100, 20, 100)
        return clients

    clients = virtually(run())
    clients.check()
    num_asked = sum(len(provider.asked) for provider in clients.providers)
    assert clients.ends["failed"] == clients.ends.total()
    # A fifth of the traffic, ten a second, and what a quiet time saves up.
    assert num_asked <= 1.2 * clients.ends.total() + 10 * 20 + 100


def test_a_late_first_token_is_hedged_within_its_share() -> None:
    async def run(share: float) -> Clients:
        slow_now_and_then = every(40, good(4.0), good(0.1))
        clients = Clients([FakeProvider(f"p{at}", slow_now_and_then, 1.0) for at in range(3)], hedge_share=share)
        await clients.crowd(2000, 8)
        return clients

    alone, hedged = virtually(run(0.0)), virtually(run(0.05))
    for clients in (alone, hedged):
        clients.check()
        assert clients.success == 1.0
    waits = [
        sorted(attempt.first_token_s for _, route, _ in clients.records for attempt in route.attempts[-1:])
        for clients in (alone, hedged)
    ]
    assert waits[0][int(0.98 * 2000)] >= 4.0
    num_hedges = sum(len(route.attempts) - 1 for _, route, _ in hedged.records)
    assert 0 < num_hedges <= 0.05 * 2000 + 1
    assert {
        attempt.outcome for _, route, _ in hedged.records for attempt in route.attempts if len(route.attempts) > 1
    } == {"answered", "cancelled"}
    first = [
        min(attempt.first_token_s for attempt in route.attempts if attempt.first_token_s is not None)
        for _, route, _ in hedged.records
    ]
    assert sorted(first)[int(0.98 * 2000)] < 1.0
    assert sum(provider.num_closed_early for provider in hedged.providers) == num_hedges
    ends = [attempt.ended_s for _, route, _ in hedged.records for attempt in route.attempts]
    assert sorted(ends)[int(0.98 * len(ends))] < 1.5, "nobody waits for the loser"


def test_clients_who_leave_leave_nothing_behind() -> None:
    async def run() -> Clients:
        clients = Clients(three(FAULTS["a reset after a second"]), hedge_share=0.1)
        rng = random.Random(7)

        async def later() -> None:
            await asyncio.sleep(rng.uniform(0, 20))
            await clients.ask(patience_s=rng.uniform(0, 2.5))

        await asyncio.gather(*(later() for _ in range(500)))
        return clients

    clients = virtually(run())
    clients.check()
    assert clients.ends["late"] > 40
    assert clients.ends["answered"] > 100
    outcomes = Counter(attempt.outcome for _, route, _ in clients.records for attempt in route.attempts)
    assert outcomes["cancelled"] >= clients.ends["late"]


@pytest.mark.parametrize("num_at_once", [pytest.param(1, marks=pytest.mark.full), 32])
def test_the_default_policy_pays_little_more_than_the_cheapest(num_at_once: int) -> None:
    async def run() -> Clients:
        clients = Clients([FakeProvider(f"p{price}", good(), float(price)) for price in (1, 2, 3)])
        await clients.crowd(10_000, num_at_once, pause_s=0.001)
        return clients

    clients = virtually(run())
    clients.check()
    paid = Counter(int(route.attempts[0].provider.removeprefix("p")) for _, route, _ in clients.records)
    regret = sum(price * num for price, num in paid.items()) / 10_000
    assert regret <= 1.36, paid
    assert num_at_once == 1 or min(paid[2], paid[3]) > 100, "a crowd is shared"
