from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fake_provider import MODEL, FakeProvider, by_time, good, status
from fake_provider import failing as failing_with
from virtual_time import now_s, virtually

from hodios.gateway import Gateway
from hodios.providers.base import ModelHealth, Verdict
from hodios.router.history import History
from hodios.router.probes import Prober
from hodios.router.router import Router
from hodios.router_settings import RouterSettings
from hodios.types import Request

BAD = failing_with(status(502))
Says = Callable[[], Verdict]


class Probed(FakeProvider):
    """Says of itself what `says` returns, after `takes_s`."""

    says: Says = staticmethod(lambda: "well")
    takes_s = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.probed: list[float] = []
        self.num_at_once = self.most_at_once = 0

    async def probe(self) -> Verdict:
        self.probed.append(now_s())
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            verdict = self.says()
            await asyncio.sleep(5.0 if verdict == "ill" else self.takes_s)
            return verdict
        finally:
            self.num_at_once -= 1


class House:
    """Providers with a router and a prober."""

    def __init__(self, *providers: FakeProvider, interval_s: float = 60.0, seed: int = 0) -> None:
        self.history = History(clock=now_s)
        self.router = Router(
            RouterSettings(policy="price"),
            clock=now_s,
            rng=random.Random(seed),
            record=self.history.record,
            on_breaker=self.history.note_breaker,
        )
        self.gateway = Gateway(providers, self.router)
        rng = random.Random(seed)
        self.prober = Prober(providers, self.router.tracks, self.history, interval_s, clock=now_s, rng=rng)
        self.num_asked = self.num_failed = 0

    async def ask(self) -> None:
        self.num_asked += 1
        request = Request(id=f"chat-{self.num_asked}", model=MODEL, messages=({"role": "user", "content": "hi"},))
        try:
            async for _ in self.gateway.generate(request):
                pass
        except Exception:  # noqa: BLE001 - whatever it is, the client has no answer
            self.num_failed += 1

    async def live(self, until_s: float, every_s: float | None = 0.5) -> None:
        """Clients ask all the time; None: never."""
        async with self.prober.running():
            while now_s() < until_s:
                await asyncio.sleep(every_s or 1.0)
                if every_s is not None:
                    await self.ask()

    def is_open(self, name: str) -> bool:
        return self.router.tracks.all()[name, MODEL].breaker.is_open


def living(*providers: FakeProvider, until_s: float, every_s: float | None = 0.5, **values: Any) -> House:
    async def run() -> House:
        house = House(*providers, **values)
        await house.live(until_s, every_s)
        return house

    return virtually(run())


def away(begin_s: float, end_s: float) -> Says:
    return lambda: "ill" if begin_s <= now_s() < end_s else "well"


def gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_who_is_not_asked_is_probed_in_its_interval_and_never_asked() -> None:
    idle = Probed("idle", good(), 9.0)
    house = living(idle, until_s=3600, every_s=None)
    assert idle.asked == []
    assert len(idle.probed) == pytest.approx(60, rel=0.1)
    # A quarter more or less, and the tick in which it is noticed.
    assert all(45 <= gap <= 77 for gap in gaps(idle.probed))
    assert len({round(gap) for gap in gaps(idle.probed)}) > 10
    assert house.history.checked("idle").verdict == "well"  # type: ignore[union-attr]


def test_who_is_busy_is_not_probed() -> None:
    busy = Probed("busy", good(), 1.0)
    living(busy, until_s=600)
    assert len(busy.asked) > 500
    assert busy.probed == []


def test_nobody_is_probed_where_that_is_switched_off() -> None:
    one = Probed("one", good())
    living(one, until_s=600, every_s=None, interval_s=0)
    assert one.probed == []


def test_one_probe_at_a_time_however_long_it_takes() -> None:
    slow = Probed("slow", good())
    slow.takes_s = 300.0
    living(slow, until_s=1800, every_s=None)
    assert slow.most_at_once == 1
    assert len(slow.probed) == pytest.approx(5, abs=1)


