"""Keeps the catalog with what providers list: asks them on a schedule and when told to, one visit to each at a
time, and writes every change of a price into the history.

A provider that cannot be asked keeps its last values. Nothing is ever asked that costs money.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Literal, Protocol

from msgspec import Struct, structs

from hodios.config import key_in
from hodios.errors import HodiosError, InvalidRequest, ProviderError, SetupError
from hodios.providers.catalog import Catalog, KeyOf
from hodios.providers.catalog_rows import Offer, ProviderRow
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.listing_client import Listed, ListingClient
from hodios.providers.listing_entries import Tags
from hodios.providers.listing_shelf import Kept, ListingShelf
from hodios.providers.listings import Reading
from hodios.providers.prices import PriceChange, PriceHistory, Quote, quotes_of
from hodios.providers.sync_report import MOST_REFUSED, OfferChange, Outcome, Standing, changes_between

TICK_S = 2.0
FIRST_PAUSE_S = 15.0
"""After a visit that failed; twice as long after each further one, up to MOST_PAUSES intervals."""
MOST_PAUSES = 4
DEFAULT_INTERVAL_S = 900.0
"""Between visits, for pauses where there is no schedule."""
_JITTER = 0.1
_MOST_VISITS = 8
_log = logging.getLogger(__name__)


class Visitor(Protocol):
    """Whoever asks one provider."""

    async def read(self, tags: Tags) -> Listed | None: ...


class _State(Struct):
    """Of one provider."""

    place: tuple[str, str] = ("", "")
    kept: Kept | None = None
    error: str | None = None
    num_failures: int = 0
    next_s: float = 0.0
    """Of the monotonic clock; the past: at once."""


async def _nothing() -> None:
    pass


class Synchronizer:
    """Of one catalog. Objects of other programs may share its history and its shelf."""

    def __init__(
        self,
        store: CatalogStore,
        history: PriceHistory,
        shelf: ListingShelf,
        *,
        interval_s: float = 0.0,
        applied: Callable[[], Awaitable[None]] = _nothing,
        more_quotes: Callable[[], Iterable[Quote]] = lambda: (),
        key_of: KeyOf = key_in,
        visitor: Callable[[ProviderRow, str | None], Visitor] = ListingClient,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`interval_s`: 0 for no schedule. `applied`: awaited after each change of the catalog. `more_quotes`: prices
        that the catalog does not have."""
        self._history = history
        self.interval_s = interval_s
        self._store = store
        self._shelf = shelf
        self._applied = applied
        self._more_quotes = more_quotes
        self._key_of = key_of
        self._visitor = visitor
        self._clock = clock
        self._monotonic = monotonic
        self._rng = rng or random.Random()
        self._states: dict[str, _State] = {}
        self._visits: dict[str, asyncio.Task[Outcome]] = {}
        self._gate = asyncio.Semaphore(_MOST_VISITS)
        self._loading = asyncio.Lock()
        self._recording = asyncio.Lock()
        self._recorded_version = 0

    async def start(self) -> None:
        """Serve what was listed last, before anybody is asked."""
        for row in self._rows():
            await self._state(row)
        await self._applied()
        await self.record()

    async def sync(self, names: Collection[str] = ()) -> list[Outcome]:
        """Ask these providers now, or all who are asked at all. Raises InvalidRequest for those who cannot be."""
        rows = [self._named(name) for name in dict.fromkeys(names)] if names else self._rows()
        return list(await asyncio.gather(*(asyncio.shield(self._visit(row)) for row in rows)))

    async def reload(self) -> bool:
        """Read the files of the catalog anew. Whether they make sense; `CatalogStore.problem` says what does not."""
        is_good = await asyncio.to_thread(self._store.reload)
        await self._applied()
        await self.record()
        return is_good

    def standings(self) -> list[Standing]:
        return [self._standing(row, self._states.get(row.name, _State())) for row in self._rows()]

    async def changes(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        among: Collection[str] | None = None,
        most: int | None = None,
    ) -> list[PriceChange]:
        """As `PriceHistory.changes`. Raises ProviderError where the history cannot be read."""
        try:
            return await asyncio.to_thread(
                self._history.changes, model=model, provider=provider, among=among, most=most
            )
        except SetupError as error:
            raise ProviderError(str(error)) from error

    async def record(self) -> None:
        """Write down what prices have become otherwise."""
        async with self._recording:
            catalog = self._store.current
            if catalog.version == self._recorded_version:
                return
            quotes = [*quotes_of(catalog), *self._more_quotes()]
            try:
                await asyncio.to_thread(self._history.record, quotes, self._clock())
            except SetupError as error:
                _log.error("prices are not kept: %s", error)
            self._recorded_version = catalog.version

    async def run(self, tick_s: float = TICK_S) -> None:
        """For as long as it is let run: visit who is due."""
        await self.start()
        while True:
            for row in self._rows() if self.interval_s else ():
                if row.name not in self._visits and (await self._state(row)).next_s <= self._monotonic():
                    self._visit(row)
            await self.record()
            await asyncio.sleep(tick_s)

    @contextlib.asynccontextmanager
    async def running(self, tick_s: float = TICK_S) -> AsyncGenerator[None, None]:
        """`run` within the block."""
        task = asyncio.create_task(self.run(tick_s))
        task.add_done_callback(_report)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.aclose()

    async def aclose(self) -> None:
        """Break off all visits."""
        visits = tuple(self._visits.values())
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    def _rows(self) -> list[ProviderRow]:
        """Everyone who can be asked for a list."""
        catalog = self._store.current
        return [row for row in catalog.providers.values() if not _obstacle(catalog, row.name)]

    def _named(self, name: str) -> ProviderRow:
        catalog = self._store.current
        obstacle = _obstacle(catalog, name.casefold())
        if obstacle:
            raise InvalidRequest(f"the provider {name[:100]!r} cannot be asked: {obstacle}", param="providers")
        return catalog.providers[name.casefold()]

    async def _state(self, row: ProviderRow) -> _State:
        """With what was kept, where this is the first time or the provider has moved."""
        place = (row.listing, row.base_url)
        async with self._loading:
            state = self._states.get(row.name)
            if state is None or state.place != place:
                kept = await asyncio.to_thread(self._shelf.get, row)
                if kept is not None:
                    await asyncio.to_thread(self._store.put_live, row.name, kept.offers())
                state = self._states[row.name] = _State(place=place, kept=kept, next_s=self._monotonic())
            return state

    def _visit(self, row: ProviderRow) -> asyncio.Task[Outcome]:
        """The one that is under way, or a new one."""
        visit = self._visits.get(row.name)
        if visit is None:
            visit = self._visits[row.name] = asyncio.create_task(self._visited(row))
            visit.add_done_callback(lambda task: self._visits.pop(row.name, None))
            visit.add_done_callback(_report)
        return visit

    async def _visited(self, row: ProviderRow) -> Outcome:
        state = await self._state(row)
        key = self._key_of(row.api_key_env) if row.api_key_env else None
        try:
            async with self._gate:
                listed = await self._visitor(row, key).read(state.kept.tags if state.kept else Tags())
            if listed is not None and row.is_hosted and not listed.reading.offers:
                raise ProviderError(f"{row.name} lists no model that can be served; its last list counts")
        except HodiosError as error:
            self._failed(state, error)
            return Outcome(state="failed", standing=self._standing(row, state))
        state.error, state.num_failures = None, 0
        state.next_s = self._monotonic() + self._spread(self.interval_s)
        if listed is not None:
            reading = _with_last(listed.reading, state.kept, self._store.current, row.name)
            tags, read_at = listed.tags, self._clock()
            state.kept = Kept(listing=row.listing, url=row.base_url, tags=tags, read_at=read_at, reading=reading)
        elif state.kept is not None:
            state.kept = structs.replace(state.kept, read_at=self._clock())
        changes = await self._apply(row, state.kept) if state.kept else ()
        outcome: Literal["changed", "unchanged"] = "changed" if changes else "unchanged"
        return Outcome(state=outcome, standing=self._standing(row, state), changes=changes)

    async def _apply(self, row: ProviderRow, kept: Kept) -> tuple[OfferChange, ...]:
        before = self._store.current
        await asyncio.to_thread(self._store.put_live, row.name, kept.offers())
        changes = changes_between(before, self._store.current, row.name)
        try:
            await asyncio.to_thread(self._shelf.put, row, kept)
        except OSError as error:
            _log.error("what %s lists is not kept: %s", row.name, error.strerror)
        await self._applied()
        await self.record()
        return changes

    def _failed(self, state: _State, error: HodiosError) -> None:
        state.error = error.message
        state.num_failures += 1
        most_s = MOST_PAUSES * (self.interval_s or DEFAULT_INTERVAL_S)
        pause_s = min(most_s, FIRST_PAUSE_S * 2 ** min(state.num_failures - 1, 30))
        state.next_s = self._monotonic() + max(self._spread(pause_s), error.retry_after or 0)

    def _spread(self, seconds: float) -> float:
        """So that not everyone is asked at the same time, nor by everyone at the same time."""
        return seconds * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def _standing(self, row: ProviderRow, state: _State) -> Standing:
        kept = state.kept
        reading = kept.reading if kept else Reading()
        return Standing(
            provider=row.name,
            listing=row.listing,
            error=state.error,
            num_failures=state.num_failures,
            read_at=kept.read_at if kept else None,
            age_s=round((self._clock() - kept.read_at).total_seconds(), 1) if kept else None,
            next_in_s=round(max(0.0, state.next_s - self._monotonic()), 1) if self.interval_s else None,
            num_models=sum(offer.is_available for offer in reading.offers),
            num_others=reading.num_others,
            num_refused=len(reading.refused),
            refused=reading.refused[:MOST_REFUSED],
            latencies=reading.latencies,
        )


