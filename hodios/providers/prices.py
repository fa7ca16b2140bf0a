"""Every price that was ever asked, in HODIOS_HOME/prices.jsonl: a line for each change, and no line is ever rewritten.

Several processes may write at the same time, and any may be killed while it does: whatever does not end in a line break
was never written. Blocks on the disk, so it is called in a thread.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

import msgspec
from msgspec import Struct

from hodios.errors import SetupError
from hodios.providers.catalog import Catalog
from hodios.providers.catalog_rows import PriceSource
from hodios.remotes import write_price
from hodios.types import ModelCard, Price

Source = Literal["offline", "live", "manual"]
"""Who says so: the rows that come with Hodios, the provider's own list, the settings."""
_SOURCES: dict[PriceSource, Source] = {"catalog": "offline", "live": "live", "settings": "manual"}
_Key = tuple[str, str, str, str]


class Quote(Struct, frozen=True, kw_only=True):
    """What a model costs at a provider."""

    provider: str
    model: str
    """The catalog's id."""
    offer: str
    """The provider's own id."""
    via: str = ""
    """Whom the provider asks in turn."""
    price: Price | None
    """None: nobody says."""
    source: Source

    @property
    def key(self) -> _Key:
        return (self.provider, self.model, self.offer, self.via)


class PriceChange(Struct, frozen=True, kw_only=True):
    """One line. `old` is None for the first price."""

    at: datetime
    provider: str
    model: str
    offer: str
    via: str = ""
    old: Price | None
    new: Price | None
    source: Source

    @property
    def key(self) -> _Key:
        return (self.provider, self.model, self.offer, self.via)


def quotes_of(catalog: Catalog) -> list[Quote]:
    """What every offer costs, whether its provider is asked or not."""
    return [
        Quote(
            provider=offer.provider,
            model=offer.model,
            offer=offer.id,
            via=offer.via,
            price=price if (price := catalog.price(offer)).is_known else None,
            source=_SOURCES[offer.price_source],
        )
        for offer in catalog.offers
    ]


def quotes_of_cards(provider: str, cards: Iterable[ModelCard]) -> list[Quote]:
    """Of models whose prices the settings alone say."""
    return [
        Quote(provider=provider, model=card.id, offer=card.id, price=card.price, source="manual")
        for card in cards
        if card.price.is_known
    ]


def in_dollars(price: Price | None) -> dict[str, str] | None:
    """As the settings write it."""
    return write_price(price) if price is not None and price.is_known else None


class PriceHistory:
    """Safe to use from several threads. A line that makes no sense is passed over."""

    def __init__(self, home: Path) -> None:
        self._path = home / "prices.jsonl"
        self._lock = threading.Lock()
        self._last: dict[_Key, tuple[Price | None, Source]] = {}
        self._num_read = 0
        """Bytes of whole lines that `_last` knows."""
        self._inode = 0

    def record(self, quotes: Iterable[Quote], at: datetime) -> list[PriceChange]:
        """Keep what has changed since the last time, and say it. `at` is aware of its time zone. Raises SetupError."""
        quotes = list(quotes)
        try:
            with self._lock, self._open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                rest = self._catch_up(file)
                changes = self._changes(quotes, at)
                if changes:
                    lines = b"".join(msgspec.json.encode(change) + b"\n" for change in changes)
                    # What another process was killed over becomes a line of its own.
                    file.write((b"\n" if rest else b"") + lines)
                    file.flush()
                    os.fsync(file.fileno())
                    self._catch_up(file)
                return changes
        except OSError as error:
            raise SetupError(f"{self._path} cannot be written: {error.strerror}.") from error

    def changes(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        among: Collection[str] | None = None,
        most: int | None = None,
    ) -> list[PriceChange]:
        """The newest ones, oldest first. `model`: the catalog's id or the provider's. In any case of letters. `among`:
        the names of the only providers that are shown."""
        found = [
            change
            for change in self._lines()
            if (provider is None or change.provider.casefold() == provider.casefold())
            and (among is None or change.provider in among)
            and (model is None or model.casefold() in (change.model.casefold(), change.offer.casefold()))
        ]
        return found if most is None else found[-most:] if most else []

    def _lines(self) -> Iterator[PriceChange]:
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n") and (change := _read(line)) is not None:
                        yield change
        except FileNotFoundError:
            return
        except OSError as error:
            raise SetupError(f"{self._path} cannot be read: {error.strerror}.") from error

    def _open(self) -> IO[bytes]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")

    def _catch_up(self, file: IO[bytes]) -> bytes:
        """Read what was written since. Returns what stands behind the last line break."""
        status = os.fstat(file.fileno())
        if (status.st_ino, True) != (self._inode, status.st_size >= self._num_read):
            self._inode, self._num_read, self._last = status.st_ino, 0, {}
        file.seek(self._num_read)
        lines, separator, rest = file.read().rpartition(b"\n")
        for line in lines.split(b"\n") if separator else ():
            if (change := _read(line)) is not None:
                self._last[change.key] = (change.new, change.source)
        self._num_read += len(lines) + len(separator)
        return rest

    def _changes(self, quotes: Iterable[Quote], at: datetime) -> list[PriceChange]:
        firsts: dict[_Key, Quote] = {}
        for quote in quotes:
            firsts.setdefault(quote.key, quote)
        changes = []
        for key, quote in firsts.items():
            old, source = self._last.get(key, (None, None))
            # Until a provider is heard again, its defaults are no news of it.
            is_older = quote.source == "offline" and source == "live"
            if old != quote.price and not is_older:
                changes.append(_change(quote, old, at))
        return changes


def _change(quote: Quote, old: Price | None, at: datetime) -> PriceChange:
    return PriceChange(
        at=at,
        provider=quote.provider,
        model=quote.model,
        offer=quote.offer,
        via=quote.via,
        old=old,
        new=quote.price,
        source=quote.source,
    )


def _read(line: bytes) -> PriceChange | None:
    try:
        return msgspec.json.decode(line, type=PriceChange)
    except msgspec.MsgspecError:
        return None
