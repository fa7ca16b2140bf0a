"""Providers asked for their lists by a scripted server, and what the catalog and the history make of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from catalog_files import PROVIDER, store, write
from scripted_upstream import HANG, Asked, Reply, ScriptedUpstream, document

from hodios.errors import InvalidRequest
from hodios.gateway import Gateway
from hodios.providers.catalog_providers import Roster
from hodios.providers.catalog_remotes import chosen_offers
from hodios.providers.catalog_rows import Offer
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.listing_shelf import ListingShelf
from hodios.providers.prices import PriceHistory
from hodios.providers.sync import FIRST_PAUSE_S, MOST_PAUSES, Synchronizer
from hodios.providers.sync_report import OfferChange
from hodios.types import Price

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
INTERVAL_S = 900.0
OTHER_MODEL = 'id = "Maker/Small"\nname = "Small"\nauthor = "Maker"\nfamily = "hermes"\ncontext_length = 2048\n' + (
    '[[offers]]\nprovider = "acme"\nid = "maker/small"\nprice = { prompt = 1, completion = 1 }\n'
)


def entry(id: str = "maker/big", price: object = "0.000001", context: object = 4096, **more: Any) -> dict[str, Any]:
    return {"id": id, "context_length": context, "pricing": {"prompt": price, "completion": price}, **more}


def listing(*entries: dict[str, Any], **headers: str) -> Reply:
    return document({"data": list(entries)}, **headers)


@dataclass
class World:
    """A catalog whose provider `acme` is the upstream. Time stands still unless it is moved."""

    home: Path
    upstream: ScriptedUpstream
    settings: dict[str, Any] = field(default_factory=dict)
    now: datetime = NOON
    seconds: float = 1000.0

    def __post_init__(self) -> None:
        more = {"models/small.toml": OTHER_MODEL}
        write(self.home, provider=PROVIDER + 'listing = "openrouter"\n', more=more)
        self.again()

    def again(self, **more: Any) -> None:
        """A start of the program."""
        acme = {"base_url": f"{self.upstream.url}/v1", **self.settings}
        self.store: CatalogStore = store(self.home, {"acme": acme, **more.pop("others", {})})
        self.history = PriceHistory(self.home)
        self.sync = Synchronizer(
            self.store,
            self.history,
            ListingShelf(self.home),
            key_of=lambda variable: "sk-test",
            clock=lambda: self.now,
            monotonic=lambda: self.seconds,
            rng=random.Random(7),
            **{"interval_s": INTERVAL_S, **more},
        )

    def later(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    async def ask(self, *replies: Reply) -> tuple[str, tuple[OfferChange, ...]]:
        """One visit to acme, which answers so."""
        self.upstream.replies += replies
        (outcome,) = await self.sync.sync(["acme"])
        return outcome.state, outcome.changes

    def offer(self, id: str = "maker/big") -> Offer:
        return next(offer for offer in self.store.current.offers if offer.id == id)

    def prompt_price(self, id: str = "maker/big") -> int:
        return self.store.current.price(self.offer(id)).prompt


@pytest.fixture
def world(tmp_path: Path, upstream: ScriptedUpstream) -> World:
    return World(tmp_path, upstream)


def told(changes: tuple[OfferChange, ...]) -> list[tuple[str, str, Any, Any]]:
    return [(change.offer, change.what, change.before, change.after) for change in changes]


def dollars(amount: str) -> dict[str, str]:
    return {"prompt": amount, "completion": amount, "request": "0"}


async def test_what_is_listed_counts(world: World) -> None:
    state, changes = await world.ask(listing(entry(context=3000), entry("maker/small", "0.000002", 1024)))
    assert state == "changed"
    assert told(changes) == [
        ("maker/big", "price", {"prompt": "0.39", "completion": "0.5", "request": "0"}, dollars("1")),
        ("maker/big", "context_length", 4096, 3000),
        ("maker/small", "price", dollars("1"), dollars("2")),
        ("maker/small", "context_length", 2048, 1024),
    ]
    offer = world.offer()
    assert (offer.price, offer.price_source, offer.as_of) == (
        Price(prompt=10**9, completion=10**9),
        "live",
        NOON.date(),
    )
    assert {key: chosen.context_length for key, chosen in chosen_offers(world.store.current).items()} == {
        ("acme", "Maker/Big-7B"): 3000,
        ("acme", "Maker/Small"): 1024,
    }


async def test_the_same_list_again_is_no_change(world: World) -> None:
    await world.ask(listing(entry(), entry("maker/small")))
    version = world.store.current.version
    assert await world.ask(listing(entry(), entry("maker/small"))) == ("unchanged", ())
    assert world.store.current.version == version


async def test_a_manual_price_wins(world: World) -> None:
    world.settings["prices"] = {"big": {"prompt": "7", "completion": "7"}}
    world.again()
    _, changes = await world.ask(listing(entry(), entry("maker/small", context=2048)))
    assert told(changes) == []
    assert world.prompt_price() == 7 * 10**9
    assert [change.source for change in world.history.changes(model="maker/big")] == ["manual"]


async def test_gone_and_back(world: World) -> None:
    await world.ask(listing(entry(), entry("maker/small")))
    _, changes = await world.ask(listing(entry("maker/small")))
    assert told(changes) == [("maker/big", "gone", None, None)]
    assert not world.offer().is_available
    assert ("acme", "Maker/Big-7B") not in chosen_offers(world.store.current)
    assert world.prompt_price() == 10**9, "the last one"
    assert world.sync.standings()[0].num_models == 1
    _, changes = await world.ask(listing(entry(), entry("maker/small")))
    assert told(changes) == [("maker/big", "back", None, None)]
    assert ("acme", "Maker/Big-7B") in chosen_offers(world.store.current)


async def test_what_is_gone_says_since_when_also_after_a_start(world: World) -> None:
    await world.ask(listing(entry(), entry("maker/small")))
    for _ in range(2):
        world.later(86400)
        await world.ask(listing(entry("maker/small")))
    world.again()
    await world.sync.start()
    assert (world.offer().is_available, world.offer().as_of) == (False, NOON.date())
    assert world.offer("maker/small").as_of == world.now.date()


async def test_prices_are_kept_with_where_they_come_from(world: World) -> None:
    await world.sync.start()
    for price in ("0.000001", "0.000001", "0.000003"):
        world.later(60)
        await world.ask(listing(entry(price=price), entry("maker/small", "0.000001")))
    changes = await world.sync.changes(model="maker/big", provider="acme")
    prices = [(change.at - NOON, change.old and change.old.prompt, change.new, change.source) for change in changes]
    assert prices == [
        (timedelta(0), None, Price(prompt=390_000_000, completion=500_000_000), "offline"),
        (timedelta(seconds=60), 390_000_000, Price(prompt=10**9, completion=10**9), "live"),
        (timedelta(seconds=180), 10**9, Price(prompt=3 * 10**9, completion=3 * 10**9), "live"),
    ]


async def test_an_unchanged_list_is_not_sent_again(world: World) -> None:
    await world.ask(listing(entry(), ETag='"1"'))
    world.later(500)
    assert await world.ask(Reply(status=304)) == ("unchanged", ())
    assert world.upstream.asked[1].headers["If-None-Match"] == '"1"'
    assert world.prompt_price() == 10**9
    (standing,) = world.sync.standings()
    assert (standing.read_at, standing.age_s) == (world.now, 0)


@pytest.mark.parametrize(
    "reply",
    [document({}, status=500), document({}, status=401), Reply([b"<html>"]), listing(), listing(entry(price="-1"))],
)
async def test_a_failure_keeps_the_last_values_and_their_age(world: World, reply: Reply) -> None:
    await world.ask(listing(entry()))
    before = world.store.current
    world.later(500)
    assert await world.ask(reply) == ("failed", ())
    assert world.store.current is before
    (standing,) = world.sync.standings()
    assert "acme" in (standing.error or "")
    assert (standing.num_failures, standing.read_at, standing.age_s) == (1, NOON, 500)
    await world.ask(listing(entry()))
    (standing,) = world.sync.standings()
    assert (standing.error, standing.num_failures, standing.age_s) == (None, 0, 0)


async def test_pauses_grow_with_failures_and_heed_the_provider(world: World) -> None:
    pauses = []
    for _ in range(12):
        await world.ask(document({}, status=500))
        pauses.append(world.sync.standings()[0].next_in_s or 0)
    most_s = MOST_PAUSES * INTERVAL_S
    expected = [min(most_s, FIRST_PAUSE_S * 2**number) for number in range(12)]
    assert all(abs(pause - wanted) <= 0.1 * wanted + 0.1 for pause, wanted in zip(pauses, expected, strict=True))
    await world.ask(document({}, status=429, **{"Retry-After": "3600"}))
    assert world.sync.standings()[0].next_in_s == pytest.approx(most_s, rel=0.1)
    await world.ask(listing(entry()))
    await world.ask(document({}, status=429, **{"Retry-After": "600"}))
    assert world.sync.standings()[0].next_in_s == 600


async def test_an_entry_that_makes_no_sense_leaves_its_model_as_it_was(world: World) -> None:
    await world.ask(listing(entry(price="0.000005"), entry("maker/small")))
    world.later(1)
    _, changes = await world.ask(listing(entry(price="n/a"), entry("maker/small", "0.000009")))
    assert told(changes) == [("maker/small", "price", dollars("1"), dollars("9"))]
    assert world.prompt_price() == 5 * 10**9
    assert world.offer().is_available
    (standing,) = world.sync.standings()
    assert (standing.num_models, standing.num_refused, standing.refused[0].id) == (2, 1, "maker/big")


async def test_an_entry_that_never_made_sense_leaves_the_default(world: World) -> None:
    await world.ask(listing(entry(price="n/a"), entry("maker/small")))
    assert world.prompt_price() == 390_000_000
    assert world.offer().is_available
    assert world.offer().price_source == "catalog"


async def test_a_start_serves_what_was_listed_last(world: World) -> None:
    await world.ask(listing(entry(price="0.000005"), ETag='"1"'))
    world.later(5000)
    world.again()
    assert world.prompt_price() == 390_000_000
    await world.sync.start()
    assert world.prompt_price() == 5 * 10**9
    assert not world.offer("maker/small").is_available
    (standing,) = world.sync.standings()
    assert (standing.age_s, standing.num_models) == (5000, 1)
    await world.ask(Reply(status=304))
    assert world.upstream.asked[1].headers["If-None-Match"] == '"1"'
    assert [change.source for change in world.history.changes(model="maker/big")] == ["live"]


async def test_another_place_begins_anew(world: World) -> None:
    await world.ask(listing(entry(price="0.000005"), ETag='"1"'))
    world.settings["base_url"] = f"{world.upstream.url}/elsewhere/v1"
    world.again()
    await world.sync.start()
    assert world.prompt_price() == 390_000_000
    await world.ask(listing(entry()))
    assert "If-None-Match" not in world.upstream.asked[1].headers


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"listing": 3}'])
async def test_a_kept_list_that_cannot_be_read_is_none(world: World, content: bytes) -> None:
    await world.ask(listing(entry(price="0.000005")))
    (world.home / "cache" / "listings" / "acme.json").write_bytes(content)
    world.again()
    await world.sync.start()
    assert world.prompt_price() == 390_000_000


async def test_a_disk_that_takes_nothing_stops_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (world.home / "cache").write_text("in the way")
    (world.home / "prices.jsonl").mkdir()
    with caplog.at_level(logging.ERROR):
        assert (await world.ask(listing(entry())))[0] == "changed"
    assert world.prompt_price() == 10**9
    assert "what acme lists is not kept" in caplog.text
    assert "prices are not kept" in caplog.text


async def test_a_host_that_lists_nothing_has_failed_and_a_server_of_ones_own_is_empty(world: World) -> None:
    world.again(others={"gpu": {"kind": "openai_compatible", "base_url": f"{world.upstream.url}/gpu"}})
    world.upstream.replies = [document({"data": [{"id": "Maker/Big-7B"}, {"id": "unknown"}]})]
    (outcome,) = await world.sync.sync(["gpu"])
    assert [(change.model, change.what) for change in outcome.changes] == [("Maker/Big-7B", "new"), ("unknown", "new")]
    world.upstream.replies = [document({"data": []})]
    (outcome,) = await world.sync.sync(["gpu"])
    assert [(change.model, change.what) for change in outcome.changes] == [
        ("Maker/Big-7B", "gone"),
        ("unknown", "gone"),
    ]
    assert (await world.ask(listing()))[0] == "failed"


async def test_models_that_the_catalog_does_not_know_are_served_at_once(world: World) -> None:
    gpu = {"kind": "openai_compatible", "base_url": f"{world.upstream.url}/gpu"}
    roster: Roster | None = None

    async def applied() -> None:
        assert roster is not None
        await roster.sync()

    world.again(others={"gpu": gpu}, applied=applied)
    roster = Roster([], world.store, lambda variable: "sk-test")
    gateway = Gateway(roster)
    # Nobody tells how long it is unless a row does.
    world.upstream.replies = [document({"data": [{"id": "big"}]})]
    await world.sync.sync(["gpu"])
    assert gateway.resolve("gpu/Maker/Big-7B").card.provider == "gpu"
    await world.ask(listing(entry(price="0.000005")))
    cards = {card.id: card.price.prompt for provider in roster for card in provider.models() if provider.name == "acme"}
    assert cards == {"Maker/Big-7B": 5 * 10**9}
    async with roster.watching(poll_s=1000):
        pass


async def test_those_who_ask_at_the_same_time_share_one_visit(world: World) -> None:
    world.upstream.replies = [listing(entry())]
    one, other = await asyncio.gather(world.sync.sync(["acme"]), world.sync.sync())
    assert one == other
    assert len(world.upstream.asked) == 1


async def test_who_stops_waiting_does_not_stop_the_visit(world: World) -> None:
    is_asked, may_go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        is_asked.set()
        await may_go.wait()

    reply = listing(entry())
    reply.before = hold
    world.upstream.replies = [reply]
    waiting = asyncio.create_task(world.sync.sync(["acme"]))
    await is_asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_go.set()
    await world.sync.sync(["acme"])
    assert len(world.upstream.asked) == 1
    assert world.prompt_price() == 10**9


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nobody"], "there are acme"),
        (["acme", "off"], "the settings do not enable it"),
        (["ACMEE"], "cannot be asked"),
    ],
)
async def test_who_cannot_be_asked_is_told(world: World, names: list[str], message: str) -> None:
    world.again(others={"off": {"kind": "acme", "enabled": False}})
    with pytest.raises(InvalidRequest, match=message):
        await world.sync.sync(names)
    assert world.upstream.asked == []


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(world: World) -> Any:
    """With turns of the schedule to wait for."""
    turns = 0
    record = world.sync.record

    async def counted() -> None:
        nonlocal turns
        await record()
        turns += 1

    world.sync.record = counted  # type: ignore[method-assign]

    async def some() -> None:
        after = turns + 3
        await until(lambda: turns >= after)

    async with world.sync.running(tick_s=0):
        yield some


async def test_everyone_is_asked_at_the_start_and_then_once_in_each_interval(world: World) -> None:
    world.upstream.script = lambda asked: listing(entry())
    async with running(world) as some_turns:
        await until(lambda: len(world.upstream.asked) == 1 and world.prompt_price() == 10**9)
        for number in range(2, 6):
            world.later(0.89 * INTERVAL_S)
            await some_turns()
            assert len(world.upstream.asked) == number - 1
            world.later(0.22 * INTERVAL_S)
            await until(lambda number=number: len(world.upstream.asked) == number)  # type: ignore[misc]
            await until(lambda: world.sync.standings()[0].age_s == 0)


async def test_without_a_schedule_nobody_is_asked(world: World) -> None:
    world.again(interval_s=0.0)
    async with running(world) as some_turns:
        world.later(10**6)
        await some_turns()
        assert world.upstream.asked == []
        assert world.sync.standings()[0].next_in_s is None
        assert len(world.history.changes()) == 2


async def test_one_who_is_silent_holds_up_nobody(world: World) -> None:
    def script(asked: Asked) -> Reply:
        return Reply([HANG]) if asked.path.startswith("/slow") else listing(entry())

    world.upstream.script = script
    slow = {"kind": "acme", "base_url": f"{world.upstream.url}/slow"}
    world.again(others={"slow": slow})
    async with running(world):
        await until(lambda: world.prompt_price() == 10**9 and len(world.upstream.asked) == 2)
    await world.upstream.gone.wait()


async def test_a_provider_that_appears_is_asked(world: World) -> None:
    world.upstream.script = lambda asked: listing(entry())
    async with running(world):
        await until(lambda: len(world.upstream.asked) == 1)
        base_url = f'base_url = "{world.upstream.url}/new"\n'
        (world.home / "providers" / "new.toml").write_text(
            f'name = "new"\ntitle = "New"\nhosted = true\nenabled = true\nlisting = "openrouter"\n{base_url}'
        )
        assert await world.sync.reload()
        await until(lambda: len(world.upstream.asked) == 2)


async def test_files_that_make_no_sense_change_nothing(world: World) -> None:
    version = world.store.current.version
    (world.home / "models" / "small.toml").write_text("id = 3\n")
    assert not await world.sync.reload()
    assert world.store.current.version == version
    assert "small.toml" in world.store.problem


async def test_readers_see_whole_lists_only(world: World) -> None:
    """Of each list all prices are the same; so are those of every version that anybody reads meanwhile."""
    amounts = iter(range(1, 1000))

    def script(asked: Asked) -> Reply:
        price = f"0.{next(amounts):06d}"
        return listing(entry(price=price), entry("maker/small", price))

    world.upstream.script = script
    seen: set[int] = set()
    is_over = False

    def read() -> None:
        while not is_over:
            catalog = world.store.current
            prices = {catalog.price(offer).prompt for offer in catalog.offers if offer.price_source == "live"}
            assert len(prices) <= 1
            seen.update(prices)

    async def read_here() -> None:
        while not is_over:
            chosen_offers(world.store.current)
            await asyncio.sleep(0)

    async def ask(times: int) -> None:
        for _ in range(times):
            await world.sync.sync()

    readers: list[Awaitable[None]] = [asyncio.to_thread(read), read_here()]
    tasks = [asyncio.ensure_future(reader) for reader in readers]
    await asyncio.gather(ask(20), ask(20))
    is_over = True
    await asyncio.gather(*tasks)
    assert len(seen) > 1
    prices = [change.new and change.new.prompt for change in world.history.changes(model="maker/small")]
    assert prices == sorted(prices, key=lambda price: price or 0)
