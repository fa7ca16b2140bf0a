"""Servers that Hodios starts, as providers: not asked before they are ready, and what they list is what they serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_upstream import CUT, MODEL, Reply, ScriptedUpstream, chat, chunk, event, said, serving

from hodios.config import Config
from hodios.errors import ConfigError, Overloaded, ProviderError
from hodios.events import Text
from hodios.launches import Launch, placed
from hodios.providers.catalog_rows import Offer
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.launched import DEFAULT_CONTEXT, LaunchedProvider, Siblings, kind_row, launched
from hodios.providers.probe import NOBODY, answer_of, status_of, status_of_first
from hodios.remotes import Remote, RemoteModel
from hodios.types import Price

ROW = RemoteModel(id=MODEL, upstream_id="up", context_length=4096)
QUICK = {"ready": 0.01, "loading": 0.01, "restarting": 0.01}


class Server:
    """How a server is doing, as a test says, and what it lists."""

    def __init__(self, status: int = 200, offers: Sequence[Offer] = ()) -> None:
        self.status = status
        self.offers: Sequence[Offer] | Exception = offers
        self.num_asked = 0

    async def probe(self) -> int:
        self.num_asked += 1
        if self.status < 0:
            raise TimeoutError
        return self.status

    async def lists(self) -> Sequence[Offer]:
        if isinstance(self.offers, Exception):
            raise self.offers
        return self.offers


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with serving(ScriptedUpstream(script=lambda asked: said("Hello there"))) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> CatalogStore:
    return CatalogStore(Config(home=tmp_path))


@pytest.fixture
async def make(upstream: ScriptedUpstream, store: CatalogStore) -> AsyncIterator[Callable[..., LaunchedProvider]]:
    made: list[LaunchedProvider] = []

    def begin(server: Server, *, siblings: Siblings | None = None, **more: Any) -> LaunchedProvider:
        given = {"name": "x", "command": ("x",), "base_url": f"{upstream.url}/v1", **more}
        launch = placed(Launch(**given), 1, "")
        provider = LaunchedProvider(
            launch,
            kind_row(launch, store.current),
            None,
            siblings=siblings or Siblings(),
            find=store.current.find,
            probe=server.probe,
            lists=server.lists,
            poll_s=QUICK,
        )
        made.append(provider)
        return provider

    yield begin
    for provider in made:
        await provider.aclose()


async def state_of(provider: LaunchedProvider, wanted: str) -> None:
    async with asyncio.timeout(60):
        while any(health.state != wanted for health in provider.health()):  # noqa: ASYNC110 - polled by it, too
            await asyncio.sleep(0.005)


async def text_of(provider: LaunchedProvider, model: str = MODEL) -> str:
    events = [event async for event in provider.generate(chat(model=model))]
    return "".join(event.text for event in events if isinstance(event, Text))


async def test_it_is_asked_once_it_is_ready(make: Callable[..., LaunchedProvider], upstream: ScriptedUpstream) -> None:
    server = Server(503)
    provider = make(server, models=(ROW,))
    await provider.start()
    assert [card.id for card in provider.models()] == [MODEL]
    with pytest.raises(Overloaded, match="x is loading") as caught:
        await text_of(provider)
    assert caught.value.retry_after
    assert [health.state for health in provider.health()] == ["loading"]
    assert upstream.asked == []
    server.status = 200
    await state_of(provider, "ready")
    assert await text_of(provider) == "Hello there"


@pytest.mark.parametrize("status", [NOBODY, 503])
async def test_one_that_goes_away_is_waited_for(status: int, make: Callable[..., LaunchedProvider]) -> None:
    server = Server()
    provider = make(server, models=(ROW,))
    await provider.start()
    await state_of(provider, "ready")
    server.status = status
    await state_of(provider, "restarting")
    with pytest.raises(Overloaded, match="being started again"):
        await text_of(provider)
    server.status = 200
    await state_of(provider, "ready")
    assert [health.num_restarts for health in provider.health()] == [1]
    assert await text_of(provider) == "Hello there"


@pytest.mark.parametrize("status", [-1, 404, 500])
async def test_one_that_is_busy_stays_ready(status: int, make: Callable[..., LaunchedProvider]) -> None:
    """Servers that have one thread do not answer in time while they work."""
    server = Server()
    provider = make(server, models=(ROW,))
    await provider.start()
    await state_of(provider, "ready")
    server.status, asked = status, server.num_asked
    while server.num_asked < asked + 5:  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    assert await text_of(provider) == "Hello there"


async def test_one_that_has_just_died_asks_to_come_again(
    make: Callable[..., LaunchedProvider], upstream: ScriptedUpstream
) -> None:
    """Though nobody has noticed yet."""
    server = Server()
    provider = make(server, models=(ROW,))
    await provider.start()
    await state_of(provider, "ready")
    server.status = NOBODY
    upstream.script = lambda asked: Reply([CUT])
    with pytest.raises(Overloaded):
        await text_of(provider)


async def test_an_answer_that_broke_off_is_an_error_and_makes_it_look_again(
    make: Callable[..., LaunchedProvider], upstream: ScriptedUpstream
) -> None:
    server = Server()
    provider = make(server, models=(ROW,))
    await provider.start()
    await state_of(provider, "ready")
    upstream.script = lambda asked: Reply([event(chunk(content="Hel")), CUT])
    server.status = NOBODY
    with pytest.raises(ProviderError, match="broke off"):
        await text_of(provider)
    await state_of(provider, "restarting")


async def test_a_refusal_is_the_clients_and_nothing_is_doubted(
    make: Callable[..., LaunchedProvider], upstream: ScriptedUpstream
) -> None:
    server = Server()
    provider = make(server, models=(ROW,))
    await provider.start()
    await state_of(provider, "ready")
    upstream.script = lambda asked: Reply([b'{"error": {"message": "no"}}'], 500, content_type="application/json")
    with pytest.raises(ProviderError, match="status 500"):
        await text_of(provider)
    assert [health.state for health in provider.health()] == ["ready"]


async def test_what_it_lists_is_served(make: Callable[..., LaunchedProvider]) -> None:
    server = Server(offers=[Offer(id="up", context_length=999), Offer(id="other")])
    provider = make(server, kind="llama_server")
    await provider.start()
    while not provider.models():  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    await state_of(provider, "ready")
    assert {card.id: card.context_length for card in provider.models()} == {"up": 999, "other": DEFAULT_CONTEXT}
    assert all(card.continues and "logprobs" in card.features for card in provider.models())
    assert await text_of(provider, "up") == "Hello there"


@pytest.mark.parametrize("offers", [ProviderError("x has no list"), ()])
async def test_it_is_not_ready_before_it_has_told_what_it_has(
    offers: Any, make: Callable[..., LaunchedProvider]
) -> None:
    server = Server(offers=offers)
    provider = make(server)
    await provider.start()
    while server.num_asked < 3:  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    assert provider.models() == []
    server.offers = [Offer(id="up")]
    while not provider.models():  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    await state_of(provider, "ready")


async def test_a_model_that_the_catalog_knows_has_its_name(
    make: Callable[..., LaunchedProvider], store: CatalogStore
) -> None:
    provider = make(Server(offers=[Offer(id="huggingfacetb/smollm2-135m-instruct")]))
    await provider.start()
    while not provider.models():  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    (card,) = provider.models()
    known = store.current.find("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert known is not None
    assert card.id == known.id


async def test_settings_stand_over_what_its_kind_can(make: Callable[..., LaunchedProvider]) -> None:
    provider = make(Server(), kind="vllm", features=(), context_length=77, models=(ROW,))
    (card,) = provider.models()
    assert "logprobs" not in card.features
    listed = make(Server(offers=[Offer(id="up")]), name="y", kind="vllm", context_length=77, features=("logprobs",))
    await listed.start()
    while not listed.models():  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    assert [(card.context_length, "logprobs" in card.features) for card in listed.models()] == [(77, True)]


async def test_several_with_the_same_model_are_replicas(make: Callable[..., LaunchedProvider]) -> None:
    siblings = Siblings()
    alone = RemoteModel(id="alone", context_length=1)
    dear = RemoteModel(id="dear", context_length=1)
    first = make(Server(), siblings=siblings, models=(ROW, alone, dear))
    assert [card.is_replica for card in first.models()] == [False] * 3
    other = RemoteModel(id="dear", context_length=1, price=Price(prompt=1))
    second = make(Server(), siblings=siblings, name="y", models=(other,))
    third = make(Server(offers=[Offer(id=MODEL.upper())]), siblings=siblings, name="z")
    await third.start()
    while not third.models():  # noqa: ASYNC110 - polled by it
        await asyncio.sleep(0.005)
    assert [card.is_replica for card in first.models()] == [True, False, False]
    assert [card.is_replica for card in second.models()] == [False]
    assert [card.is_replica for card in third.models()] == [True]
    assert first.models() is first.models()


def test_servers_of_this_machine_are_siblings_and_others_are_not() -> None:
    here, there = (
        Remote(name=name, base_url=url, models=(ROW,))
        for name, url in (("a", "http://localhost:1/v1"), ("b", "https://far.example/v1"))
    )
    siblings = Siblings([here, there])
    siblings.put("x", [ROW])
    assert [siblings.marked(remote).models[0].is_replica for remote in (here, there)] == [True, False]
    siblings.put("x", [])
    assert not siblings.marked(here).models[0].is_replica


def test_a_key_that_is_missing_is_told(store: CatalogStore) -> None:
    launch = Launch(name="x", command=("x",), api_key_env="MINE", base_url="http://h")
    with pytest.raises(ConfigError, match="launch x: the variable MINE holds no key"):
        launched([launch], store.current, Siblings(), lambda name: None)


@pytest.mark.parametrize("kind", ["vlm", "openai", "nothing"])
def test_a_kind_that_is_none_is_told(kind: str, store: CatalogStore) -> None:
    with pytest.raises(ConfigError, match="there is no kind of server"):
        kind_row(Launch(name="x", command=("x",), kind=kind), store.current)


async def answer(line: bytes, asked: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(line)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 503\r\n\r\n", 503),
        (b"", NOBODY),
        (b"SSH-2.0-OpenSSH_9 200\r\n", NOBODY),
        (b"HTTP/1.1 \xff\r\n", NOBODY),
        (b"x" * 200_000, NOBODY),
    ],
)
async def test_a_probe_reads_the_status_alone(line: bytes, status: int) -> None:
    asked: list[bytes] = []
    server = await answer(line, asked)
    port = server.sockets[0].getsockname()[1]
    assert await status_of(f"http://127.0.0.1:{port}/up?x=1", "sk-1") == status
    assert asked[0].startswith(b"GET /up?x=1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer sk-1\r\n" in asked[0]
    server.close()
    await server.wait_closed()
    assert await status_of(f"http://127.0.0.1:{port}/") == NOBODY


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (b"HTTP/1.1 503 x\r\nA: b\r\n\r\n" + b"x" * 100_000, (503, b"x" * 100_000)),
        (b"HTTP/1.1 200 OK\r\n", (200, b"")),
        (b"", (NOBODY, b"")),
    ],
)
async def test_a_short_answer_is_read_whole(answered: bytes, expected: tuple[int, bytes]) -> None:
    asked: list[bytes] = []
    server = await answer(answered, asked)
    assert await answer_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "sk-1") == expected
    assert asked[0].startswith(b"GET / HTTP/1.0\r\n")
    server.close()
    await server.wait_closed()


async def test_the_second_route_is_asked_only_where_the_first_is_none() -> None:
    for status, num_asked in ((404, 2), (200, 1), (503, 1), (401, 1)):
        asked: list[bytes] = []
        server = await answer(b"HTTP/1.1 %d \r\n\r\n" % status, asked)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await status_of_first([f"{url}/health", f"{url}/v1/models"]) == status
        assert len(asked) == num_asked
        server.close()
        await server.wait_closed()
