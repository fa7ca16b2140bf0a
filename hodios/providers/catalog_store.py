"""The catalog that counts at this moment: read anew when its files change, and kept where they no longer make sense.

Readers take `current` and hold on to it; nothing that they hold ever changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from hodios.config import Config, key_in
from hodios.errors import ConfigError
from hodios.providers.catalog import Catalog, KeyOf, make_catalog, read_rows, row_files, shipped_folder
from hodios.providers.catalog_rows import Offer

_Stamp = tuple[tuple[str, int, int], ...]
_log = logging.getLogger(__name__)


class CatalogStore:
    """Safe to use from several threads. Raises ConfigError where even the rows that come with Hodios are bad."""

    def __init__(self, config: Config, key_of: KeyOf = key_in, *, folders: Sequence[Path] | None = None) -> None:
        """`folders`: those of the rows, instead of the one that comes with Hodios and `HODIOS_HOME/catalog`."""
        self._settings = config.providers
        self._taken = frozenset(
            (*(remote.name for remote in config.remote), *(launch.name for launch in config.launch))
        )
        self._key_of = key_of
        self._folders = (shipped_folder(), config.home / "catalog") if folders is None else tuple(folders)
        self._lock = threading.Lock()
        self._live: dict[str, tuple[Offer, ...]] = {}
        self._problem = ""
        self._stamp = _stamp(self._folders)
        try:
            self._rows = read_rows(self._folders)
        except ConfigError as error:
            self._rows = read_rows(self._folders[:1])
            self._complain(error)
        self._current = self._made(1)

    @property
    def current(self) -> Catalog:
        return self._current

    @property
    def problem(self) -> str:
        """Why the files of the moment are not what counts; "" where they are."""
        return self._problem

    def reload(self) -> bool:
        """Read all files, whether they changed or not. False, and `problem`, where they make no sense."""
        with self._lock:
            stamp = _stamp(self._folders)
            try:
                rows = read_rows(self._folders)
            except ConfigError as error:
                self._stamp = stamp
                self._complain(error)
                return False
            self._stamp, self._problem = stamp, ""
            if rows != self._rows:
                self._rows = rows
                self._swap()
            return True

    def reload_if_changed(self) -> bool:
        """Whether a file has changed, and what is in them all makes sense. Looks at times and sizes only."""
        return _stamp(self._folders) != self._stamp and self.reload()

    def put_live(self, provider: str, offers: Sequence[Offer]) -> None:
        """All that a provider lists at the moment. What it no longer lists is shown as not available."""
        with self._lock:
            if self._live.get(provider) != tuple(offers):
                self._live[provider] = tuple(offers)
                self._swap()

    def _swap(self) -> None:
        self._current = self._made(self._current.version + 1)

    def _made(self, version: int) -> Catalog:
        return make_catalog(
            self._rows,
            self._settings,
            MappingProxyType(self._live),
            self._key_of,
            version=version,
            taken=self._taken,
        )

    def _complain(self, error: ConfigError) -> None:
        self._problem = str(error)
        _log.error("the catalog is kept as it was: %s", error)


def _stamp(folders: Sequence[Path]) -> _Stamp:
    """Changes with every change of a file. A file that goes while it is looked at counts as gone."""
    found = []
    for path in row_files(folders):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)
