"""Replicas that tell how busy they are, and what that changes. Time is virtual, but where sockets are asked."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

import pytest
from fake_provider import MODEL, FakeProvider, card, good
from msgspec import structs
from scripted_upstream import HANG, Asked, Reply, ScriptedUpstream, said, serving
from virtual_time import now_s, virtually

from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.providers.base import Provider, ServerLoad
from hodios.providers.gauges import MOST_BYTES
from hodios.providers.remote import RemoteProvider
from hodios.remotes import LoadGauges, Remote, RemoteModel
from hodios.router.load import Load, Report
from hodios.router.router import Router
from hodios.router.server_loads import MEMORY_S, MOST_PAUSE_S, WANTED_S, ServerLoads
from hodios.types import Request

LONG = "once upon a time there was a king " * 100
Busy = Callable[[], int]
Result = TypeVar("Result")


class Replica(FakeProvider):
    """Says how many requests it has: ours, and as many of others as `others` returns."""

    others: Busy = staticmethod(lambda: 0)
    slots = 1000
    """What is more than these has to wait."""
    takes_s = 0.05

    def __post_init__(self) -> None:
        self.card = card(self.name, is_replica=True)
        self.looked: list[float] = []
        self.num_at_once = self.most_at_once = 0

    async def loads(self) -> Mapping[str, ServerLoad]:
        self.looked.append(now_s())
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            await asyncio.sleep(self.takes_s)
            return self.told()
        finally:
            self.num_at_once -= 1

    def told(self) -> Mapping[str, ServerLoad]:
        num = self.num_open + self.others()
        return {MODEL: ServerLoad(num_running=min(num, self.slots), num_waiting=max(0, num - self.slots))}


class Silent(Replica):
    def told(self) -> Mapping[str, ServerLoad]:
        return {}


class House:
    """Replicas with a router that asks them, and clients."""

    def __init__(self, *providers: FakeProvider) -> None:
        self.providers = providers
        self.router = Router(clock=now_s, rng=random.Random(0))
        self.gateway = Gateway(providers, self.router)
        self.loads = ServerLoads(providers, self.router.tracks, clock=now_s, rng=random.Random(0))
        self._num = 0

    async def ask(self, text: str = "hello", **values: Any) -> None:
        self._num += 1
        said = ({"role": "user", "content": text},)
        async with aclosing(
            self.gateway.generate(Request(id=f"chat-{self._num}", model=MODEL, messages=said, **values))
        ) as events:
            async for _ in events:
                pass

    async def ask_all(self, until_s: float, per_s: float = 20.0, text: Callable[[int], str] = str) -> None:
        """Requests come by themselves."""
        async with asyncio.TaskGroup() as tasks:
            while now_s() < until_s:
                await asyncio.sleep(1 / per_s)
                tasks.create_task(self.ask(text(self._num)))

    def report(self, name: str) -> Report | None:
        return self.router.tracks.all()[name, MODEL].load.report

    def shares(self, since_s: float, until_s: float) -> list[float]:
        """Of each provider, of the requests between these times."""
        nums = [sum(since_s <= when < until_s for when, _ in each.asked) for each in self.providers]
        return [num / sum(nums) for num in nums]


def between(begin_s: float, end_s: float, num: int) -> Busy:
    return lambda: num if begin_s <= now_s() < end_s else 0


def housed(work: Callable[[House], Coroutine[Any, Any, Result]], *providers: FakeProvider) -> tuple[House, Result]:
    async def run() -> tuple[House, Result]:
        house = House(*providers)
        async with house.loads.running():
            result = await work(house)
        assert len(asyncio.all_tasks()) == 1, "nothing is left behind"
        return house, result

    return virtually(run())


def test_traffic_leaves_the_replica_that_others_keep_busy_and_comes_back() -> None:
    one, two = Replica("one", good()), Replica("two", good())
    one.others = between(20, 40, 50)
    house, _ = housed(lambda house: house.ask_all(60), one, two)
    assert min(house.shares(0, 20)) > 0.3
    assert house.shares(22, 40) == pytest.approx([0.0, 1.0], abs=0.02)
    assert house.shares(43, 60) == pytest.approx(house.shares(0, 20), abs=0.1)


def test_a_prompt_leaves_its_replica_while_requests_wait_there() -> None:
    """Its beginning is known there, and our own requests alone would never be too many."""
    one, two = Replica("one", good()), Replica("two", good())
    one.slots, one.others = 8, between(20, 40, 30)

    async def work(house: House) -> None:
        two.others = lambda: 5
        await house.ask(LONG)
        await asyncio.sleep(2)
        await house.ask_all(60, 10.0, lambda number: LONG)

    house, _ = housed(work, one, two)
    assert house.shares(0, 20) == [1.0, 0.0]
    assert house.shares(22, 40) == [0.0, 1.0]
    assert house.shares(43, 60) == [1.0, 0.0], "now both have the prompt, and the other one has more to do"


def test_without_reports_all_is_as_it_was() -> None:
    def asked(kind: type[FakeProvider]) -> list[list[tuple[float, str]]]:
        providers = [kind(f"p{at}", good()) for at in range(3)]
        for provider in providers:
            provider.card = structs.replace(provider.card, is_replica=True)
        housed(lambda house: house.ask_all(30), *providers)
        return [provider.asked for provider in providers]

    assert asked(Silent) == asked(FakeProvider)


def test_ours_are_not_taken_for_those_of_others() -> None:
    async def work(house: House) -> list[int]:
        seen = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.ask_all(30, 40.0))
            for _ in range(50):
                await asyncio.sleep(0.5)
                seen += [report.num_others for name in ("one", "two") if (report := house.report(name))]
        return seen

    one, two = Replica("one", good(2.0)), Replica("two", good(2.0))
    one.others = two.others = lambda: 3
    _, seen = housed(work, one, two)
    assert len(seen) > 80
    assert set(seen) == {3}


def test_a_request_for_several_answers_is_as_many_on_the_server() -> None:
    class Each(Replica):
        def told(self) -> Mapping[str, ServerLoad]:
            return {MODEL: ServerLoad(num_running=4 * self.num_open)}

    async def work(house: House) -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(house.ask(n=4))
            await asyncio.sleep(3)
            return [house.report(name).num_others for name in ("one", "two")]  # type: ignore[union-attr]

    async def four(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(5)
        yield Started(provider.name, MODEL, "fp_0", 10)
        for index in range(4):
            yield Text(index, "yes", completion_tokens=1)
            yield Stopped(index, "stop")
        yield Finish(Usage(prompt_tokens=10, completion_tokens=4))

    _, seen = housed(work, Each("one", four), Each("two", four))
    assert seen == [0, 0]


def test_servers_are_asked_about_once_a_second_and_only_while_requests_choose_among_them() -> None:
    alone = Replica("alone", good())
    alone.card = structs.replace(alone.card, id="maker/alone")
    one, two = Replica("one", good()), Replica("two", good())

    async def work(house: House) -> int:
        await asyncio.sleep(30)
        assert one.looked + two.looked == [], "nobody has asked yet"
        await house.ask_all(60)
        await asyncio.sleep(60)
        return len(one.looked)

    house, num = housed(work, one, two, alone)
    assert num == pytest.approx(30 + WANTED_S, abs=8)
    gaps = [later - earlier for earlier, later in itertools.pairwise(one.looked)]
    assert all(0.75 <= gap <= 1.25 for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 10
    assert max(two.looked) < 60 + WANTED_S + 1.25
    assert alone.looked == []
    assert house.report("one") is None, "what it said is forgotten"


def test_one_question_at_a_time_however_long_it_takes() -> None:
    one, two = Replica("one", good()), Replica("two", good())
    one.takes_s = 7.0
    housed(lambda house: house.ask_all(60), one, two)
    assert one.most_at_once == 1
    assert len(one.looked) == pytest.approx(8, abs=1)
    assert len(two.looked) > 40, "the others do not wait for it"


def test_who_says_nothing_is_asked_ever_more_rarely_and_at_once_again_when_it_does() -> None:
    one, two = Silent("one", good()), Replica("two", good())
    housed(lambda house: house.ask_all(600, 2.0), one, two)
    gaps = [later - earlier for earlier, later in itertools.pairwise(one.looked)]
    assert len(gaps) < 20
    assert gaps[:5] == pytest.approx([1, 2, 4, 8, 16], rel=0.3, abs=1.3)
    assert max(gaps) <= 1.25 * MOST_PAUSE_S + 1.3

    class Late(Replica):
        def told(self) -> Mapping[str, ServerLoad]:
            return super().told() if now_s() > 20 else {}

    late = Late("late", good())
    housed(lambda house: house.ask_all(120), late, Replica("two", good()))
    assert len([when for when in late.looked if when <= 20]) < 8
    assert len([when for when in late.looked if when > 60]) > 40


def test_what_a_server_said_is_forgotten_when_it_falls_silent() -> None:
    class Falling(Replica):
        def told(self) -> Mapping[str, ServerLoad]:
            return super().told() if now_s() < 20 else {}

    one, two = Falling("one", good()), Replica("two", good())
    one.others = lambda: 50
    house, _ = housed(lambda house: house.ask_all(60), one, two)
    assert house.shares(3, 20)[0] < 0.05
    assert min(house.shares(20 + MEMORY_S + 3, 60)) > 0.3


def test_models_that_share_an_engine_have_each_others_requests() -> None:
    """Two adapters of one server: of each, the requests for the other one are others'."""

    class Shared(Replica):
        def told(self) -> Mapping[str, ServerLoad]:
            return dict.fromkeys((MODEL, "maker/adapter"), ServerLoad(num_running=5, cache_usage=0.5))

    async def run() -> list[Report | None]:
        house = House(Shared("one", good()), Shared("two", good()))
        await house.ask()
        tracks = house.router.tracks
        (seat, *_) = house.gateway.seats()
        adapter = tracks.of(seat._replace(card=structs.replace(seat.card, id="maker/adapter")))
        adapter.load.begin(now_s(), 10, 10)
        adapter.load.begin(now_s(), 10, 10)
        house.loads.look()
        await asyncio.sleep(1)
        return [house.report("one"), adapter.load.report]

    plain, adapter = virtually(run())
    assert plain is not None
    assert adapter is not None
    assert (plain.num_others, adapter.num_others, plain.cache_usage) == (5, 3, 0.5)


