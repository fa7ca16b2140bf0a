"""Servers that Hodios starts itself, as providers: asked like any other server once they are ready, and not before.

Starts no process: the parent does, by `providers/keeper.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Literal
from urllib.parse import urlsplit

from msgspec import structs

from hodios.errors import ConfigError, HodiosError, Overloaded, ProviderError, TimedOut
from hodios.events import Event
from hodios.launches import Launch, ready_urls
from hodios.providers.base import ModelHealth, ModelState, ServerLoad, TokenizerDoor
from hodios.providers.catalog import Catalog
from hodios.providers.catalog_providers import CatalogProvider
from hodios.providers.catalog_remotes import features_of, remote_of
from hodios.providers.catalog_rows import ModelRow, Offer, ProviderRow
from hodios.providers.listing_client import ListingClient
from hodios.providers.listing_entries import Tags
from hodios.providers.probe import NOBODY, status_of_first
from hodios.remotes import Remote, RemoteModel
from hodios.setting_values import is_loopback
from hodios.types import ModelCard, Price, Request

DEFAULT_CONTEXT = 4096
"""Of a model whose server does not say how long its context is."""
RETRY_AFTER_S = 5
_POLL_S: Mapping[str, float] = {"ready": 2.0, "loading": 0.2, "restarting": 0.2}
_ALL_IT_LISTS_S = 10.0
_log = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[int]]
"""The status of the route that says whether the server is ready. Raises TimeoutError."""
Lists = Callable[[], Awaitable[Sequence[Offer]]]
"""What the server lists. Raises HodiosError."""
_Place = tuple[str, Price]


class Siblings:
    """Which models more than one server on this machine has at the same price."""

    def __init__(self, remotes: Iterable[Remote] = ()) -> None:
        self._places: dict[str, frozenset[_Place]] = {}
        self._shared: frozenset[_Place] = frozenset()
        self.version = 0
        """Grows when another model is shared, or no longer."""
        for remote in remotes:
            if is_loopback(urlsplit(remote.base_url).hostname or ""):
                self.put(remote.name, remote.models)

    def put(self, server: str, models: Iterable[RemoteModel]) -> None:
        """All that a server has now."""
        self._places[server] = frozenset((model.id.casefold(), model.price) for model in models)
        counts = Counter(place for places in self._places.values() for place in places)
        shared = frozenset(place for place, count in counts.items() if count > 1)
        if shared != self._shared:
            self._shared = shared
            self.version += 1

    def has(self, server: str, model: str, price: Price) -> bool:
        """Whether this server's model is one of several."""
        place = (model.casefold(), price)
        return place in self._shared and place in self._places.get(server, ())

    def marked(self, remote: Remote) -> Remote:
        """With every model of it that is one of several marked as a replica, as things are now."""
        models = tuple(
            structs.replace(model, is_replica=model.is_replica or self.has(remote.name, model.id, model.price))
            for model in remote.models
        )
        return structs.replace(remote, models=models)


class LaunchedProvider:
    """`providers.base.Provider` over one server that Hodios starts. Raises ConfigError for rows without sense."""

    def __init__(
        self,
        launch: Launch,
        row: ProviderRow,
        key: str | None,
        *,
        siblings: Siblings,
        find: Callable[[str], ModelRow | None] = lambda name: None,
        probe: Probe | None = None,
        lists: Lists | None = None,
        poll_s: Mapping[str, float] = _POLL_S,
    ) -> None:
        """`launch` is placed; `row` is what the catalog says of servers of its kind, `find` of models by name."""
        self._launch = launch
        self._row = _row_of(launch, row)
        self._key = key
        self._siblings = siblings
        self._find = find
        self._probe = probe or self._ask_ready
        self._lists = lists or self._ask_list
        self._poll_s = poll_s
        remote = remote_of(self._row, [_with_defaults(model, launch, self._row) for model in launch.models])
        self._inner = CatalogProvider(remote, key)
        self._siblings.put(launch.name, remote.models)
        self._state: Literal["loading", "ready", "restarting"] = "loading"
        self._num_restarts = 0
        self._problem = ""
        self._doubt = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._shown: tuple[int, Sequence[ModelCard], list[ModelCard]] = (-1, (), [])

    @property
    def name(self) -> str:
        return self._launch.name

    async def start(self) -> None:
        await self._inner.start()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        task, self._watching = self._watching, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._inner.aclose()

    def models(self) -> Sequence[ModelCard]:
        """None at all where it is to say itself what it has, and has not yet been ready."""
        version, seen, cards = self._shown
        found = self._inner.models()
        if version != self._siblings.version or found != seen:
            cards = [
                structs.replace(card, is_replica=card.is_replica or self._siblings.has(self.name, card.id, card.price))
                for card in found
            ]
            self._shown = (self._siblings.version, found, cards)
        return cards

    def tokenizer(self, model: str) -> TokenizerDoor | None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        state: ModelState = self._state
        message = "" if state == "ready" else self._waiting()
        return [
            structs.replace(health, state=state, message=message, num_restarts=self._num_restarts)
            for health in self._inner.health()
        ]

    async def loads(self) -> Mapping[str, ServerLoad]:
        """As `providers.base.Reporting.loads`."""
        return await self._inner.loads()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """As `providers.base.Provider.generate`."""
        if self._state != "ready":
            raise self._not_ready()
        has_begun = False
        try:
            async with aclosing(self._inner.generate(request)) as events:
                async for event in events:
                    has_begun = True
                    yield event
        except (ProviderError, TimedOut):
            if not has_begun and await self._is_gone():
                raise self._not_ready() from None
            self._doubt.set()
            raise

    def _waiting(self) -> str:
        what = "is being started again" if self._state == "restarting" else "is loading"
        return f"{self.name} {what}{f': {self._problem}' if self._problem else ''}"

    def _not_ready(self) -> Overloaded:
        return Overloaded(self._waiting(), metadata={"provider": self.name}, retry_after=RETRY_AFTER_S)

    async def _watch(self) -> None:
        while True:
            await self._look()
            self._doubt.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s[self._state]):
                    await self._doubt.wait()

    async def _look(self) -> None:
        """Find out how it is doing. One that is ready stays so until nobody answers any more, however slow it is."""
        try:
            status = await self._probe()
        except TimeoutError:
            return
        if self._state == "ready":
            self._judge_ready(status)
        elif status == 200 and await self._has_list():
            self._problem = ""
            self._state = "ready"
            _log.info("%s is ready", self.name)

    def _judge_ready(self, status: int) -> None:
        if status in (NOBODY, Overloaded.status):
            self._state = "restarting"
            self._num_restarts += 1
            _log.warning("%s is gone; it is started again", self.name)

    async def _is_gone(self) -> bool:
        await self._look()
        return self._state != "ready"

    async def _has_list(self) -> bool:
        """Whether it is known what it serves."""
        if self._launch.models:
            return True
        try:
            async with asyncio.timeout(_ALL_IT_LISTS_S):
                offers = await self._lists()
        except (HodiosError, TimeoutError) as error:
            self._problem = getattr(error, "message", "it does not list its models")
            return False
        if not offers:
            self._problem = "it lists no models"
            return False
        try:
            models = [_listed(offer, self._launch, self._row, self._find) for offer in offers]
            await self._inner.become(remote_of(self._row, models))
        except ConfigError as error:
            self._problem = str(error)
            return False
        self._siblings.put(self.name, models)
        return True

    async def _ask_ready(self) -> int:
        return await status_of_first(ready_urls(self._launch), self._key)

    async def _ask_list(self) -> Sequence[Offer]:
        listed = await ListingClient(self._row, self._key).read(Tags())
        return listed.reading.offers if listed else ()


