"""The providers that the catalog names, kept as it is: rows that change are served anew, answers under way go on.

An object stands for a provider as long as the process runs, whatever its rows become.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import overload

from msgspec import structs

from hodios.config import key_in
from hodios.errors import ConfigError
from hodios.events import Event
from hodios.providers.base import ModelHealth, Provider, ServerLoad, TokenizerDoor, Verdict
from hodios.providers.catalog import KeyOf
from hodios.providers.catalog_remotes import remotes_of
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote
from hodios.types import ModelCard, Request

MakeProvider = Callable[[Remote, str | None], RemoteProvider]
POLL_S = 2.0
_DRAIN_POLL_S = 0.5
_log = logging.getLogger(__name__)


class CatalogProvider:
    """`providers.base.Provider` over whatever a provider's rows are at the moment."""

    def __init__(self, remote: Remote, key: str | None, make: MakeProvider = RemoteProvider) -> None:
        self._make = make
        self._key = key
        self._remote = remote
        self._inner = make(remote, key)
        self._is_started = False
        self._outdated: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self._remote.name

    async def start(self) -> None:
        self._is_started = True
        await self._inner.start()

    async def aclose(self) -> None:
        for task in tuple(self._outdated):
            task.cancel()
        await asyncio.gather(*self._outdated, return_exceptions=True)
        await self._inner.aclose()

    async def become(self, remote: Remote) -> None:
        """Serve these rows from now on."""
        if remote == self._remote:
            return
        inner = self._make(remote, self._key)
        if self._is_started:
            await inner.start()
        before, self._inner, self._remote = self._inner, inner, remote
        task = asyncio.create_task(_drain(before))
        self._outdated.add(task)
        task.add_done_callback(self._outdated.discard)

    async def retire(self) -> None:
        """Serve nothing from now on."""
        await self.become(structs.replace(self._remote, models=()))

    def models(self) -> Sequence[ModelCard]:
        return self._inner.models()

    def tokenizer(self, model: str) -> TokenizerDoor | None:
        return self._inner.tokenizer(model)

    def health(self) -> Sequence[ModelHealth]:
        return self._inner.health()

    async def probe(self) -> Verdict:
        """As `providers.base.Probed.probe`."""
        return await self._inner.probe()

    async def loads(self) -> Mapping[str, ServerLoad]:
        """As `providers.base.Reporting.loads`."""
        return await self._inner.loads()

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """As `providers.base.Provider.generate`."""
        return self._inner.generate(request)


async def _drain(provider: RemoteProvider) -> None:
    """Close it once nobody waits for an answer of it any more, nor is just about to ask."""
    try:
        is_busy = True
        while is_busy:
            await asyncio.sleep(_DRAIN_POLL_S)
            is_busy = any(health.stats["num_running"] for health in provider.health())
    finally:
        await provider.aclose()


class Roster(Sequence[Provider]):
    """Everyone who serves at the moment: those that stay, then those of the catalog."""

    def __init__(
        self,
        fixed: Sequence[Provider],
        store: CatalogStore,
        key_of: KeyOf = key_in,
        make: MakeProvider = RemoteProvider,
    ) -> None:
        self._fixed = tuple(fixed)
        self._store = store
        self._key_of = key_of
        self._make = make
        self._named: dict[str, CatalogProvider] = {}
        self._lock = asyncio.Lock()
        catalog = store.current
        self._version = catalog.version
        for remote in remotes_of(catalog):
            self._named[remote.name] = self._new(remote)
        self._all: tuple[Provider, ...] = (*self._fixed, *self._named.values())

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Provider: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Provider]: ...
    def __getitem__(self, index: int | slice) -> Provider | Sequence[Provider]:
        return self._all[index]

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._all)

    async def sync(self) -> None:
        """Serve what the catalog says now."""
        async with self._lock:
            catalog = self._store.current
            if catalog.version == self._version:
                return
            self._version = catalog.version
            remotes = {remote.name: remote for remote in remotes_of(catalog)}
            for name, provider in self._named.items():
                if name not in remotes:
                    await provider.retire()
            for remote in remotes.values():
                await self._serve(remote)
            self._all = (*self._fixed, *(self._named[name] for name in remotes if name in self._named))

    async def _serve(self, remote: Remote) -> None:
        """Rows that make no sense change nothing."""
        try:
            if remote.name in self._named:
                await self._named[remote.name].become(remote)
                return
            provider = self._new(remote)
        except ConfigError as error:
            _log.error("the provider %s stays as it was: %s", remote.name, error)
            return
        self._named[remote.name] = provider
        await provider.start()

    async def watch(self, poll_s: float = POLL_S) -> None:
        """For as long as it is let run: read files that change, and serve what they say."""
        while True:
            await asyncio.sleep(poll_s)
            await asyncio.to_thread(self._store.reload_if_changed)
            await self.sync()

    @contextlib.asynccontextmanager
    async def watching(self, poll_s: float = POLL_S) -> AsyncGenerator[None, None]:
        """`watch` within the block, and everyone closed at its end, also those who came or went meanwhile."""
        task = asyncio.create_task(self.watch(poll_s))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for provider in (*self._fixed, *self._named.values()):
                await provider.aclose()

    def _new(self, remote: Remote) -> CatalogProvider:
        key = self._key_of(remote.api_key_env) if remote.api_key_env else None
        return CatalogProvider(remote, key, self._make)
