"""Providers whose rows change while they answer, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from catalog_files import MODEL, PROVIDER, store, write
from scripted_upstream import ScriptedUpstream, ask, chat, said, stream, usage
from scripted_upstream import chunk as piece_of_chat

from hodios.errors import ConfigError
from hodios.events import Event, Text
from hodios.gateway import Gateway
from hodios.providers import catalog_providers
from hodios.providers.catalog_providers import Roster
from hodios.providers.catalog_rows import Offer
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.echo import EchoProvider
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote
from hodios.types import Price

ID = "Maker/Big-7B"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_providers, "_DRAIN_POLL_S", 0.001)


def provider_at(upstream: ScriptedUpstream, **more: str) -> str:
    text = PROVIDER.replace("https://api.acme.example", upstream.url)
    for old, new in more.items():
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def rostered(catalogs: CatalogStore, *fixed: Any) -> AsyncIterator[tuple[Roster, Gateway]]:
    roster = Roster(fixed, catalogs, lambda variable: "sk-test")
    async with roster.watching(poll_s=0.001):
        for provider in roster:
            await provider.start()
        yield roster, Gateway(roster)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - another task makes it true
        await asyncio.sleep(0.001)


async def test_what_the_catalog_names_is_served(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    async with rostered(catalogs, EchoProvider()) as (roster, gateway):
        assert [provider.name for provider in roster] == ["echo", "acme"]
        upstream.replies.append(said("Hello there"))
        assert text_of(await ask(gateway, chat(model="big"))) == "Hello there"
        assert upstream.asked[0].headers["Authorization"] == "Bearer sk-test"
        assert upstream.bodies[0]["model"] == "maker/big"
        card = gateway.resolve("acme/maker/big").card
        assert (card.id, card.context_length, card.price.prompt) == (ID, 4096, 390_000_000)


async def test_a_changed_file_is_served_anew_while_answers_go_on(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    may_end = asyncio.Event()
    slow = stream(piece_of_chat(content="begun "), piece_of_chat(content="and ended", finish="stop"), usage())

    async with rostered(catalogs) as (roster, gateway):
        slow.before = may_end.wait
        upstream.replies += [slow, said("quick")]
        under_way = asyncio.create_task(ask(gateway, chat(model=ID)))
        await until(lambda: upstream.asked)
        before = roster[0]
        write(
            tmp_path, provider=provider_at(upstream), model=MODEL.replace("maker/big", "maker/new").replace("0.39", "1")
        )
        await until(lambda: gateway.resolve(ID).card.price.prompt == 10**9)
        assert roster[0] is before, "who holds a provider keeps it"
        assert text_of(await ask(gateway, chat(model=ID))) == "quick"
        assert upstream.bodies[1]["model"] == "maker/new"
        may_end.set()
        assert text_of(await under_way) == "begun and ended"


async def test_live_offers_change_what_is_served(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    async with rostered(catalogs) as (roster, gateway):
        catalogs.put_live("acme", [Offer(id="maker/big", price=Price(prompt=7), context_length=77)])
        await roster.sync()
        card = gateway.resolve(ID).card
        assert (card.price, card.context_length) == (Price(prompt=7), 77)
        catalogs.put_live("acme", [])
        await roster.sync()
        assert gateway.seats() == []


async def test_providers_come_and_go(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    other = {"providers/other.toml": provider_at(upstream, acme="other")}
    more = '[[offers]]\nprovider = "other"\nid = "theirs"\n'
    async with rostered(catalogs) as (roster, gateway):
        write(tmp_path, provider=provider_at(upstream), model=MODEL + more, more=other)
        await until(lambda: len(roster) == 2)
        upstream.replies.append(said("from the other"))
        assert text_of(await ask(gateway, chat(model=f"other/{ID}"))) == "from the other"
        gone = roster[1]
        write(tmp_path, provider=provider_at(upstream))
        (tmp_path / "providers/other.toml").unlink()
        await until(lambda: len(roster) == 1)
        assert list(gone.models()) == []
        write(tmp_path, provider=provider_at(upstream), model=MODEL + more, more=other)
        await until(lambda: len(roster) == 2)
        assert [card.id for card in roster[1].models()] == [ID]


async def test_a_bad_file_changes_nothing(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    async with rostered(catalogs) as (_, gateway):
        write(tmp_path, provider=provider_at(upstream), model="nonsense")
        await until(lambda: catalogs.problem)
        upstream.replies.append(said("still here"))
        assert text_of(await ask(gateway, chat(model=ID))) == "still here"
        write(tmp_path, provider=provider_at(upstream), model=MODEL.replace("4096", "5000"))
        await until(lambda: gateway.resolve(ID).card.context_length == 5000)
        assert catalogs.problem == ""


async def test_rows_that_make_no_sense_leave_a_provider_as_it_was(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    def picky(remote: Remote, key: str | None) -> RemoteProvider:
        if any(model.context_length == 13 for model in remote.models):
            raise ConfigError("13 brings bad luck")
        return RemoteProvider(remote, key)

    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    roster = Roster((), catalogs, lambda variable: None, picky)
    other = {"providers/other.toml": provider_at(upstream, acme="other")}
    bad = MODEL.replace("4096", "13")
    write(
        tmp_path,
        provider=provider_at(upstream),
        model=bad + bad[bad.index("[[") :].replace("acme", "other"),
        more=other,
    )
    assert catalogs.reload()
    await roster.sync()
    assert [(provider.name, provider.models()[0].context_length) for provider in roster] == [("acme", 4096)]


async def test_everyone_is_closed_at_the_end_even_in_the_middle_of_an_answer(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    catalogs = store(write(tmp_path, provider=provider_at(upstream)))
    never = asyncio.Event()
    hanging = said("never")
    hanging.before = never.wait
    upstream.replies.append(hanging)
    async with rostered(catalogs) as (roster, gateway):
        events = gateway.generate(chat(model=ID))
        async with aclosing(events):
            asking = asyncio.create_task(anext(events))
            await until(lambda: upstream.asked)
            catalogs.put_live("acme", [Offer(id="maker/big", context_length=5)])
            await roster.sync()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    never.set()
    left = [task for task in asyncio.all_tasks() if "_drain" in repr(task.get_coro())]
    assert left == []