class Wired:
    """Two servers behind sockets; `metrics` is what the first one tells."""

    def __init__(self, metrics: Callable[[], Reply]) -> None:
        self.metrics = metrics
        self.asked: Counter[str] = Counter()

    def script(self, name: str) -> Callable[[Asked], Reply]:
        def script(asked: Asked) -> Reply:
            if asked.path == "/metrics":
                return self.metrics() if name == "one" else gauges(0)
            self.asked[name] += 1
            return said("yes")

        return script


def gauges(num_running: int, num_waiting: int = 0) -> Reply:
    text = (
        "# HELP vllm:num_requests_running Requests.\n"
        f'vllm:num_requests_running{{engine="0",model_name="m"}} {num_running}.0\n'
        f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {num_waiting}.0\n'
    )
    return Reply([text.encode()], content_type="text/plain")


def provider(name: str, url: str) -> RemoteProvider:
    row = RemoteModel(id=MODEL, upstream_id="m", context_length=10_000, is_replica=True)
    load = LoadGauges(
        running=("vllm:num_requests_running",), waiting=("vllm:num_requests_waiting",), model_label="model_name"
    )
    return RemoteProvider(Remote(name=name, base_url=f"{url}/v1", load=load, models=(row,)), None)


async def wired_shares(wired: Wired, num: int = 20) -> tuple[Counter[str], Load]:
    """Who was asked so many requests, after the servers were looked at once."""
    async with AsyncExitStack() as stack:
        providers: list[Provider] = []
        for name in ("one", "two"):
            upstream = await stack.enter_async_context(serving(ScriptedUpstream(script=wired.script(name))))
            providers.append(provider(name, upstream.url))
            stack.push_async_callback(providers[-1].aclose)
            await providers[-1].start()
        router = Router(rng=random.Random(0))
        gateway, loads = Gateway(providers, router), ServerLoads(providers, router.tracks)
        for number in range(num + 1):
            request = Request(id=f"chat-{number}", model=MODEL, messages=({"role": "user", "content": "hello"},))
            async with aclosing(gateway.generate(request)) as events:
                async for _ in events:
                    pass
            if number == 0:
                wired.asked.clear()
                loads.look()
                await asyncio.gather(*loads._tasks.values())
        return wired.asked, router.tracks.all()["one", MODEL].load


async def test_real_servers_are_asked_and_left_alone_while_others_keep_them_busy() -> None:
    asked, load = await wired_shares(Wired(lambda: gauges(20, 3)))
    assert asked == {"two": 20}
    assert (load.num_others, load.has_queue) == (23, True)


@pytest.mark.parametrize(
    "metrics",
    [
        lambda: Reply([b"nonsense {{{ 1\n\xff"], content_type="text/plain"),
        lambda: Reply([b"vllm:num_requests_running 1e999\n"], content_type="text/plain"),
        lambda: Reply([b"x" * 2**20] * (MOST_BYTES // 2**20 + 1), content_type="text/plain"),
        lambda: Reply([b"vllm:num_requests_running 20\n", HANG], content_type="text/plain"),
        lambda: Reply(status=404),
        lambda: Reply(is_head_missing=True),
    ],
    ids=["malformed", "no number", "huge", "slow", "none", "cut off"],
)
async def test_metrics_that_make_no_sense_change_nothing(
    metrics: Callable[[], Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hodios.providers.remote._LOADS_S", 0.2)
    asked, load = await wired_shares(Wired(metrics))
    assert load.report is None
    # Nothing is in flight on either: the first of the two is as good as the other.
    assert asked == {"one": 20}