def test_who_is_found_ill_five_times_is_ejected_before_a_request_finds_out() -> None:
    async def run() -> tuple[House, Probed]:
        idle, other = Probed("idle", BAD, 1.0), Probed("other", good(), 5.0)
        house = House(idle, other)
        await house.ask()
        idle.says = lambda: "ill"
        await house.live(600, None)
        await house.ask()
        return house, idle

    house, idle = virtually(run())
    assert len(idle.asked) == 1, "its seat was looked at once, and not again"
    assert house.num_failed == 0
    (incident,) = [each for each in house.history.incidents.newest_first() if each.provider == "idle"]
    assert incident.ended_s is None


def test_what_says_nothing_ejects_nobody_and_brings_nobody_back() -> None:
    dumb = Probed("dumb", by_time((30, BAD), (1e9, good())), 1.0)
    dumb.says = lambda: "unknown"
    living(dumb, Probed("other", good(), 5.0), until_s=25)
    assert len(dumb.asked) == 5
    dumb = Probed("dumb", by_time((20, BAD), (1e9, good())), 1.0)
    dumb.says = lambda: "unknown"
    house = living(dumb, Probed("other", good(), 5.0), until_s=120)
    after = [when for when, _ in dumb.asked if when > 20]
    assert after[0] < 40, "the next request is the probe"
    assert not house.is_open("dumb")


OUTAGES_S = [3, 20, 29, 31, 50, 61, 95, 180, 400]


@pytest.mark.parametrize("lasts_s", OUTAGES_S)
def test_who_was_away_is_back_within_35_s_however_long_it_was(lasts_s: float) -> None:
    """The cheapest one is gone from second 10 on, its models route and all; a dearer one has taken over."""
    end_s = 10 + lasts_s
    cheap = Probed("cheap", by_time((10, good()), (end_s, BAD), (1e9, good())), 1.0)
    cheap.says = away(10, end_s)
    house = living(cheap, Probed("dear", good(), 5.0), until_s=end_s + 60, every_s=0.5)
    assert house.num_failed == 0
    during = [when for when, _ in cheap.asked if 10 <= when < end_s]
    assert len(during) <= 5, "requests find out no more than once"
    after = [when for when, _ in cheap.asked if when >= end_s]
    assert after[0] <= end_s + 35
    assert len(after) > 20, "it is asked first again"


def test_who_is_well_but_does_not_answer_is_tried_less_and_less() -> None:
    """Its models route answers all the time: that it does is no sign of recovery."""
    broken = Probed("broken", BAD, 1.0)
    living(broken, Probed("other", good(), 5.0), until_s=1300, every_s=1.0)
    tries = [when for when, _ in broken.asked][5:]
    assert gaps(tries) == pytest.approx([60, 90, 120, 150, 180, 210, 240], abs=10)


def test_who_knows_its_own_state_is_believed() -> None:
    class Launched(FakeProvider):
        def health(self) -> Sequence[ModelHealth]:
            return [ModelHealth(model=MODEL, state="loading" if now_s() < 55 else "ready")]

    async def run() -> list[bool]:
        house = House(Launched("launched", BAD, 1.0))
        for _ in range(5):
            await house.ask()
        seen = []
        async with house.prober.running():
            for _ in range(6):
                await asyncio.sleep(10)
                seen.append(house.is_open("launched"))
        return seen

    assert virtually(run()) == [True, True, True, True, True, False]


def test_a_probe_that_raises_leaves_nothing_behind() -> None:
    class Broken(Probed):
        async def probe(self) -> Verdict:
            self.probed.append(now_s())
            raise ValueError("odd")

    broken = Broken("broken", by_time((10, BAD), (1e9, good())), 1.0)
    house = living(broken, Probed("other", good(), 5.0), until_s=120)
    assert not house.is_open("broken"), "a request has found out"
    assert len(broken.probed) > 1


def test_providers_may_come_and_go() -> None:
    async def run() -> tuple[int, Probed]:
        one, two = Probed("one", good()), Probed("two", good())
        providers = [one]
        house = House()
        prober = Prober(providers, house.router.tracks, house.history, 60, clock=now_s, rng=random.Random(0))
        async with prober.running():
            await asyncio.sleep(200)
            providers[:] = [two]
            num_before = len(one.probed)
            await asyncio.sleep(200)
        assert len(asyncio.all_tasks()) == 1
        return len(one.probed) - num_before, two

    more, two = virtually(run())
    assert more == 0
    assert len(two.probed) >= 2
