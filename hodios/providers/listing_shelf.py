"""What providers listed last, kept in HODIOS_HOME/cache/listings: one file for each, so that a start needs no provider.

Whatever cannot be read counts as not kept. All of it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from hodios import __version__
from hodios.providers.catalog_rows import Offer, ProviderRow
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.listing_entries import Tags
from hodios.providers.listings import Reading


class Kept(Struct, frozen=True, kw_only=True):
    """One provider's list."""

    listing: str
    url: str
    version: str = __version__
    """Of the program that read it."""
    tags: Tags = Tags()
    read_at: datetime
    """When the provider last said that this is what it lists."""
    reading: Reading

    def offers(self) -> list[Offer]:
        """With the day when each was last listed."""
        day = self.read_at.date()
        return [structs.replace(offer, as_of=offer.as_of or day) for offer in self.reading.offers]


class ListingShelf:
    """Safe to use from several threads and processes; the last one who puts something counts."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "listings"

    def get(self, row: ProviderRow) -> Kept | None:
        """None also where the provider is another one by now."""
        try:
            kept = msgspec.json.decode(self._path(row).read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError):
            return None
        if (kept.listing, kept.url) != (row.listing, row.base_url):
            return None
        # Another version might read more of the same answer, so it is asked for whole.
        return kept if kept.version == __version__ else structs.replace(kept, tags=Tags())

    def lay_out(self, store: CatalogStore) -> None:
        """Have the catalog serve what was listed last, of all who are in use."""
        catalog = store.current
        for row in catalog.providers.values():
            if catalog.is_active(row.name) and (kept := self.get(row)) is not None:
                store.put_live(row.name, kept.offers())

    def put(self, row: ProviderRow, kept: Kept) -> None:
        """Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file, part = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(file, "wb") as output:
                output.write(msgspec.json.encode(kept))
            os.replace(part, self._path(row))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _path(self, row: ProviderRow) -> Path:
        return self._folder / f"{row.name}.json"