def kind_row(launch: Launch, catalog: Catalog) -> ProviderRow:
    """What the catalog says of servers like this one. Raises ConfigError, with the nearest kind there is."""
    row = catalog.providers.get(launch.kind)
    kinds = sorted(name for name, row in catalog.providers.items() if not row.is_hosted)
    if row is None or row.is_hosted:
        nearest = difflib.get_close_matches(launch.kind, kinds, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"launch {launch.name}: there is no kind of server {launch.kind!r}. Did you mean {nearest}? "
            f"There are {', '.join(kinds)}."
        )
    return row


def launched(
    launches: Sequence[Launch], catalog: Catalog, siblings: Siblings, key_of: Callable[[str], str | None]
) -> list[LaunchedProvider]:
    """A provider for each, not yet started. Raises ConfigError."""
    providers = []
    for launch in launches:
        key = key_of(launch.api_key_env) if launch.api_key_env else None
        if launch.api_key_env and key is None:
            raise ConfigError(
                f"launch {launch.name}: the variable {launch.api_key_env} holds no key. "
                "Set it to printable ASCII without spaces, or remove api_key_env."
            )
        row = kind_row(launch, catalog)
        providers.append(LaunchedProvider(launch, row, key, siblings=siblings, find=catalog.find))
    return providers


def _row_of(launch: Launch, row: ProviderRow) -> ProviderRow:
    """As the settings have it."""
    names = ("features", "parameters", "first_byte_timeout_s", "silence_timeout_s")
    given = {name: value for name in names if (value := getattr(launch, name)) is not None}
    if launch.dialect is not None:
        given["dialects"] = (launch.dialect, *(dialect for dialect in row.dialects if dialect != launch.dialect))
    policy = structs.replace(row.data_policy, collects=False)
    return structs.replace(row, name=launch.name, base_url=launch.base_url, data_policy=policy, **given)


def _continues(row: ProviderRow) -> bool:
    """Whether an answer that another one began can be gone on with."""
    return ("completions" in row.dialects and "answers_completions_as_chat" not in row.quirks) or bool(row.prefill)


def _with_defaults(model: RemoteModel, launch: Launch, row: ProviderRow) -> RemoteModel:
    """A row of the settings; what it does not say is as for all of this server's."""
    features = model.features or (launch.features if launch.features is not None else row.features)
    return structs.replace(model, features=features, continues=model.continues or _continues(row))


def _listed(offer: Offer, launch: Launch, row: ProviderRow, find: Callable[[str], ModelRow | None]) -> RemoteModel:
    """A model that the server lists, under the name that the catalog has for it if it knows it."""
    known = find(offer.id)
    names = {name.casefold(): name for name in (*(known.names if known else ()), offer.id)}
    id = known.id if known else offer.id
    names.pop(id.casefold(), None)
    return RemoteModel(
        id=id,
        upstream_id=offer.id,
        aliases=tuple(names.values()),
        context_length=offer.context_length or launch.context_length or DEFAULT_CONTEXT,
        max_output_tokens=offer.max_output_tokens,
        features=features_of(row, offer, known) if launch.features is None else launch.features,
        family=known.family if known else "",
        quantization=offer.quantization,
        license=known.license if known else "",
        continues=_continues(row),
    )
