"""Where keys, budgets and usage are kept, and where limits are counted, as the settings say: the section `[store]`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from msgspec import Struct

from hodios.errors import ConfigError

LEAST_ATTEMPTS_DAYS = 31
"""What a journal may still tell has to be younger: it would be charged once more."""
LEAST_ACCOUNTS_DAYS = 31
"""The present month began no longer ago."""
MOST_DAYS = 36500
_SERVERS = ("postgresql", "postgres")
_COUNTERS = ("redis", "rediss", "unix")


class KeepDays(Struct, frozen=True, kw_only=True):
    """For how many days something is kept; None: for good."""

    contents: int | None = None
    """No longer than the requests that they belong to."""
    requests: int | None = None
    attempts: int | None = None
    sums: int | None = None
    accounts: int | None = None
    """What was spent in days, weeks and months."""


def url(value: object) -> str:
    """`sqlite:///PATH`, or a URL as PostgreSQL's own programs read it. Raises ValueError."""
    if not isinstance(value, str) or not all("!" <= c <= "~" for c in value):
        raise ValueError
    parts = urlsplit(value)
    is_file = parts.scheme == "sqlite" and not (parts.netloc or parts.query or parts.fragment)
    if not (is_file or parts.scheme in _SERVERS) or len(parts.path) < 2:
        raise ValueError
    return value


def limits_url(value: object) -> str:
    """Of a Valkey or Redis. Raises ValueError."""
    if not isinstance(value, str) or not all("!" <= c <= "~" for c in value):
        raise ValueError
    parts = urlsplit(value)
    if parts.scheme == "unix":
        is_place = len(parts.path) > 1 and "/" not in parts.netloc.rpartition("@")[2]
    else:
        number = parts.path.removeprefix("/")
        is_place = bool(parts.hostname) and parts.port != 0 and (not number or number.isdecimal())
    if parts.scheme not in _COUNTERS or not is_place or parts.fragment:
        raise ValueError
    return value


def is_shared(url: str | None) -> bool:
    """Whether several processes may work on the store at `url`; None is the default."""
    return url is not None and urlsplit(url).scheme in _SERVERS


def check_workers(num_workers: int, store_url: str | None, limits_url: str | None) -> None:
    """Raises ConfigError where so many API processes would not have in common what they must."""
    if num_workers == 1:
        return
    if not is_shared(store_url):
        raise ConfigError(
            f"workers = {num_workers} needs a PostgreSQL database, because SQLite serves one process. "
            "Set HODIOS_STORE_URL=postgresql://USER:PASSWORD@HOST/DATABASE, or workers to 1."
        )
    if limits_url is None:
        raise ConfigError(
            f"workers = {num_workers} needs a Valkey or Redis, in which the processes count limits together. "
            "Set HODIOS_LIMITS_URL=redis://HOST:6379, or workers to 1."
        )


def default_url(home: Path) -> str:
    return f"sqlite:///{quote(str(home / 'hodios.db'))}"


def sqlite_path(url: str) -> Path | None:
    """The file that a URL means; None where it means a server."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)[1:]) if parts.scheme == "sqlite" else None


def shown(url: str) -> str:
    """For people to read: without a password, wherever in the URL it stands."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.username}@{host}" if parts.username else host
    return f"{parts.scheme}://{place}{parts.path}"