def _report(task: asyncio.Task[Outcome] | asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("asking for lists failed", exc_info=error)


def _obstacle(catalog: Catalog, name: str) -> str:
    """Why a provider cannot be asked for a list; "" where it can."""
    row = catalog.providers.get(name)
    if row is None:
        return f"there are {', '.join(sorted(catalog.providers))}"
    if not catalog.is_active(name):
        return catalog.inactive[name]
    return "" if row.listing else "it has no list of models"


def _with_last(reading: Reading, kept: Kept | None, catalog: Catalog, provider: str) -> Reading:
    """With what the catalog knows and the list does not have: models whose entries make no sense are still listed and
    stay as they were; the others are gone."""
    refused = {refusal.id.casefold() for refusal in reading.refused}
    found = {_key(offer): offer for offer in reading.offers}
    last = {_key(offer): offer for offer in kept.reading.offers} if kept else {}
    for offer in catalog.offers:
        key = _key(offer)
        if offer.provider != provider or key in found:
            continue
        if key[0] in refused:
            found[key] = last.get(key, Offer(id=offer.id, via=offer.via))
        elif kept and key in last and catalog.find(offer.model) is not None:
            as_of = last[key].as_of or kept.read_at.date()
            found[key] = structs.replace(last[key], is_available=False, as_of=as_of)
    return structs.replace(reading, offers=tuple(found.values()))


def _key(offer: Offer) -> tuple[str, str]:
    return (offer.id.casefold(), offer.via)
