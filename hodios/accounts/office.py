"""Accounts and the store behind them, put together as the settings say and kept at work."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from hodios import secret_file
from hodios.accounts.accounts import Accounts, Store, keeping
from hodios.accounts.content_queue import ContentQueue
from hodios.accounts.housekeeper import Housekeeper
from hodios.accounts.limits import Limiter, LocalLimiter
from hodios.errors import NotYetReady, SetupError
from hodios.store import revision
from hodios.store.contents import Contents
from hodios.store.database import Database
from hodios.store.failures import StoreUnavailable
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.ledger import Ledger
from hodios.store.projects import Projects
from hodios.store.versioned import version
from hodios.store_settings import KeepDays, shown

SECRET = "keys.secret"
"""The file under HODIOS_HOME with the secret that digests of keys are made with."""


class Office(Struct, frozen=True):
    """All that serving needs of accounts."""

    accounts: Accounts
    database: Database
    keys: Keys
    projects: Projects
    contents: ContentQueue
    housekeeper: Housekeeper
    secret: bytes


@contextlib.asynccontextmanager
async def opened(
    home: Path,
    url: str,
    *,
    keep: KeepDays | None = None,
    limits_url: str | None = None,
    keys_secret: str | None = None,
    num_processes: int = 1,
) -> AsyncGenerator[Office, None]:
    """At work within the block. SQLite's tables are brought up to date; of PostgreSQL's that is asked of the operator,
    since other replicas may not have the new version yet. `num_processes`: of this server. Raises SetupError."""
    secret = obtain_secret(home, keys_secret)
    database = Database.open(url)
    try:
        await ready_tables(database, url)
        keys, projects = Keys(database), Projects(database)
        store = Store(
            keys=keys,
            projects=projects,
            version=partial(version, database),
            leases=Leases(database),
            ledger=Ledger(database),
        )
        contents = ContentQueue(Contents(database))
        async with (
            _limiter(limits_url, num_processes) as limiter,
            keeping(home, store, limiter, secret) as accounts,
            contents.keeping(),
        ):
            housekeeper = Housekeeper(database, accounts.process, keep or KeepDays())
            async with housekeeper.keeping():
                yield Office(accounts, database, keys, projects, contents, housekeeper, secret)
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _limiter(url: str | None, num_processes: int) -> AsyncGenerator[Limiter, None]:
    if url is None:
        yield LocalLimiter(time.monotonic_ns)
        return
    # Imported here because most have no Redis, and its client is large.
    from hodios.accounts.shared_limits import sharing

    async with sharing(url, time.monotonic_ns, num_processes) as limiter:
        yield limiter


def obtain_secret(home: Path, named: str | None = None) -> bytes:
    """The one that digests of keys are made with: the one that the settings have `named`, else the one kept at `home`,
    else a new one. Raises SetupError."""
    if named is not None:
        return named.encode()
    path = home / SECRET
    try:
        return secret_file.obtain(path, lambda: secrets.token_hex(32)).text.encode()
    except OSError as error:
        raise SetupError(f"The secret of the keys cannot be kept in {path}: {error.strerror}.") from error


async def ready_tables(database: Database, url: str) -> None:
    """SQLite's are brought up to date, PostgreSQL's are looked at. Raises SetupError: NotYetReady where PostgreSQL does
    not answer, which may be starting itself."""
    try:
        if await revision.current(database) == revision.NEEDED:
            return
        if urlsplit(url).scheme != "sqlite":
            raise SetupError(f"The tables in {shown(url)} are not those of this version. Run: hodios db upgrade")
        # Imported here because it is large, and needed once: by the first start, or that of a new version.
        from hodios.store import migration

        await migration.upgrade(database)
    except StoreUnavailable as error:
        kind = SetupError if database.is_sqlite else NotYetReady
        raise kind(f"{shown(url)} cannot be used: {error}. Start it, or set HODIOS_STORE_URL.") from error
